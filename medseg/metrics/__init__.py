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
