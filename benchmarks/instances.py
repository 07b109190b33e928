"""Objects found one by one: networks beside components of a label map and a watershed of it.

    python benchmarks/instances.py default [--budget 20m]    the recipe phantom_instances on bodies that touch
    python benchmarks/instances.py networks [--budget 4m]    each network that finds objects, equally long
    python benchmarks/instances.py planted [--budget 10m]    a lesion of 4 voxels across in each of 20 scans
    python benchmarks/instances.py brats [--budget 20m]      enhancing tumour of BRATS 2013, both ways round
    python benchmarks/instances.py large                     256 voxels a side, 100 bodies, within 4 GiB

`default` and `networks` train on 60 made-up boxes of bodies (`medseg phantom --layout touching`) and measure
20 others: mask AP at IoU 0.1, 0.5 and 0.75 and their mean from 0.1 to 0.5, over the objects of both
structures. Components and watershed are of the label map that the same network's voxels give; their objects
have the score 1. `planted` trains `lesions_instances` on 60 boxes of lesions and tells the sensitivity at
false positives a scan; `large` predicts with the model of `default`. A training that is there is read. Each
prints one line of JSON; `default` and `large` exit with 1 where they miss their targets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from training import DEFAULT_DATA, PROGRAM, processor, toml

from medseg import metrics
from medseg.classical.instances import separated
from medseg.core.components import components
from medseg.core.specs import to_mapping
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.data.cards import Card, load_card
from medseg.data.cases import read_case
from medseg.data.layouts.monailabel import FINAL
from medseg.data.phantom import write_phantoms
from medseg.data.phantom.lesions import lesion_case
from medseg.data.phantom.touching import touching_case
from medseg.data.store import Store
from medseg.metrics import CaseDetections
from medseg.metrics.detection import FROC_RATES
from medseg.model.file import load_model
from medseg.model.spec import DETECTORS, LEAST_SCORE
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter
from medseg.training.recipe import load_recipe

TRAINED, MEASURED = 60, 20
THRESHOLDS = (0.1, 0.5, 0.75)
TARGET = 0.95
DEPTHS_MM = {"components": None, "watershed, 1 mm": 1.0, "watershed, 0.5 mm": 0.5}
RADIUS_MM = 2.0
ENHANCING, SPECK = 4, 20
"""Value of enhancing tumour in BRATS, and the voxels of a piece of it below which it is left out."""
LIMIT_GIB, EDGE, BODIES = 4.0, 256, 100
THIN = {"encoder": "resnet18", "width": 32}
"""Options of every network; the rest is the paper's, but what `THINNER` says."""
TWO_STAGES = {"hidden": 256, "convs": 2}
THINNER: dict[str, dict[str, Any]] = {
    **{name: {"depth": 2} for name in ("retinanet", "fcos", "yolo", "blendmask")},
    **dict.fromkeys(("mask_rcnn", "mask_x", "upsnet", "panoptic_fpn"), TWO_STAGES),
    "faster_rcnn": {"hidden": 256},
    "panet": {"hidden": 256},
}

Found = dict[str, list[CaseDetections]]


