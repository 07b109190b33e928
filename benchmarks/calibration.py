"""What a model says of its own numbers, checked on cases that neither trained nor calibrated it.

    python benchmarks/calibration.py

Three of five folds of the hippocampus set are trained shortly (runs that are there are read). The cases
held out of each are halved at random again and again: one half calibrates, the other tells which share of
the volumes and of the Dice lies in its 90 % interval, as the scans are and as another scanner might have made
them. One JSON line; the targets are the issue's: between 85 % and 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from training import DEFAULT_DATA, SHORT, processor, trained, written

from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.model.evidence import Evidence
from medseg.model.file import Model, load_model
from medseg.segmentation.calibration import Observation, calibrated, coverage, expectations, observed
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter
from medseg.segmentation.verdict import distances
from medseg.training.calibrate import held_out
from medseg.training.shifts import ShiftSpec, shifted

FOLDS, HALVES, SEED = 3, 40, 0
LOW, HIGH = 0.85, 0.95

Pair = tuple[list[Observation], list[Observation]]


def main() -> None:
    options = arguments()
    data = options.data / "hippocampus"
    recipe = written(options.runs, "hippocampus_unet3d", "hippocampus_unet3d_short", steps=SHORT)
    rounds: list[dict[str, float]] = []
    scores = []
    for fold in range(FOLDS):
        run = options.runs / f"cal_fold{fold}"
        trained(recipe, data, run, options, budget="7m", more=["--fold", str(fold)])
        model = load_model(run / "model.safetensors")
        scores.append(dice_of(model))
        seen = observations(model, data, options.threads)
        rounds += halved(model, *seen, np.random.default_rng(SEED + fold))
    figures = {key: round(statistics.fmean(r[key] for r in rounds), 4) for key in rounds[0]}
    line = {
        "benchmark": "calibration",
        "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "numpy")},
        "processor": processor(),
        "folds": FOLDS,
        "halves_a_fold": HALVES,
        "mean_dice_of_folds": scores,
        **figures,
        "shifts": ShiftSpec().content(),
        "targets": {"volume_coverage": [LOW, HIGH], "dice_coverage": [LOW, HIGH]},
        "pass": all(LOW <= figures[key] <= HIGH for key in ("volume_coverage", "dice_coverage")),
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


def dice_of(model: Model) -> float:
    """Mean over the structures on the fold's own cases."""
    rows = [row for row in model.spec.evidence.validation or () if row.metric == "dice"]
    return round(statistics.fmean(row.mean for row in rows if row.mean is not None), 4)


def observations(model: Model, data: Path, threads: int) -> Pair:
    """Of every case held out of a model's training: as it is, and shifted."""
    card = load_card("hippocampus")
    segmenter = Segmenter([model], SegmenterOptions(threads=threads, observe=True))
    generator = np.random.default_rng(SEED)
    plain, other = [], []
    for case in held_out(model, card, data):
        volume, reference = read_case(case, card)
        plain.append(observed(segmenter(volume), reference))
        other.append(observed(segmenter(shifted(volume, generator)), reference))
    return plain, other


def halved(
    model: Model, plain: Sequence[Observation], other: Sequence[Observation], generator: np.random.Generator
) -> list[dict[str, float]]:
    """Calibrated on one half of the cases, looked at on the other, again and again."""
    rounds = []
    for _ in range(HALVES):
        order = generator.permutation(len(plain))
        ours, rest = order[: len(order) // 2], order[len(order) // 2 :]
        evidence = calibrated([plain[n] for n in ours], model.spec.structure_set)
        new, moved = [plain[n] for n in rest], [other[n] for n in rest]
        usual, shift = coverage(new, evidence), coverage(moved, evidence)
        rounds.append(
            {
                "volume_coverage": usual.volume_coverage,
                "dice_coverage": usual.dice_coverage,
                "shifted_volume_coverage": shift.volume_coverage,
                "shifted_dice_coverage": shift.dice_coverage,
                "mean_error_of_expected_dice": error(new, evidence),
                "mean_error_of_the_mean_dice": error_of_the_mean([plain[n] for n in ours], new),
                "unlike": unlike(new, evidence),
                "shifted_unlike": unlike(moved, evidence),
            }
        )
    return rounds


def error(cases: Sequence[Observation], evidence: Evidence) -> float:
    """Mean distance of the expected Dice from the true one."""
    found = []
    for case in cases:
        for name, expected in expectations(case.predicted_ml, case.estimated_dice, evidence).items():
            if expected.dice is not None:
                found.append(abs(expected.dice - case.dice[name]))
    return statistics.fmean(found)


def error_of_the_mean(known: Sequence[Observation], cases: Sequence[Observation]) -> float:
    """The same, were the mean of the calibration cases always expected."""
    found = []
    for name in known[0].dice:
        mean = statistics.fmean(case.dice[name] for case in known if name in case.dice)
        found += [abs(mean - case.dice[name]) for case in cases if name in case.dice]
    return statistics.fmean(found)


def unlike(cases: Sequence[Observation], evidence: Evidence) -> float:
    """Share of cases that are called unlike the calibration."""
    usual = evidence.usual
    if usual is None:
        raise SystemExit("too few cases to know what is usual")
    return statistics.fmean(
        max(distances(case.features, usual.features).values()) > usual.limit for case in cases
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--budget", default="", help="of each training")
    parser.add_argument("--epochs", type=int, default=0, help="of each training, instead of a budget")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
