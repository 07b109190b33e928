"""Overlap and volume of one structure, from its voxel counts.

Undefined ratios are NaN here and None, with a status, in a `Value`: no policy hides behind a
silent 0 or 1. Definitions, ranges and empty rules are tabled in docs/metrics.md.
"""

from __future__ import annotations

import math

from medseg.metrics.counts import Counts
from medseg.metrics.value import Value, measured

MM3_PER_ML = 1000.0


def dice(counts: Counts) -> float:
    """2 TP / (2 TP + FP + FN), in [0, 1]; NaN when both masks are empty, 0 when one is.

    References:
        Dice 1945, doi:10.2307/1932409.

    >>> dice(Counts(tp=1, fp=0, fn=1, tn=0))  # 2 / (2 + 1)
    0.6666666666666666
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def jaccard(counts: Counts) -> float:
    """TP / (TP + FP + FN), in [0, 1]; NaN when both masks are empty. Equals D / (2 - D)."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def recall(counts: Counts) -> float:
    """TP / (TP + FN), in [0, 1]; NaN when the reference is empty."""
    return _ratio(counts.tp, counts.reference)


def precision(counts: Counts) -> float:
    """TP / (TP + FP), in [0, 1]; NaN when the prediction is empty."""
    return _ratio(counts.tp, counts.predicted)


def volume_ml(voxels: int, voxel_volume_mm3: float) -> float:
    """Voxel count times |det A|, in ml; 0 for an empty mask."""
    return voxels * voxel_volume_mm3 / MM3_PER_ML


def relative_volume_difference_percent(counts: Counts) -> float:
    """100 (P - R) / R, in [-100, inf); NaN when the reference is empty."""
    return 100.0 * _ratio(counts.predicted - counts.reference, counts.reference)


def overlap_values(counts: Counts, voxel_volume_mm3: float) -> dict[str, Value]:
    """Every overlap and volume metric of one structure, by name."""
    status = counts.status
    difference = volume_ml(counts.predicted - counts.reference, voxel_volume_mm3)
    return {
        "dice": measured(dice(counts), "1", status),
        "jaccard": measured(jaccard(counts), "1", status),
        "recall": measured(recall(counts), "1", status),
        "precision": measured(precision(counts), "1", status),
        "volume_diff_ml": measured(difference, "ml", status),
        "rvd_percent": measured(relative_volume_difference_percent(counts), "%", status),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