def main() -> None:
    options = arguments()
    options.runs.mkdir(parents=True, exist_ok=True)
    line = {
        "benchmark": f"instances {options.part}",
        "versions": {package: version(package) for package in ("medseg", "torch", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        **PARTS[options.part](options),
    }
    print(json.dumps(line))
    sys.exit(0 if line.get("pass", True) else 1)


def default(options: argparse.Namespace) -> dict[str, Any]:
    found = of_bodies("phantom_instances", "phantom_instances", options.budget or "20m", options)
    reached = found["precision"]["network"]["AP at 0.5"] >= TARGET
    return {**found, "target": TARGET, "pass": reached}


def networks(options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for name in options.names or DETECTORS:
        recipe = load_recipe("phantom_instances")
        network = replace(recipe.network, name=name, options={**THIN, **THINNER.get(name, {})})
        path = options.runs / f"bodies_{name}.toml"
        path.write_text(toml(to_mapping(replace(recipe, name=f"bodies_{name}", network=network))))
        found[name] = of_bodies(str(path), f"bodies_{name}", options.budget or "4m", options)
        print(name, json.dumps(found[name]["precision"]), file=sys.stderr)
    return {"networks": found}


def of_bodies(recipe: str, name: str, budget: str, options: argparse.Namespace) -> dict[str, Any]:
    """A training on bodies that touch, and what it finds of others."""
    data, unseen = options.runs / "touching", options.runs / "touching_unseen"
    for folder, cases, seed in ((data, TRAINED, 0), (unseen, MEASURED, 1)):
        if not (folder / "dataset.json").is_file():
            write_phantoms(folder, "touching", cases, seed)
    run = options.runs / name
    seconds = trained(recipe, data, run, budget, options, "--fold", "none")
    card = load_card("bodies")
    cases = [read_case(files, card) for files in card.read(unseen).cases]
    found, took = told(run, cases, (1, 2))
    model = load_model(run / "model.safetensors")
    return {
        "recipe": name,
        "budget": budget,
        "seconds of the training": seconds,
        "steps": model.spec.training.steps,
        "million parameters": round(sum(w.size for w in model.weights.values()) / 1e6, 2),
        "cases": {"trained": TRAINED, "measured": len(cases)},
        "objects": int(sum(len(case.reference_ml) for case in found["network"])),
        "seconds of a prediction": took,
        "precision": {way: precision(detections) for way, detections in found.items()},
    }


def planted(options: argparse.Namespace) -> dict[str, Any]:
    data, run = options.runs / "lesions", options.runs / "lesions_instances"
    if not (data / "dataset.json").is_file():
        write_phantoms(data, "lesions", TRAINED, 0)
    budget = options.budget or "10m"
    seconds = trained("lesions_instances", data, run, budget, options, "--fold", "none")
    cases = [
        lesion_case(np.random.default_rng([9, n]), lesions=1, radius_mm=RADIUS_MM) for n in range(MEASURED)
    ]
    found, took = told(run, cases, (1,))
    rates = dict(zip(map(str, FROC_RATES), metrics.froc(found["network"], least_overlap=0.1), strict=True))
    return {
        "recipe": "lesions_instances",
        "budget": budget,
        "seconds of the training": seconds,
        "steps": load_model(run / "model.safetensors").spec.training.steps,
        "cases": {"trained": TRAINED, "measured": len(cases)},
        "seconds of a prediction": took,
        "sensitivity at false positives a scan": {rate: round(value, 4) for rate, value in rates.items()},
        "cpm": round(metrics.cpm(found["network"], least_overlap=0.1), 4),
        "precision": {way: precision(detections) for way, detections in found.items()},
    }


def brats(options: argparse.Namespace) -> dict[str, Any]:
    """Enhancing tumour in voxels of 2 mm, of which a patch holds a whole one; specks are no objects."""
    data, run = options.runs / "enhancing", options.runs / "brats_objects"
    structure = Structure(1, "enhancing tumour")
    card = Card(
        "enhancing",
        "BRATS 2013",
        "monailabel",
        load_card("brats2013").channels,
        (structure,),
        "CC-BY-NC-SA 3.0",
    )
    specks = write_enhancing(options.data / "brats2013", data, structure)
    (options.runs / "enhancing.toml").write_text(toml(to_mapping(replace(card, instances="components"))))
    tumours, bodies = load_recipe("brats2013_unet3d"), load_recipe("phantom_instances")
    training = replace(bodies.training, patch=(64, 64, 64), selection_share=0.0, foreground_share=0.7)
    changed = replace(
        tumours,
        name="brats_objects",
        card="enhancing.toml",
        network=bodies.network,
        preparation=replace(tumours.preparation, spacing_mm=(2.0, 2.0, 2.0)),
        training=training,
        inference=bodies.inference,
    )
    path = options.runs / "brats_objects.toml"
    path.write_text(toml(to_mapping(changed)))
    budget, found, steps = options.budget or "20m", Found(), []
    trained(str(path), data, run, budget, options, "--folds", "2")
    card = load_card(options.runs / "enhancing.toml")
    for fold in (run / "fold_0", run / "fold_1"):
        unseen = json.loads((fold / "run.json").read_text())["split"]["validation"]
        files = [case for case in card.read(data).cases if case.case_id in unseen]
        cases = [read_case(case, card) for case in files]
        steps.append(load_model(fold / "model.safetensors").spec.training.steps)
        for way, detections in told(fold, cases, (structure.value,))[0].items():
            found.setdefault(way, []).extend(detections)
    return {
        "recipe": "brats_objects",
        "budget": budget,
        "steps": steps,
        "objects": int(sum(len(case.reference_ml) for case in found["network"])),
        "specks left out": specks,
        "precision": {way: precision(detections) for way, detections in found.items()},
    }


def write_enhancing(source: Path, target: Path, structure: Structure) -> int:
    """The enhancing tumours of BRATS as cases of their own; how many specks were left out."""
    card, specks, store = load_card("brats2013"), 0, Store(target)
    store.describe("enhancing", card.channels, StructureSet((structure,)))
    (target / FINAL).mkdir(parents=True, exist_ok=True)
    for files in card.read(source).cases:
        volume, labels = read_case(files, card)
        pieces = components(labels.array == ENHANCING)
        sizes = np.bincount(pieces.ravel())
        kept = np.flatnonzero(sizes >= SPECK)[1:]
        specks += len(sizes) - 1 - len(kept)
        store.add(files.case_id, volume)
        array = (structure.value * np.isin(pieces, kept)).astype(np.uint8)
        path = target / FINAL / f"{files.case_id}.nii.gz"
        nib.save(nib.Nifti1Image(array, labels.grid.affine), path)
    return specks


def large(options: argparse.Namespace) -> dict[str, Any]:
    scan = options.runs / "large.nii.gz"
    if not scan.is_file():
        rng, cells = np.random.default_rng(5), math.ceil(BODIES ** (1 / 3))
        edge = EDGE // cells
        image = 1 + 0.25 * rng.standard_normal((EDGE,) * 3).astype(np.float32)
        for n in range(BODIES):
            i, j, k = (edge * m for m in np.unravel_index(n, (cells,) * 3))
            box, labels = touching_case(np.random.default_rng([6, n]))
            first = labels.numbers == 1
            image[i : i + 48, j : j + 48, k : k + 48][first] = box.array[0][first]
        nib.save(nib.Nifti1Image(image, np.eye(4)), scan)
    model, out = options.runs / "phantom_instances" / "model.safetensors", options.runs / "large_seg.nii.gz"
    words = ("predict", scan, "-m", model, "-o", out, "--overwrite", "--max-memory", f"{LIMIT_GIB:g}G", "-q")
    said, seconds = [], []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([*PROGRAM, *map(str, words), "--threads", str(options.threads)], check=True)
        seconds.append(time.monotonic() - start)
        said.append(json.loads(out.with_suffix("").with_suffix(".json").read_text()))
    peak = max(one["peak_memory_bytes"] for one in said) / 2**30
    return {
        "scan": f"{EDGE}^3 voxels, {BODIES} bodies",
        "objects found": len(said[0]["instances"]),
        "seconds": round(statistics.median(seconds), 1),
        "seconds of finding objects": round(statistics.median(one["timing_s"]["objects"] for one in said), 1),
        "peak gib": round(peak, 2),
        "target": LIMIT_GIB,
        "pass": peak <= LIMIT_GIB,
    }


def told(run: Path, cases: Sequence[tuple[Volume, LabelMap]], values: Sequence[int]) -> tuple[Found, float]:
    """The objects that the network of a run finds, and those of its label map; seconds a scan."""
    model = load_model(run / "model.safetensors")
    every = SegmenterOptions(least_score=LEAST_SCORE)  # of precision and FROC
    finds, labels = Segmenter([model], every), Segmenter([model])
    labels.finder = None
    found: Found = {"network": [], **{way: [] for way in DEPTHS_MM}}
    start = time.monotonic()
    for volume, truth in cases:
        objects = finds(volume).instances
        if objects is None or truth.numbers is None:
            raise SystemExit(f"{run}: no objects")
        own = [one for one in objects.items if one.value in values]
        table = np.zeros(len(objects) + 1, np.int64)
        table[[one.number for one in own]] = np.arange(1, len(own) + 1)
        scores = [one.score or 0.0 for one in own]
        true = np.where(np.isin(truth.array, values), truth.numbers, 0)
        found["network"].append(CaseDetections.of_masks(table[objects.labels.array], scores, true))
    took = (time.monotonic() - start) / len(cases)
    for volume, truth in cases:
        seen = labels(volume).labels
        true = np.where(np.isin(truth.array, values), truth.numbers, 0)
        for way, depth in DEPTHS_MM.items():
            numbers = told_apart(seen, depth, values)
            sure = np.ones(int(numbers.max(initial=0)))
            found[way].append(CaseDetections.of_masks(numbers, sure, true))
    return found, round(took, 3)


def told_apart(labels: LabelMap, depth_mm: float | None, values: Sequence[int]) -> np.ndarray[Any, Any]:
    """Numbers of the objects of structures."""
    numbers = np.zeros(labels.grid.shape, np.int64)
    for value in values:
        own = separated(labels.array == value, labels.grid.spacing_mm, depth_mm)
        numbers[own > 0] = own[own > 0] + int(numbers.max())
    return numbers


def precision(cases: list[CaseDetections]) -> dict[str, float]:
    """Average precision of masks."""
    at = {f"AP at {t:g}": metrics.average_precision(cases, least_overlap=t) for t in THRESHOLDS}
    every = {**at, "AP from 0.1 to 0.5": metrics.mean_average_precision(cases)}
    return {name: round(value, 4) for name, value in every.items()}


def trained(
    recipe: str, data: Path, run: Path, budget: str, options: argparse.Namespace, *more: str
) -> float | None:
    """Seconds of the command; None where the training is there."""
    if (run / "report.html").is_file():
        return None
    words = ("--data", data, "-o", run, "--threads", options.threads, "--time-budget", budget, *more)
    start = time.monotonic()
    subprocess.run([*PROGRAM, "train", recipe, *map(str, words)], check=True, stdout=sys.stderr)
    return round(time.monotonic() - start, 1)


PARTS = {"default": default, "networks": networks, "planted": planted, "brats": brats, "large": large}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("names", nargs="*", help="of networks; all without")
    parser.add_argument("--budget", default="", help="of each training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
