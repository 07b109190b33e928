"""Objects found one by one: bodies that touch, beside components of a label map and a watershed of it.

    python benchmarks/instances.py [--budget 20m] [--recipe phantom_instances] [--runs runs]

Trains on 60 made-up boxes of bodies (`medseg phantom --layout touching`) and measures 20 others: mask AP at
IoU 0.1, 0.5 and 0.75 and their mean from 0.1 to 0.5, over the objects of both structures. Components and
watershed are of the label map that the same network's voxels give; their objects have the score 1. A training
that is there is read. Prints one line of JSON; exits with 1 where AP at 0.5 is below its target.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from training import PROGRAM, processor

from medseg import metrics
from medseg.classical.instances import separated
from medseg.core.volume import LabelMap
from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.data.phantom import write_phantoms
from medseg.metrics import CaseDetections
from medseg.model.file import load_model
from medseg.segmentation.segmenter import Segmenter

TRAINED, MEASURED = 60, 20
THRESHOLDS = (0.1, 0.5, 0.75)
TARGET = 0.95
DEPTHS_MM = {"components": None, "watershed, 1 mm": 1.0, "watershed, 0.5 mm": 0.5}


def main() -> None:
    options = arguments()
    data, unseen = options.runs / "touching", options.runs / "touching_unseen"
    for folder, cases, seed in ((data, TRAINED, 0), (unseen, MEASURED, 1)):
        if not (folder / "dataset.json").is_file():
            write_phantoms(folder, "touching", cases, seed)
    run = options.runs / options.recipe
    seconds = trained(data, run, options)
    model = load_model(run / "model.safetensors")
    finds, labels = Segmenter([model]), Segmenter([model])
    labels.finder = None
    card = load_card("bodies")
    found: dict[str, list[CaseDetections]] = {"network": [], **{name: [] for name in DEPTHS_MM}}
    start = time.monotonic()
    cases = [read_case(files, card) for files in card.read(unseen).cases]
    for volume, truth in cases:
        objects = finds(volume).instances
        assert objects is not None
        assert truth.numbers is not None
        scores = [one.score or 0.0 for one in objects.items]
        found["network"].append(CaseDetections.of_masks(objects.labels.array, scores, truth.numbers))
    took = (time.monotonic() - start) / len(cases)
    for volume, truth in cases:
        seen = labels(volume).labels
        for name, depth in DEPTHS_MM.items():
            numbers = told_apart(seen, depth)
            sure = np.ones(int(numbers.max(initial=0)))
            found[name].append(CaseDetections.of_masks(numbers, sure, truth.numbers))
    precision = {name: measured(detections) for name, detections in found.items()}
    reached = precision["network"]["AP at 0.5"] >= TARGET
    line: dict[str, Any] = {
        "benchmark": "instances",
        "versions": {package: version(package) for package in ("medseg", "torch", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        "recipe": options.recipe,
        "budget": options.budget,
        "seconds of the training": seconds,
        "steps": model.spec.training.steps,
        "cases": {"trained": TRAINED, "measured": len(cases)},
        "objects": int(sum(len(case.reference_ml) for case in found["network"])),
        "seconds of a prediction": round(took, 3),
        "precision": precision,
        "target": TARGET,
        "pass": reached,
    }
    print(json.dumps(line))
    sys.exit(0 if reached else 1)


def told_apart(labels: LabelMap, depth_mm: float | None) -> np.ndarray[Any, Any]:
    """Numbers of the objects of both structures."""
    numbers = np.zeros(labels.grid.shape, np.int64)
    for value in (1, 2):
        own = separated(labels.array == value, labels.grid.spacing_mm, depth_mm)
        numbers[own > 0] = own[own > 0] + int(numbers.max())
    return numbers


def measured(cases: list[CaseDetections]) -> dict[str, float]:
    """Average precision of masks."""
    at = {f"AP at {t:g}": metrics.average_precision(cases, least_overlap=t) for t in THRESHOLDS}
    every = {**at, "AP from 0.1 to 0.5": metrics.mean_average_precision(cases)}
    return {name: round(value, 4) for name, value in every.items()}


def trained(data: Path, run: Path, options: argparse.Namespace) -> float | None:
    """Seconds of the command; None where the training is there."""
    if (run / "report.html").is_file():
        return None
    words = ("--data", data, "-o", run, "--fold", "none", "--threads", options.threads)
    start = time.monotonic()
    command = [*PROGRAM, "train", options.recipe, *map(str, words), "--time-budget", options.budget]
    subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return round(time.monotonic() - start, 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--recipe", default="phantom_instances")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
