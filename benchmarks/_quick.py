"""What the model `brain` is worth: on scans made from unseen label maps, on real scans, and in time.

    python benchmarks/brain.py synthetic   # scans of the two label maps kept out of training, per structure
    python benchmarks/brain.py real        # two contrasts of one head; the MNI average; four tumour patients
    python benchmarks/brain.py robustness  # one real scan with thicker slices and other intensities
    python benchmarks/brain.py faults      # what is no brain MR is flagged, real scans are not
    python benchmarks/brain.py time        # `medseg predict chris_t1.nii.gz` from a cold start

Each part prints one line of JSON and exits with 1 where a target is missed. That 48 ways of storing a scan
give one answer is shown by `orientation.py --model brain --scan chris_t1.nii.gz`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

import medseg
from medseg.augment.spec import SynthesisSpec
from medseg.cards import load_card, load_recipe
from medseg.io import read_labels
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.training.split import make_split
from medseg.volume import Grid, Volume
from medseg.workflows.segment import Segmentation, Segmenter
from medseg.workflows.synthetic import SyntheticCases

Labels = NDArray[np.integer[Any]]

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SCANS_OF_A_MAP = 1
CLINICAL_MM = (1.0, 1.0, 5.0)

SYNTHETIC_TARGETS = {
    "all structures": 0.80,
    "cerebral white matter": 0.85,
    "cerebral cortex": 0.85,
    "thalamus": 0.85,
    "putamen": 0.85,
    "caudate": 0.85,
    "brain-stem": 0.85,
    "hippocampus": 0.75,
}
BOTH = ("left", "right")
GREY = ("cerebral cortex", "cerebellum cortex", "thalamus", "caudate", "putamen", "hippocampus", "amygdala",
        "accumbens area")  # fmt: skip
WHITE = ("cerebral white matter", "cerebellum white matter", "pallidum", "ventral DC", "brain-stem")
VENTRICLES = ("lateral ventricle", "inferior lateral ventricle", "3rd ventricle", "4th ventricle")
"""Tissues as the segmentation of T1 scans counts them: pallidum and brain-stem are white."""

MNI_TARGETS = {"grey": 0.80, "white": 0.85}
BRAIN_MASK_TARGET = 0.93
REGISTERED_FROM_MM = 1.5
"""Two scans of a head whose headers disagree by more are registered first."""

SLICES_MM = (1.0, 2.0, 3.0, 5.0)
CHANGE_TARGET_PERCENT = 10.0
LARGE_ML = 5.0
TIME_TARGET_S = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", default="brain", help="a model file or a packaged model")
    args = parser.parse_args()
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    began = time.perf_counter()
    found = PARTS[args.part](args.model, data)
    model = medseg.load(args.model).models[0]
    line = {
        "benchmark": f"brain {args.part}",
        "model": {"name": model.spec.name, "sha256": model.sha256},
        "versions": {n: version(n) for n in ("medseg", "openvino", "numpy", "SimpleITK", "nilearn")},
        **found,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


# Scans made from unseen label maps.


def synthetic(model: str, data: Path) -> dict[str, Any]:
    """Dice at 1 mm on scans of the maps that the model's own split kept out."""
    card, recipe = load_card("brain"), load_recipe("brain")
    segmenter = medseg.load(model)
    training = segmenter.models[0].spec.training
    files = {case.case_id: case for case in card.read(data / "brain_labels").cases}
    split = make_split(
        {name: case.group for name, case in files.items()},
        folds=training["folds"],
        fold=training["fold"],
        selection_share=recipe.training.selection_share,
        seed=training["seed"],
    )
    assert recipe.synthesis is not None
    kinds: dict[str, tuple[SynthesisSpec, tuple[float, float, float]]] = {
        f"{contrast}, {'1 mm' if mm == (1.0, 1.0, 1.0) else '5 mm slices'}": (
            replace(recipe.synthesis, realistic=share),
            mm,
        )
        for mm in ((1.0, 1.0, 1.0), CLINICAL_MM)
        for contrast, share in (("orders of T1, T2, FLAIR, PD", 1.0), ("any order of tissues", 0.0))
    }
    scores = {}
    for kind, (spec, acquired_mm) in kinds.items():
        rows = []
        for name in split.validation:
            for seed in range(SCANS_OF_A_MAP):
                cases = SyntheticCases(card, spec, seed=1000 + seed, acquired_mm=acquired_mm)
                volume, reference = cases.read(files[name])
                rows.append(dices(segmenter(volume).labels.array, reference.array, segmenter))
        scores[kind] = mean_rows(rows)
    high, clinical = (
        mean_rows([row for kind, row in scores.items() if kind.endswith(end)])
        for end in ("1 mm", "5 mm slices")
    )
    return {
        "maps_held_out": len(split.validation),
        "scans": len(split.validation) * SCANS_OF_A_MAP * len(kinds),
        "dice": rounded(summary(high) | high),
        "dice_5mm_slices": rounded(summary(clinical) | clinical),
        "dice_by_kind": {kind: rounded(summary(row)) for kind, row in scores.items()},
        "targets": SYNTHETIC_TARGETS,
        "pass": all(summary(high)[name] >= target for name, target in SYNTHETIC_TARGETS.items()),
    }


