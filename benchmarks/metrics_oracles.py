"""Every metric of every structure of real label pairs, against the libraries that define it.

Run: `python benchmarks/metrics_oracles.py [--data FOLDER] [--pairs body,...]`. Needs the extra
`bench`. Prints one line of JSON: versions, the largest deviation of each metric from each library
beside its tolerance, the number of comparisons, seconds; exits 1 when a tolerance is exceeded.

Reference and prediction are read by nibabel and handed to each library as boolean masks cut to
the box of the two with one voxel of background around it. medseg sees the whole label maps.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import evaluate_case
from medseg.metrics.cohort import bootstrap_interval

DATA = Path(os.environ.get("MEDSEG_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
PAIRS = ("body", "spine_semantic", "spine_matched_instance")
TAU_MM = 2.345
TIED_TAU_MM = 3.0
SEED = 3
RANDOM_PAIRS = 200

TOLERANCES = {
    ("dice", "surface-distance"): 1e-12,
    ("dice", "MedPy"): 1e-12,
    ("dice", "panoptica"): 1e-12,
    ("dice", "monai"): 1e-6,
    ("jaccard", "MedPy"): 1e-12,
    ("jaccard", "panoptica"): 1e-12,
    ("jaccard", "monai"): 1e-6,
    ("recall", "MedPy"): 1e-12,
    ("recall", "monai"): 1e-6,
    ("precision", "MedPy"): 1e-12,
    ("precision", "monai"): 1e-6,
    ("rvd_percent", "MedPy"): 1e-10,
    ("rvd_percent", "panoptica"): 1e-10,
    ("volume_ref_relative", "nibabel"): 1e-6,
    ("volume_pred_relative", "nibabel"): 1e-6,
    ("surfel hd95_mm", "surface-distance"): 1e-9,
    ("surfel hd100_mm", "surface-distance"): 1e-9,
    ("surfel assd_mm", "surface-distance"): 1e-9,
    ("surfel nsd", "surface-distance"): 1e-9,
    ("surfel nsd tied", "surface-distance"): 1e-9,
    ("surfel nsd", "monai"): 1e-4,
    ("voxel hd100_mm", "MedPy"): 1e-9,
    ("voxel hd100_mm", "panoptica"): 1e-9,
    ("voxel hd100_mm", "monai"): 1e-5,
    ("voxel hd95_mm", "monai"): 1e-5,
    ("voxel hd95_pooled_mm", "MedPy"): 1e-9,
    ("voxel hd95_pooled_mm", "panoptica"): 1e-9,
    ("voxel assd_mm", "MedPy"): 1e-9,
    ("voxel assd_mm", "monai"): 1e-5,
    ("voxel masd_mm", "panoptica"): 1e-9,
    ("dice", "seg_metrics"): 1e-12,
    ("jaccard", "seg_metrics"): 1e-12,
    ("recall", "seg_metrics"): 1e-12,
    ("precision", "seg_metrics"): 1e-12,
    ("volume_similarity", "seg_metrics"): 1e-12,
    ("dice", "SimpleITK"): 1e-12,
    ("jaccard", "SimpleITK"): 1e-12,
    ("volume_similarity", "SimpleITK"): 1e-12,
    ("bootstrap ends, relative to the interval", "scipy"): 0.1,
}
"""Largest deviation allowed, absolute in the metric's unit; float32 libraries get what they can hold."""


@dataclass
class Tally:
    """Largest deviation and number of comparisons of every metric and library."""

    largest: dict[tuple[str, str], float] = field(default_factory=dict)
    count: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    where: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, metric: str, library: str, ours: float | None, theirs: float, what: str) -> None:
        key = (metric, library)
        gap = deviation(math.nan if ours is None else ours, float(theirs))
        if gap >= self.largest.get(key, 0.0):
            self.largest[key], self.where[key] = gap, what
        self.count[key] = self.count.get(key, 0) + 1

    def failures(self) -> list[str]:
        return [
            f"{metric} against {library}: {gap:.3g} > {TOLERANCES[metric, library]:.3g} "
            f"({self.where[metric, library]})"
            for (metric, library), gap in self.largest.items()
            if not gap <= TOLERANCES[metric, library]
        ]


