"""Each metric as a function of two plain arrays: the very numbers of a `CaseResult`.

Arrays are bool masks, or labels with `label=`. (I, J, K) is a volume, (I, J) or (I, J, 1) an image. Where a
metric is undefined, as of two empty masks, a function says NaN, where a `CaseResult` says None; a distance to
a surface that is not there is inf. Only `cosine` is not part of a `CaseResult`. Definitions, ranges and empty
rules are tabled in docs/metrics.md.

Private: the names are those of `medseg.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medseg.core.components import Neighbours
from medseg.core.keywords import hinted
from medseg.metrics import overlap
from medseg.metrics.counts import Counts, joint_histogram
from medseg.metrics.instances import InstanceMatch, InstanceRule, match_instances
from medseg.metrics.masks import masks_of


@hinted
def dice(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """2 TP / (2 TP + FP + FN), in [0, 1]; NaN when both masks are empty, 0 when one is.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Dice 1945, doi:10.2307/1932409.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.dice(predicted, reference)
    0.75
    """
    return overlap.dice(_counts(predicted, reference, label))


@hinted
def jaccard(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """TP / (TP + FP + FN), in [0, 1]; NaN when both masks are empty, 0 when one is.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.jaccard(predicted, reference)
    0.6
    """
    return overlap.jaccard(_counts(predicted, reference, label))


@hinted
def cosine(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """TP / sqrt((TP + FN) (TP + FP)), in [0, 1]; NaN when both masks are empty, 0 when one is.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Ochiai 1957, doi:10.2331/suisan.22.526.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:4] = True, True
    >>> metrics.cosine(predicted, reference)
    0.5
    """
    return overlap.cosine(_counts(predicted, reference, label))


@hinted
def recall(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """TP / (TP + FN), in [0, 1]: the share of the reference that was found; NaN when it is empty.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.recall(predicted, reference)
    0.75
    """
    return overlap.recall(_counts(predicted, reference, label))


@hinted
def precision(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """TP / (TP + FP), in [0, 1]: the share of the prediction that is right; NaN when it is empty.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.precision(predicted, reference)
    0.75
    """
    return overlap.precision(_counts(predicted, reference, label))


@hinted
def volume_similarity(predicted: ArrayLike, reference: ArrayLike, *, label: int | None = None) -> float:
    """1 - |FN - FP| / (2 TP + FP + FN), in [0, 1]; NaN when both masks are empty, 0 when one is.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Taha and Hanbury 2015, doi:10.1186/s12880-015-0068-x.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.volume_similarity(predicted, reference)
    1.0
    """
    return overlap.volume_similarity(_counts(predicted, reference, label))


@hinted
def panoptic_quality(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    label: int | None = None,
    least_iou: float = 0.5,
    connectivity: Neighbours = 26,
) -> float:
    """Panoptic quality of the connected pieces, in [0, 1]; NaN when neither mask has one.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.
        least_iou: two connected pieces match when their IoU is above this.
        connectivity: neighbours through which a piece hangs together: 6, 18 or 26.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Kirillov et al. 2019, arXiv:1801.00868, section 4.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.panoptic_quality(predicted, reference)
    0.6
    """
    return _match(predicted, reference, label, InstanceRule(least_iou, connectivity)).panoptic_quality


@hinted
def recognition_quality(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    label: int | None = None,
    least_iou: float = 0.5,
    connectivity: Neighbours = 26,
) -> float:
    """Recognition quality, the F1 of the connected pieces, in [0, 1]; NaN when neither mask has one.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.
        least_iou: two connected pieces match when their IoU is above this.
        connectivity: neighbours through which a piece hangs together: 6, 18 or 26.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Kirillov et al. 2019, arXiv:1801.00868, section 4.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.recognition_quality(predicted, reference)
    1.0
    """
    return _match(predicted, reference, label, InstanceRule(least_iou, connectivity)).recognition_quality


@hinted
def segmentation_quality(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    label: int | None = None,
    least_iou: float = 0.5,
    connectivity: Neighbours = 26,
) -> float:
    """Segmentation quality, the mean IoU of the matched pieces, in [0, 1]; NaN when none match.

    Args:
        predicted: bool mask, or labels with `label`.
        reference: the same shape.
        label: value of the structure, of labels.
        least_iou: two connected pieces match when their IoU is above this.
        connectivity: neighbours through which a piece hangs together: 6, 18 or 26.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; or an array is not of labels.

    References:
        Kirillov et al. 2019, arXiv:1801.00868, section 4.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.segmentation_quality(predicted, reference)
    0.6
    """
    return _match(predicted, reference, label, InstanceRule(least_iou, connectivity)).segmentation_quality


def _counts(predicted: ArrayLike, reference: ArrayLike, label: int | None) -> Counts:
    found, truth = masks_of(predicted, reference, label)
    return joint_histogram(truth.view(np.uint8), found.view(np.uint8), (1,)).counts((1,))


def _match(
    predicted: ArrayLike, reference: ArrayLike, label: int | None, rule: InstanceRule
) -> InstanceMatch:
    found, truth = (np.atleast_3d(m).view(np.uint8) for m in masks_of(predicted, reference, label))
    return match_instances(truth, found, 1, rule)[0]
