"""Measuring a segmentation against a reference, structure by structure.

Each metric is a function of two plain arrays, and `evaluate_case` measures all of them at once, for every
structure, which is quicker. Only the names listed here are public.

>>> import numpy as np
>>> from medseg import metrics
>>> a, b = np.zeros((2, 8, 8, 8), bool)
>>> a[2:6, 2:6, 2:6], b[2:6, 2:6, 3:7] = True, True
>>> metrics.dice(a, b), metrics.hd95(a, b, spacing_mm=(1.0, 1.0, 2.0))
(0.75, 2.0)

`evaluate_case` makes a `CaseResult`, with a `StructureResult` for each structure:

>>> from medseg import Grid, LabelMap
>>> from medseg.core.structures import from_labels
>>> maps = [LabelMap(mask.astype(np.uint8), Grid((8, 8, 8), np.eye(4))) for mask in (a, b)]
>>> case = metrics.evaluate_case(*maps, from_labels({1: "liver"}))
>>> case["liver"].metrics["dice"].value, case["liver"].volume_ref_ml, case["liver"].status
(0.75, 0.064, 'ok')
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg.metrics.boxes import (
        box_giou,
        box_iou,
        non_max_suppression,
        soft_nms,
        weighted_box_clustering,
    )
    from medseg.metrics.case import CaseResult, StructureResult, evaluate_case
    from medseg.metrics.cohort import CohortRow, summarise
    from medseg.metrics.detection import (
        CaseDetections,
        average_precision,
        best_threshold,
        cpm,
        froc,
        mean_average_precision,
    )
    from medseg.metrics.functions import (
        cosine,
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
    from medseg.metrics.instances import InstanceRule
    from medseg.metrics.scores import Scores, StructureScores
    from medseg.metrics.value import Value

__all__ = [
    "CaseDetections",
    "CaseResult",
    "CohortRow",
    "InstanceRule",
    "Scores",
    "StructureResult",
    "StructureScores",
    "Value",
    "assd",
    "average_precision",
    "best_threshold",
    "box_giou",
    "box_iou",
    "cosine",
    "cpm",
    "dice",
    "evaluate_case",
    "froc",
    "hd95",
    "hd100",
    "jaccard",
    "masd",
    "mean_average_precision",
    "non_max_suppression",
    "nsd",
    "panoptic_quality",
    "precision",
    "recall",
    "recognition_quality",
    "segmentation_quality",
    "soft_nms",
    "summarise",
    "surface_dice",
    "volume_similarity",
    "weighted_box_clustering",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "CaseDetections": "medseg.metrics.detection",
        "CaseResult": "medseg.metrics.case",
        "CohortRow": "medseg.metrics.cohort",
        "InstanceRule": "medseg.metrics.instances",
        "Scores": "medseg.metrics.scores",
        "StructureResult": "medseg.metrics.case",
        "StructureScores": "medseg.metrics.scores",
        "Value": "medseg.metrics.value",
        "assd": "medseg.metrics.functions_surface",
        "average_precision": "medseg.metrics.detection",
        "box_giou": "medseg.metrics.boxes",
        "box_iou": "medseg.metrics.boxes",
        "cosine": "medseg.metrics.functions",
        "cpm": "medseg.metrics.detection",
        "dice": "medseg.metrics.functions",
        "evaluate_case": "medseg.metrics.case",
        "froc": "medseg.metrics.detection",
        "hd100": "medseg.metrics.functions_surface",
        "hd95": "medseg.metrics.functions_surface",
        "jaccard": "medseg.metrics.functions",
        "masd": "medseg.metrics.functions_surface",
        "best_threshold": "medseg.metrics.detection",
        "mean_average_precision": "medseg.metrics.detection",
        "non_max_suppression": "medseg.metrics.boxes",
        "nsd": "medseg.metrics.functions_surface",
        "panoptic_quality": "medseg.metrics.functions",
        "precision": "medseg.metrics.functions",
        "recall": "medseg.metrics.functions",
        "recognition_quality": "medseg.metrics.functions",
        "segmentation_quality": "medseg.metrics.functions",
        "soft_nms": "medseg.metrics.boxes",
        "summarise": "medseg.metrics.cohort",
        "surface_dice": "medseg.metrics.functions_surface",
        "volume_similarity": "medseg.metrics.functions",
        "weighted_box_clustering": "medseg.metrics.boxes",
    },
)
