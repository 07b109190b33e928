"""Overlap and volume of one structure, from its voxel counts, and of a label map as a whole.

Undefined ratios are NaN here and None, with a status, in a `Value`: no policy hides behind a
silent 0 or 1. Definitions, ranges and empty rules are tabled in docs/metrics.md.
"""

from __future__ import annotations

import math

import numpy as np

from medseg.metrics.counts import Counts, JointHistogram
from medseg.metrics.value import Value, measured
from medseg.metrics.volumes import relative_difference_percent


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


def cosine(counts: Counts) -> float:
    """TP / sqrt((TP + FN) (TP + FP)), in [0, 1]; NaN when both masks are empty, 0 when one is.

    It is the geometric mean of recall and precision, where Dice is their harmonic mean.

    References:
        Ochiai 1957, doi:10.2331/suisan.22.526.

    >>> cosine(Counts(tp=2, fp=6, fn=0, tn=0))  # 2 / sqrt(2 * 8)
    0.5
    """
    if not counts.tp:
        return _ratio(0, counts.fp + counts.fn)
    return counts.tp / math.sqrt(counts.reference * counts.predicted)


def recall(counts: Counts) -> float:
    """TP / (TP + FN), in [0, 1]; NaN when the reference is empty."""
    return _ratio(counts.tp, counts.reference)


def precision(counts: Counts) -> float:
    """TP / (TP + FP), in [0, 1]; NaN when the prediction is empty."""
    return _ratio(counts.tp, counts.predicted)


def relative_volume_difference_percent(counts: Counts) -> float:
    """100 (P - R) / R, in [-100, inf); NaN when the reference is empty."""
    return relative_difference_percent(counts.predicted, counts.reference)


def volume_similarity(counts: Counts) -> float:
    """1 - |FN - FP| / (2 TP + FP + FN), in [0, 1]; NaN when both masks are empty, 0 when one is.

    It compares two volumes, wherever they lie: 1 for equal ones. It has no sign; which volume is the
    larger one, `volume_diff_ml` says.

    References:
        Taha and Hanbury 2015, doi:10.1186/s12880-015-0068-x, section "Volumetric similarity".

    >>> volume_similarity(Counts(tp=0, fp=1, fn=3, tn=0))  # volumes 1 and 3: 1 - 2 / 4
    0.5
    """
    return 1.0 - _ratio(abs(counts.fn - counts.fp), 2 * counts.tp + counts.fp + counts.fn)


def overall_values(histogram: JointHistogram) -> dict[str, Value]:
    """Pixel accuracy, mean accuracy, mean IoU and frequency-weighted IoU of a whole label map.

    The background counts as a class: all that lies in no structure. A class that the reference lacks
    has no accuracy, one that both lack no IoU: neither enters its mean. With n_ij the voxels of class
    i that are predicted as j, and t_i their sum over j:

    - `pixel_accuracy`: sum n_ii / sum t_i;
    - `mean_accuracy`: mean of n_ii / t_i;
    - `mean_iou`: mean of n_ii / (t_i + sum_j n_ji - n_ii);
    - `frequency_weighted_iou`: the same, weighted by t_i / sum t_i.

    The status tells which of the maps has no structure at all.

    References:
        Long, Shelhamer and Darrell 2015, arXiv:1411.4038, section 5, "Metrics".
    """
    table = histogram.table.astype(np.float64)
    agreed, reference, predicted = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    either = reference + predicted - agreed
    iou = agreed[either > 0] / either[either > 0]
    accuracy = agreed[reference > 0] / reference[reference > 0]
    weight = reference[either > 0]
    status = histogram.counts(histogram.values).status
    numbers = {
        "pixel_accuracy": agreed.sum() / table.sum(),
        "mean_accuracy": accuracy.mean(),
        "mean_iou": iou.mean(),
        "frequency_weighted_iou": (weight * iou).sum() / weight.sum(),
    }
    return {name: measured(number, "1", status) for name, number in numbers.items()}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