def dices(predicted: Labels, reference: Labels, segmenter: Segmenter) -> dict[str, float]:
    """Dice of every structure."""
    counts = joint_counts(reference, predicted, segmenter.structures)
    return {name: dice(count) for name, count in counts.items()}


def summary(row: Mapping[str, float]) -> dict[str, float]:
    """The mean of all structures, and of the two sides of those that have a target."""
    sides = {
        name: float(np.mean([row[n] for n in row if n.removeprefix("left ").removeprefix("right ") == name]))
        for name in SYNTHETIC_TARGETS
        if name != "all structures"
    }
    return {"all structures": float(np.nanmean(list(row.values()))), **sides}


# Real scans.


def real(model: str, data: Path) -> dict[str, Any]:
    """Agreement of two contrasts, with tissue maps of an average, and with brain masks."""
    segmenter = medseg.load(model)
    contrasts = two_contrasts(segmenter, data / "scans")
    mni = average_head(segmenter)
    masks = {
        folder.name: brain_masks(segmenter, folder)
        for folder in sorted((data / "brats2013").iterdir())
        if folder.is_dir()
    }
    return {
        "chris_t1_and_chris_PD": contrasts,
        "mni152_against_its_tissue_maps": mni,
        "brats_brain_mask_outside_tumour": masks,
        "targets": {"mni": MNI_TARGETS, "brain mask, worst image of each patient": BRAIN_MASK_TARGET},
        "pass": all(mni[name] >= target for name, target in MNI_TARGETS.items())
        and all(min(found.values()) >= BRAIN_MASK_TARGET for found in masks.values()),
    }


def two_contrasts(segmenter: Segmenter, folder: Path) -> dict[str, Any]:
    """Dice between the tissues found in two scans of one head, on the grid of the coarser."""
    t1, pd = (medseg.read(folder / name) for name in ("chris_t1.nii.gz", "chris_PD.nii.gz"))
    fine, coarse = segmenter(t1), segmenter(pd)
    move, distance_mm = registration(itk(pd.array[0], pd.grid), itk(t1.array[0], t1.grid))
    if distance_mm <= REGISTERED_FROM_MM:
        move = sitk.Transform(3, sitk.sitkIdentity)
    moved = sitk.Resample(
        itk(fine.labels.array, t1.grid),
        itk(coarse.labels.array, pd.grid),
        move,
        sitk.sitkNearestNeighbor,
        0,
    )
    there, here = sitk.GetArrayFromImage(moved).transpose(), coarse.labels.array
    tissues = {"grey": GREY, "white": WHITE, "ventricles": VENTRICLES, "all": None}
    return {
        "headers_disagree_by_mm": round(distance_mm, 2),
        "registered": distance_mm > REGISTERED_FROM_MM,
        **{
            name: round(overlap(mask(there, segmenter, parts), mask(here, segmenter, parts)), 4)
            for name, parts in tissues.items()
        },
    }


def registration(fixed: sitk.Image, moving: sitk.Image) -> tuple[sitk.Transform, float]:
    """A rigid registration by mutual information, and how far it moves a point of the head, in mm."""
    centre = [n / 2 for n in fixed.GetSize()]
    middle = fixed.TransformContinuousIndexToPhysicalPoint(centre)
    start = sitk.Euler3DTransform(middle)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, 1)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.001, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(start)
    move = method.Execute(fixed, moving)
    reach = [middle, *([m + 60.0 * (a == b) for a, m in enumerate(middle)] for b in range(3))]
    return move, max(float(np.linalg.norm(np.subtract(move.TransformPoint(p), p))) for p in reach)