def deviation(a: float, b: float) -> float:
    """Absolute difference; 0 when both are NaN or the same infinity, infinite when only one is."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) if math.isfinite(a) and math.isfinite(b) else math.inf


def read(path: Path) -> LabelMap:
    image = nib.load(path)
    return LabelMap(np.asanyarray(image.dataobj), Grid(image.shape, image.affine))


def structures_of(*maps: LabelMap) -> StructureSet:
    values = sorted(set().union(*(np.unique(m.array).tolist() for m in maps)) - {0})
    return from_labels({value: str(value) for value in values})


def cut(reference: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks in the box around them, with one voxel of background on every side."""
    either = np.argwhere(reference | predicted)
    if not len(either):
        return reference, predicted
    box = tuple(slice(a, b + 1) for a, b in zip(either.min(0), either.max(0), strict=True))
    return np.pad(reference[box], 1), np.pad(predicted[box], 1)


def surface_distance_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """surface-distance 0.1; the two names NumPy 2 removed are given back to it."""
    vars(np).update(Inf=np.inf, NaN=np.nan)
    import surface_distance as sd

    d = sd.compute_surface_distances(r, p, spacing)
    lists = [
        (d["distances_gt_to_pred"], d["surfel_areas_gt"]),
        (d["distances_pred_to_gt"], d["surfel_areas_pred"]),
    ]
    area = sum(float(w.sum()) for _, w in lists)
    empty = not r.any() and not p.any()
    return {
        "dice": sd.compute_dice_coefficient(r, p),
        "surfel hd95_mm": math.nan if empty else sd.compute_robust_hausdorff(d, 95),
        "surfel hd100_mm": math.nan if empty else sd.compute_robust_hausdorff(d, 100),
        "surfel assd_mm": sum(float((mm * w).sum()) for mm, w in lists) / area if area else math.nan,
        "surfel nsd": sd.compute_surface_dice_at_tolerance(d, TAU_MM),
        "surfel nsd tied": sd.compute_surface_dice_at_tolerance(d, TIED_TAU_MM),
    }


def medpy_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    from medpy.metric import binary

    return {
        "dice": binary.dc(p, r),
        "jaccard": binary.jc(p, r),
        "recall": binary.recall(p, r),
        "precision": binary.precision(p, r),
        "rvd_percent": 100 * binary.ravd(p, r),
        "voxel hd100_mm": binary.hd(p, r, spacing),
        "voxel hd95_pooled_mm": binary.hd95(p, r, spacing),
        "voxel assd_mm": binary.assd(p, r, spacing),
    }


def panoptica_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    from panoptica.metrics import assd, dice, hausdorff_distance, iou, relative_volume_difference

    return {
        "dice": dice._compute_dice_coefficient(r, p),
        "jaccard": iou._compute_iou(r, p),
        "rvd_percent": 100 * relative_volume_difference._compute_relative_volume_difference(r, p),
        "voxel hd100_mm": hausdorff_distance._compute_hausdorff_distance(r, p, spacing),
        "voxel hd95_pooled_mm": hausdorff_distance._compute_hausdorff_distance95(r, p, spacing),
        "voxel masd_mm": assd._average_symmetric_surface_distance(r, p, spacing),
    }


def monai_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    import torch
    from monai import metrics as mm

    y, y_pred = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (r, p))
    whole: dict[str, Any] = {"include_background": True}
    mapped = {**whole, "spacing": list(spacing)}
    matrix = mm.get_confusion_matrix(y_pred, y, include_background=True)
    symmetric = mm.compute_average_surface_distance(y_pred, y, symmetric=True, **mapped)
    nsd = mm.compute_surface_dice(y_pred, y, class_thresholds=[TAU_MM], use_subvoxels=True, **mapped)
    found = {
        "dice": mm.compute_dice(y_pred, y, **whole),
        "jaccard": mm.compute_iou(y_pred, y, **whole),
        "recall": mm.compute_confusion_matrix_metric("sensitivity", matrix),
        "precision": mm.compute_confusion_matrix_metric("precision", matrix),
        "voxel hd100_mm": mm.compute_hausdorff_distance(y_pred, y, **mapped),
        "voxel hd95_mm": mm.compute_hausdorff_distance(y_pred, y, percentile=95, **mapped),
        "voxel assd_mm": symmetric,
        "surfel nsd": nsd,
    }
    return {name: float(value) for name, value in found.items()}


