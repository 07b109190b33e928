"""Measuring a segmentation against a reference, structure by structure."""

from medseg.metrics.case import CaseResult, StructureResult, evaluate_case, missed_case
from medseg.metrics.cohort import CohortRow, summarise
from medseg.metrics.counts import Counts, joint_counts
from medseg.metrics.value import Status, Value

__all__ = [
    "CaseResult",
    "CohortRow",
    "Counts",
    "Status",
    "StructureResult",
    "Value",
    "evaluate_case",
    "joint_counts",
    "missed_case",
    "summarise",
]
