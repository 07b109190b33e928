"""Measuring a segmentation against a reference, structure by structure."""

from medseg.metrics.case import CaseResult, StructureResult, evaluate_case, missed_case
from medseg.metrics.cohort import CohortRow, summarise
from medseg.metrics.counts import Counts, joint_counts
from medseg.metrics.instances import InstanceRule, instance_values, match_instances
from medseg.metrics.lesions import LesionRule, lesion_values, match_lesions
from medseg.metrics.promise12 import Anchors, RegionAnchors, promise12_values
from medseg.metrics.value import Status, Value

__all__ = [
    "Anchors",
    "CaseResult",
    "CohortRow",
    "Counts",
    "InstanceRule",
    "LesionRule",
    "RegionAnchors",
    "Status",
    "StructureResult",
    "Value",
    "evaluate_case",
    "instance_values",
    "joint_counts",
    "lesion_values",
    "match_instances",
    "match_lesions",
    "missed_case",
    "promise12_values",
    "summarise",
]