def seg_metrics_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """The overlap of seg_metrics. Its distances run from one kind of border to another: no definition."""
    from seg_metrics import seg_metrics

    masks = (m.astype(np.uint8) for m in (p, r))
    names = ("dice", "jaccard", "recall", "precision", "vs")
    found = seg_metrics.computeQualityMeasures(*masks, spacing, names)
    return {**{name: found[name] for name in names[:-1]}, "volume_similarity": 1 - abs(found["vs"]) / 2}


def simpleitk_oracle(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """The overlap filter of ITK; its volume similarity is signed and twice as wide."""
    import SimpleITK

    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(SimpleITK.GetImageFromArray(m.astype(np.uint8)) for m in (p, r)))
    return {
        "dice": overlap.GetDiceCoefficient(1),
        "jaccard": overlap.GetJaccardCoefficient(1),
        "volume_similarity": 1 - abs(overlap.GetVolumeSimilarity(1)) / 2,
    }


ORACLES = {
    "surface-distance": surface_distance_oracle,
    "MedPy": medpy_oracle,
    "panoptica": panoptica_oracle,
    "monai": monai_oracle,
    "seg_metrics": seg_metrics_oracle,
    "SimpleITK": simpleitk_oracle,
}
"""What a library computes of a reference and a predicted mask."""

DEFINED_WHEN_EMPTY = ("surface-distance",)
"""Libraries whose empty rule is ours; the others raise or answer otherwise."""


def ours(reference: LabelMap, predicted: LabelMap, structures: StructureSet) -> dict[str, dict[str, Any]]:
    """medseg's numbers by structure, under the names the oracles use."""
    surfel = evaluate_case(predicted, reference, structures, tolerance_mm=TAU_MM)
    tied = evaluate_case(predicted, reference, structures, tolerance_mm=TIED_TAU_MM)
    voxel = evaluate_case(predicted, reference, structures, mode="voxel")
    out = {}
    for row in surfel.rows:
        flat = {name: row.metrics[name].value for name in ("dice", "jaccard", "recall", "precision")}
        flat |= {name: row.metrics[name].value for name in ("rvd_percent", "volume_similarity")}
        for mode, case in (("surfel", surfel), ("voxel", voxel)):
            flat |= {f"{mode} {name}": v.value for name, v in case[row.name].metrics.items()}
        flat["surfel nsd tied"] = tied[row.name].metrics["nsd"].value
        flat["volume_ref_ml"], flat["volume_pred_ml"] = row.volume_ref_ml, row.volume_pred_ml
        out[row.name] = flat
    return out


def compare(
    reference: LabelMap,
    predicted: LabelMap,
    name: str,
    tally: Tally,
    libraries: Sequence[str] = tuple(ORACLES),
) -> None:
    """Compare every structure of one pair with the libraries."""
    structures = structures_of(reference, predicted)
    start = time.perf_counter()
    evaluate_case(predicted, reference, structures, tolerance_mm=TAU_MM)
    tally.seconds[f"{name}: medseg surfel"] = time.perf_counter() - start
    numbers = ours(reference, predicted, structures)
    for s in structures:
        masks = reference.array == s.value, predicted.array == s.value
        _compare_volumes(masks, reference.grid, numbers[s.name], tally, f"{name} {s.name}")
        what = f"{name} {s.name}"
        compare_masks(*masks, reference.grid.spacing_mm, numbers[s.name], tally, what, name, libraries)


