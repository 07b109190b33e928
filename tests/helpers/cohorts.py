"""Cohorts made of numbers, for the tests of their page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.counts import Counts
from medseg.metrics.scores import Scores
from medseg.metrics.value import Status, Value
from medseg.reporting.cohort.content import ReportCohort, cohort_from_results

Measured = tuple[float, float, float | None, float | None]
"""Predicted and reference ml, Dice, HD95 mm."""

GRID = Grid((4, 4, 4), np.eye(4))


def status(predicted: float, reference: float) -> Status:
    if predicted and reference:
        return "ok"
    if predicted:
        return "ref_empty"
    return "pred_empty" if reference else "both_empty"


def structure_result(name: str, label: int, measured: Measured) -> StructureResult:
    predicted, reference, dice, distance = measured
    which = status(predicted, reference)
    metrics: Mapping[str, Value] = {
        "dice": Value(dice, "1", which),
        "hd95_mm": Value(distance, "mm", which),
        "volume_diff_ml": Value(predicted - reference, "ml", which),
    }
    counts = Counts(0, 0, 0, 0)
    return StructureResult(name, label, (), "none", which, counts, reference, predicted, False, None, metrics)


def results(cases: Sequence[Mapping[str, Measured]]) -> tuple[list[CaseResult], StructureSet]:
    """Cases named `case 0`, `case 1`, ... and their structures."""
    names = list(dict.fromkeys(name for case in cases for name in case))
    structures = from_labels(dict(enumerate(names, 1)))
    out = []
    for n, case in enumerate(cases):
        rows = [structure_result(name, names.index(name) + 1, measured) for name, measured in case.items()]
        out.append(CaseResult(f"case {n}", tuple(rows), GRID))
    return out, structures


def cohort(cases: Sequence[Mapping[str, Measured]]) -> ReportCohort:
    measured, structures = results(cases)
    return cohort_from_results("a cohort", Scores(measured), structures)


def many(cases: int, names: Sequence[str] = ("liver", "spleen"), seed: int = 0) -> ReportCohort:
    """Cases in which all is found, with errors that do not grow with size."""
    generator = np.random.default_rng(seed)

    def one() -> Measured:
        reference = float(generator.uniform(10.0, 20.0))
        dice = float(generator.uniform(0.8, 0.99))
        return reference + float(generator.normal()), reference, dice, float(generator.uniform(1, 3))

    return cohort([{name: one() for name in names} for _ in range(cases)])