def average_head(segmenter: Segmenter) -> dict[str, float]:
    """Dice between the tissues found in the MNI152 average and its own tissue maps."""
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=1)
    grey, white = (
        np.asarray(load(resolution=1).dataobj)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    image = np.asarray(template.dataobj, np.float32)
    found = segmenter(Volume(image[None], Grid(image.shape, template.affine), segmenter.channels))
    rest = 1 - grey - white
    tissues = {
        "grey": (GREY, (grey > white) & (grey > rest)),
        "white": (WHITE, (white >= grey) & (white > rest)),
    }
    return {
        name: round(overlap(mask(found.labels.array, segmenter, parts), reference), 4)
        for name, (parts, reference) in tissues.items()
    }


def brain_masks(segmenter: Segmenter, folder: Path) -> dict[str, float]:
    """Dice of all structures with the brain, outside the tumour, for each image of a patient."""
    tumour = read_labels(folder / "OTMultiClass.nii.gz").array > 0
    brain = read_labels(folder / "brainmask.nii.gz").array > 0
    found = {}
    for path in sorted(folder.glob("*_subtrMeanDivStd.nii.gz")):
        labelled = segmenter(medseg.read(path)).labels.array > 0
        found[path.name.split("_")[0]] = round(overlap(labelled & ~tumour, brain & ~tumour), 4)
    return found


def mask(labels: Labels, segmenter: Segmenter, parts: Sequence[str] | None) -> NDArray[np.bool_]:
    """Where a tissue is; None is every structure."""
    if parts is None:
        return labels > 0
    named = {s.name: s.value for s in segmenter.structures}
    candidates = [name for part in parts for name in (part, *(f"{side} {part}" for side in BOTH))]
    return np.isin(labels, [named[name] for name in candidates if name in named])


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * int((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


def itk(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """An image (I, J, K) on its grid as SimpleITK sees it, in LPS millimetres."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()).astype(np.float32))
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((lps @ grid.affine[:3, :3] / np.array(grid.spacing_mm)).ravel().tolist())
    image.SetOrigin((lps @ grid.affine[:3, 3]).tolist())
    return image


# One scan, changed.


def robustness(model: str, data: Path) -> dict[str, Any]:
    """By how much volumes change with slice thickness and intensities."""
    segmenter = medseg.load(model)
    scan = medseg.read(data / "scans" / "chris_t1.nii.gz")
    image = scan.array[0].astype(np.float32)
    base = segmenter(scan)
    changed: dict[str, Callable[[], Volume]] = {
        **{
            f"{mm:g} mm slices along {axis}": partial(thick, scan, mm, n)
            for n, axis in enumerate("xyz")
            for mm in SLICES_MM
        },
        "inverted": lambda: like(scan, image.max() - image),
        "inverted within the head": lambda: like(
            scan, np.where(image > 0.1 * image.mean(), image.max() - image, 0)
        ),
        "times 1000": lambda: like(scan, image * 1000),
        "plus 1000": lambda: like(scan, image + 1000),
        "minus 500": lambda: like(scan, image - 500),
    }
    found = {name: change(base, segmenter(make())) for name, make in changed.items()}
    judged = [name for name in found if "inverted" not in name and "5 mm" not in name]
    worst = max(found[name]["median_percent"] for name in judged)
    return {
        "scan": "chris_t1",
        "volume_change": found,
        "worst_median_percent_to_3mm": worst,
        "targets": {"worst_median_percent_to_3mm": CHANGE_TARGET_PERCENT},
        "pass": worst <= CHANGE_TARGET_PERCENT,
    }


def like(scan: Volume, image: NDArray[np.float32]) -> Volume:
    return Volume(np.asarray(image, np.float32)[None], scan.grid, scan.channels)


def thick(scan: Volume, mm: float, axis: int) -> Volume:
    """Slices as thick as that, each the average of what it covers."""
    spacing = scan.grid.spacing_mm[axis]
    edges = np.arange(0, scan.grid.shape[axis] * spacing + 1e-6, mm) / spacing
    image = np.moveaxis(scan.array[0].astype(np.float64), axis, 0)
    total = np.concatenate([np.zeros_like(image[:1]), np.cumsum(image, axis=0)])
    whole = edges.astype(int)
    at = [total[n] + (e - n) * (image[n] if n < len(image) else 0) for n, e in zip(whole, edges, strict=True)]
    slices = np.diff(np.stack(at), axis=0) / (edges[1] - edges[0])
    affine = scan.grid.affine.copy()
    affine[:3, axis] *= edges[1]
    affine[:3, 3] += scan.grid.affine[:3, axis] * (edges[1] / 2 - 0.5)
    thin = np.moveaxis(slices, 0, axis).astype(np.float32)
    return Volume(thin[None], Grid(thin.shape, affine), scan.channels)


def change(base: Segmentation, found: Segmentation) -> dict[str, Any]:
    """Change of the structures' volumes, in percent: the median, and that of large and small structures."""
    before, after = base.volumes_ml(), found.volumes_ml()
    percent = {n: 100 * abs(after[n] - v) / v for n, v in before.items() if v > 0}
    groups = {
        "median_percent": list(percent.values()),
        "median_percent_large": [p for n, p in percent.items() if before[n] >= LARGE_ML],
        "median_percent_small": [p for n, p in percent.items() if before[n] < LARGE_ML],
    }
    worst = max(percent, key=percent.__getitem__)
    return {name: round(statistics.median(values), 1) for name, values in groups.items()} | {
        "worst": {worst: round(percent[worst], 1)},
        "flag": found.quality.flag,
    }


# What is no brain MR.


def faults(model: str, data: Path) -> dict[str, Any]:
    """Flags and reasons for scans that are no brain MR, and for some that are."""
    segmenter = medseg.load(model)
    scan = medseg.read(data / "scans" / "chris_t1.nii.gz")
    noise = np.random.default_rng(0).normal(100, 20, (96, 96, 96)).astype(np.float32)
    hippocampus = sorted((data / "hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))[0]
    doubtful: dict[str, Volume] = {
        "CT of a chest": medseg.read(data / "scans" / "ct_thorax_3mm.nii.gz"),
        "crop around a hippocampus": medseg.read(hippocampus),
        "noise": Volume(noise[None], Grid(noise.shape, np.diag([2.0, 2.0, 2.0, 1.0])), segmenter.channels),
        "upper half of a head": upper_half(scan),
    }
    good = {name: medseg.read(data / "scans" / f"{name}.nii.gz") for name in ("chris_t1", "chris_PD")}
    found = {name: verdict(segmenter(v)) for name, v in {**doubtful, **good}.items()}
    expected = dict.fromkeys(doubtful, "doubtful") | dict.fromkeys(good, "ok")
    return {
        "verdicts": found,
        "expected": expected,
        "pass": all(found[name]["flag"] == flag for name, flag in expected.items()),
    }


def upper_half(scan: Volume) -> Volume:
    start = scan.grid.shape[2] * 6 // 10
    affine = scan.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * start
    part = scan.array[..., start:]
    return Volume(part, Grid(part.shape[1:], affine), scan.channels)


def verdict(found: Segmentation) -> dict[str, Any]:
    return {**found.quality.content(), "warnings": list(found.warnings)}


# Time.


def cold_start(model: str, data: Path) -> dict[str, Any]:
    """Wall time and peak memory of the command, a new process each time."""
    scan = data / "scans" / "chris_t1.nii.gz"
    medseg_command = [sys.executable, "-c", "from medseg.cli.main import main; main()"]
    command = [*medseg_command, "predict", str(scan), "-m", model]
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "labels.nii.gz"
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([*command, "-o", str(target), "--overwrite", "-q"], check=True)
            seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    median = statistics.median(seconds)
    return {
        "command": "medseg predict chris_t1.nii.gz",
        "processors": os.cpu_count(),
        "wall_s": [round(s, 1) for s in seconds],
        "median_s": round(median, 1),
        "peak_gib": round(peak, 2),
        "targets": {"median_s": TIME_TARGET_S},
        "pass": median < TIME_TARGET_S,
    }


def mean_rows(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rows = list(rows)
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in row.items()}


PARTS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "synthetic": synthetic,
    "real": real,
    "robustness": robustness,
    "faults": faults,
    "time": cold_start,
}


if __name__ == "__main__":
    main()
