"""Measuring a segmentation against a reference, structure by structure.

Each metric is a function of two plain arrays, and `evaluate_case` measures all of them at once, for every
structure, which is quicker. Only the names listed here are public.

>>> import numpy as np
>>> from medseg import metrics
>>> a, b = np.zeros((2, 8, 8, 8), bool)
>>> a[2:6, 2:6, 2:6], b[2:6, 2:6, 3:7] = True, True
>>> metrics.dice(a, b), metrics.hd95(a, b, spacing_mm=(1.0, 1.0, 2.0))
(0.75, 2.0)
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg.metrics.case import CaseResult, StructureResult, evaluate_case, missed_case
    from medseg.metrics.cohort import CohortRow, summarise
    from medseg.metrics.counts import Counts, joint_counts
    from medseg.metrics.functions import (
        dice,
        jaccard,
        panoptic_quality,
        precision,
        recall,
        recognition_quality,
        segmentation_quality,
        volume_similarity,
    )
    from medseg.metrics.functions_surface import assd, hd95, hd100, masd, nsd, surface_dice
    from medseg.metrics.instances import InstanceRule, instance_values, match_instances
    from medseg.metrics.lesions import LesionRule, lesion_values, match_lesions
    from medseg.metrics.promise12 import Anchors, RegionAnchors, promise12_values
    from medseg.metrics.scores import Scores, StructureScores
    from medseg.metrics.value import Status, Value

__all__ = [
    "Anchors",
    "CaseResult",
    "CohortRow",
    "Counts",
    "InstanceRule",
    "LesionRule",
    "RegionAnchors",
    "Scores",
    "Status",
    "StructureResult",
    "StructureScores",
    "Value",
    "assd",
    "dice",
    "evaluate_case",
    "hd95",
    "hd100",
    "instance_values",
    "jaccard",
    "joint_counts",
    "lesion_values",
    "masd",
    "match_instances",
    "match_lesions",
    "missed_case",
    "nsd",
    "panoptic_quality",
    "precision",
    "promise12_values",
    "recall",
    "recognition_quality",
    "segmentation_quality",
    "summarise",
    "surface_dice",
    "volume_similarity",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Anchors": "medseg.metrics.promise12",
        "CaseResult": "medseg.metrics.case",
        "CohortRow": "medseg.metrics.cohort",
        "Counts": "medseg.metrics.counts",
        "InstanceRule": "medseg.metrics.instances",
        "LesionRule": "medseg.metrics.lesions",
        "RegionAnchors": "medseg.metrics.promise12",
        "Scores": "medseg.metrics.scores",
        "Status": "medseg.metrics.value",
        "StructureResult": "medseg.metrics.case",
        "StructureScores": "medseg.metrics.scores",
        "Value": "medseg.metrics.value",
        "assd": "medseg.metrics.functions_surface",
        "dice": "medseg.metrics.functions",
        "evaluate_case": "medseg.metrics.case",
        "hd100": "medseg.metrics.functions_surface",
        "hd95": "medseg.metrics.functions_surface",
        "instance_values": "medseg.metrics.instances",
        "jaccard": "medseg.metrics.functions",
        "joint_counts": "medseg.metrics.counts",
        "lesion_values": "medseg.metrics.lesions",
        "masd": "medseg.metrics.functions_surface",
        "match_instances": "medseg.metrics.instances",
        "match_lesions": "medseg.metrics.lesions",
        "missed_case": "medseg.metrics.case",
        "nsd": "medseg.metrics.functions_surface",
        "panoptic_quality": "medseg.metrics.functions",
        "precision": "medseg.metrics.functions",
        "promise12_values": "medseg.metrics.promise12",
        "recall": "medseg.metrics.functions",
        "recognition_quality": "medseg.metrics.functions",
        "segmentation_quality": "medseg.metrics.functions",
        "summarise": "medseg.metrics.cohort",
        "surface_dice": "medseg.metrics.functions_surface",
        "volume_similarity": "medseg.metrics.functions",
    },
)