def compare_masks(
    r: np.ndarray,
    p: np.ndarray,
    spacing: tuple[float, ...],
    numbers: dict[str, Any],
    tally: Tally,
    what: str,
    group: str,
    libraries: Sequence[str],
) -> None:
    cropped = cut(r, p)
    for library in libraries:
        if not (r.any() and p.any()) and library not in DEFINED_WHEN_EMPTY:
            continue
        start = time.perf_counter()
        found = ORACLES[library](*cropped, spacing)
        key = f"{group}: {library}"
        tally.seconds[key] = tally.seconds.get(key, 0.0) + time.perf_counter() - start
        for metric, value in found.items():
            tally.add(metric, library, numbers[metric], value, what)


def _compare_volumes(
    masks: tuple[np.ndarray, np.ndarray], grid: Grid, numbers: dict[str, Any], tally: Tally, what: str
) -> None:
    for role, mask in zip(("ref", "pred"), masks, strict=True):
        theirs = nib.imagestats.mask_volume(nib.Nifti1Image(mask.astype(np.uint8), grid.affine)) / 1000
        mine = numbers[f"volume_{role}_ml"]
        gap = abs(mine - theirs) / theirs if theirs else abs(mine)
        tally.add(f"volume_{role}_relative", "nibabel", gap, 0.0, what)


def random_pairs(count: int, seed: int) -> Iterator[tuple[LabelMap, LabelMap]]:
    """Blobs and noise of odd sizes on anisotropic, turned grids, some of them empty."""
    generator = np.random.default_rng(seed)
    for n in range(count):
        shape = tuple(generator.integers(2, 12, 3).tolist())
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[generator.permutation(3)] * generator.uniform(0.3, 4.0, 3)
        noise = generator.random((2, *shape)) < generator.uniform(0.02, 0.9, (2, 1, 1, 1))
        if n % 10 == 0:
            noise[generator.integers(2)] = False
        if n % 50 == 0:
            noise[:] = False
        yield tuple(LabelMap(m.astype(np.uint8), Grid(shape, affine)) for m in noise)


def compare_random(count: int, seed: int, tally: Tally, libraries: Sequence[str] = tuple(ORACLES)) -> None:
    structures = from_labels({1: "one"})
    for n, (reference, predicted) in enumerate(random_pairs(count, seed)):
        numbers = ours(reference, predicted, structures)["one"]
        r, p = reference.array == 1, predicted.array == 1
        compare_masks(r, p, reference.grid.spacing_mm, numbers, tally, f"random {n}", "random", libraries)


def compare_bootstrap(tally: Tally) -> None:
    from scipy import stats

    for n in (10, 25, 100):
        values = np.random.default_rng(n).beta(20, 3, n)
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        for a, b in zip(bootstrap_interval(values), theirs, strict=True):
            gap = abs(a - b) / (theirs[1] - theirs[0])
            tally.add("bootstrap ends, relative to the interval", "scipy", gap, 0.0, f"n = {n}")


def report(tally: Tally) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("medseg", "numpy", "scipy", "nibabel")}
    versions |= {name: importlib.metadata.version(name) for name in ORACLES}
    failures = tally.failures()
    return {
        "benchmark": "metrics_oracles",
        "versions": versions,
        "comparisons": sum(tally.count.values()),
        "max_deviation": {
            f"{metric} | {library}": {
                "max": gap if math.isfinite(gap) else "infinite",
                "tolerance": TOLERANCES[metric, library],
                "n": tally.count[metric, library],
            }
            for (metric, library), gap in sorted(tally.largest.items())
        },
        "seconds": {name: round(s, 2) for name, s in tally.seconds.items()},
        "failures": failures,
        "pass": not failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--random", type=int, default=RANDOM_PAIRS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tally = Tally()
    compare_random(options.random, SEED, tally)
    compare_bootstrap(tally)
    for name in filter(None, options.pairs.split(",")):
        folder = options.data / "label_pairs"
        compare(read(folder / f"{name}_ref.nii.gz"), read(folder / f"{name}_pred.nii.gz"), name, tally)
    result = report(tally)
    print(json.dumps(result, allow_nan=False))
    return 0 if result["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
