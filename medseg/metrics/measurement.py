"""All that is measured of one segmentation against a reference, from which tables and pages are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.metrics.case import CaseResult, StructureResult, Tolerance, evaluate_case
from medseg.metrics.lesions import GLIOMA, LesionRow, LesionRule, lesion_rows
from medseg.metrics.signed import Compared, compare

MOST_COMPARED = 4
"""Structures whose surfaces are compared point by point."""


@dataclass(frozen=True)
class Measurement:
    """What was measured of a segmentation against a reference.

    Attributes:
        predicted: the segmentation.
        reference: the reference, on the same grid.
        structures: what their values mean.
        result: the measurements.
        lesions: of the structures that were measured lesion by lesion.
    """

    predicted: LabelMap
    reference: LabelMap
    structures: StructureSet
    result: CaseResult
    lesions: tuple[LesionRow, ...] = ()

    def surfaces(self) -> list[Compared]:
        """The surfaces of the structures that differ most, as the distances of `result` were measured."""
        worst = [self.structures[name] for name in worst_first(self.result.rows)[:MOST_COMPARED]]
        if not self.result.has_distances:
            return [(structure, None) for structure in worst]
        maps = self.predicted.array, self.reference.array
        return compare(*maps, self.predicted.grid, self.structures, worst, self.result.mode)


def measure(
    predicted: LabelMap,
    reference: LabelMap,
    structures: StructureSet,
    *,
    tolerance_mm: Tolerance = None,
    lesions: Sequence[str] | None = None,
    rule: LesionRule = GLIOMA,
    case_id: str = "",
) -> Measurement:
    """Measure a segmentation against a reference on the same grid.

    Args:
        predicted: the segmentation.
        reference: the reference.
        structures: what the label values mean.
        tolerance_mm: of the surface Dice, for all structures or by name.
        lesions: names of the structures to measure lesion by lesion; None for those whose name says so.
        rule: when a lesion is found.
        case_id: what to call the case.

    Raises:
        GridMismatchError: the grids differ.
        UsageError: a tolerance or a structure of lesions makes no sense.
    """
    result = evaluate_case(predicted, reference, structures, tolerance_mm=tolerance_mm, case_id=case_id)
    names = structures.lesions if lesions is None else lesions
    rows = lesion_rows(predicted.array, reference.array, predicted.grid, structures, names, rule)
    return Measurement(predicted, reference, structures, result, rows)


def worst_first(rows: Sequence[StructureResult]) -> tuple[str, ...]:
    """Names of the structures that are there, by their largest distance; what one map lacks comes first."""

    def size(row: StructureResult) -> float:
        largest = row.metrics.get("hd100_mm")
        return math.inf if largest is None or largest.value is None else largest.value

    there = [row for row in rows if row.volume_pred_ml or row.volume_ref_ml]
    return tuple(row.name for row in sorted(there, key=size, reverse=True))
