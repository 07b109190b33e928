"""Boxes in any number of dimensions: how far they overlap, and which of many scored ones to keep.

A box is a row of 2n numbers: its n lower ends, then its n upper ends, at the edges of voxels. So the voxels
from 0 up to, not including, 10 along three axes are [0, 0, 0, 10, 10, 10], of volume 1000.

Private: the names are those of `medseg.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import UsageError, unknown_name
from medseg.core.keywords import hinted

Floats = NDArray[np.float64]
Decay = Literal["linear", "gaussian"]


@hinted
def box_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Intersection over union of every box of one list with every box of another, in [0, 1].

    Args:
        first: boxes (N, 2n).
        second: boxes (M, 2n).

    Returns:
        (N, M); 0 of two boxes without volume.

    Raises:
        UsageError: a list is not of boxes, or the two have different axes.

    >>> from medseg import metrics
    >>> metrics.box_iou([[0, 0, 0, 10, 10, 10]], [[1, 1, 1, 11, 11, 11]]).round(4)  # 729 / 1271
    array([[0.5736]])
    """
    shared, united, _ = _volumes(first, second)
    return _ratio(shared, united)


@hinted
def box_giou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Generalised IoU of every pair: IoU - (share of the smallest box around both that neither fills).

    Args:
        first: boxes (N, 2n).
        second: boxes (M, 2n).

    Returns:
        (N, M), in [-1, 1].

    Raises:
        UsageError: as `box_iou`.

    References:
        Rezatofighi et al. 2019, arXiv:1902.09630, algorithm 1.

    >>> from medseg import metrics
    >>> metrics.box_giou([[0, 0, 1, 1]], [[3, 0, 4, 1]])  # 0 - (4 - 2) / 4
    array([[-0.5]])
    """
    shared, united, around = _volumes(first, second)
    return _ratio(shared, united) - _ratio(around - united, around)


@hinted
def non_max_suppression(
    boxes: ArrayLike, scores: ArrayLike, *, most_iou: float = 0.5, most: int | None = None
) -> NDArray[np.intp]:
    """Which boxes are left when each suppresses those of lower score that overlap it too far.

    Args:
        boxes: (N, 2n).
        scores: (N,); of two equal ones the first counts as higher.
        most_iou: boxes whose IoU with a kept one is above this are suppressed.
        most: how many to keep at most; None for all.

    Returns:
        Numbers of the boxes that are kept, the highest score first.

    Raises:
        UsageError: boxes or scores are none, or do not belong together.

    >>> from medseg import metrics
    >>> metrics.non_max_suppression([[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]], [0.7, 0.9, 0.1]).tolist()
    [1, 2]
    """
    kept, _ = _chosen(boxes, scores, lambda iou: (iou <= most_iou).astype(np.float64), -math.inf)
    return kept[:most]


@hinted
def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    *,
    decay: Decay = "linear",
    most_iou: float = 0.5,
    sigma: float = 0.5,
    least_score: float = 0.001,
) -> tuple[NDArray[np.intp], Floats]:
    """Soft-NMS: boxes that overlap a better one keep a part of their score, and may still count.

    Args:
        boxes: (N, 2n).
        scores: (N,), 0 or more.
        decay: "linear" multiplies a score by 1 - IoU where the IoU is above `most_iou`; "gaussian" by
            exp(-IoU^2 / sigma) at any IoU.
        most_iou: of the linear decay.
        sigma: of the Gaussian decay.
        least_score: boxes that fall below this are dropped.

    Returns:
        Numbers of the boxes that are left, and their new scores, the highest first.

    Raises:
        UsageError: boxes or scores are none, or do not belong together; a score or sigma is out of range; the
            decay is unknown.

    References:
        Bodla et al. 2017, arXiv:1704.04503, equations of section 3.

    >>> from medseg import metrics
    >>> kept, scores = metrics.soft_nms([[0, 0, 0, 10, 10, 10], [1, 1, 1, 11, 11, 11]], [1.0, 1.0])
    >>> kept.tolist(), scores.round(4).tolist()
    ([0, 1], [1.0, 0.4264])
    """
    if decay not in get_args(Decay):
        raise unknown_name("decay", decay, get_args(Decay))
    if not 0 < sigma < math.inf:
        raise UsageError(f"sigma must be above 0, not {sigma}")
    if (given := np.asarray(scores)).size and given.min() < 0:
        raise UsageError(f"scores must be 0 or more, not {given.min():.6g}", hint="take them after a sigmoid")

    def factor(iou: Floats) -> Floats:
        if decay == "gaussian":
            return np.asarray(np.exp(-np.square(iou) / sigma))
        return np.where(iou > most_iou, 1 - iou, 1.0)

    return _chosen(boxes, scores, factor, least_score)


@hinted
def weighted_box_clustering(
    boxes: ArrayLike, scores: ArrayLike, *, least_iou: float = 0.5, expected: int = 1
) -> tuple[Floats, Floats, list[NDArray[np.intp]]]:
    """Boxes that several models found of the same objects, each cluster as one box.

    A cluster is the box of the highest score and those that overlap it. Its box is the mean, each weighted by
    its score, its IoU with the first and its volume; its score is the mean, weighted by the latter two, in
    which a model that found nothing counts as 0.

    Args:
        boxes: (N, 2n), of all models.
        scores: (N,), 0 or more; of two equal ones the first counts as higher.
        least_iou: with the first box of a cluster, of its other boxes.
        expected: boxes of an object, if every model found it.

    Returns:
        Boxes (C, 2n), scores (C,), and the numbers of each cluster's boxes; the highest score first.

    Raises:
        UsageError: boxes or scores are none, or do not belong together; a score is below 0.

    References:
        Jaeger et al. 2018, arXiv:1811.08661, section on weighted box clustering.

    >>> from medseg import metrics
    >>> boxes, scores, members = metrics.weighted_box_clustering(
    ...     [[0, 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9]], [0.9, 0.7, 0.6], expected=2
    ... )
    >>> boxes.tolist(), scores.round(2).tolist(), [found.tolist() for found in members]
    ([[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]], [0.8, 0.3], [[0, 1], [2]])
    """
    array = boxes_of(boxes)
    given = scores_of(scores, len(array))
    if given.size and given.min() < 0:
        raise UsageError(f"scores must be 0 or more, not {given.min():.6g}", hint="take them after a sigmoid")
    rest, found = np.argsort(-given, kind="stable"), []
    while rest.size:
        iou = box_iou(array[rest[:1]], array[rest])[0]
        near = iou >= least_iou
        near[0] = True
        own, weight = (
            rest[near],
            np.maximum(iou[near], 1e-9) * np.maximum(box_volumes(array[rest[near]]), 1e-9),
        )
        whole = weight.sum() + max(0, expected - len(own)) * weight.mean()
        shares = weight * np.maximum(given[own], 1e-9)
        box = (array[own] * shares[:, None]).sum(axis=0) / shares.sum()
        found.append((float((given[own] * weight).sum() / whole), box, own))
        rest = rest[~near]
    found.sort(key=lambda cluster: -cluster[0])
    placed = np.array([box for _, box, _ in found]).reshape(-1, array.shape[1])
    return placed, np.array([score for score, _, _ in found]), [own for _, _, own in found]


def boxes_of(given: ArrayLike) -> Floats:
    """Boxes (N, 2n) as float64.

    Raises:
        UsageError: the shape is another, a number is not finite, or a lower end is above the upper one.
    """
    boxes = np.asarray(given, np.float64)
    if not boxes.size and boxes.ndim < 3:
        return boxes.reshape(0, boxes.shape[1] if boxes.ndim == 2 else 0)
    if boxes.ndim != 2 or boxes.shape[1] % 2:
        raise UsageError(f"boxes are (N, 2n): n lower ends, then n upper ends; not {boxes.shape}")
    lower, upper = np.split(boxes, 2, axis=1)
    if (odd := np.flatnonzero(~(np.isfinite(boxes).all(1) & (lower <= upper).all(1)))).size:
        raise UsageError(
            f"the box {boxes[odd[0]].tolist()} does not run from lower to upper ends",
            hint="give the n lower ends, then the n upper ends",
        )
    return boxes


def scores_of(given: ArrayLike, count: int) -> Floats:
    """Scores of so many objects.

    Raises:
        UsageError: there are more or fewer, or one is not finite.
    """
    scores = np.asarray(given, np.float64)
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise UsageError(f"scores must be one finite number for each of {count}, not {scores.shape} numbers")
    return scores


def box_volumes(boxes: Floats) -> Floats:
    """Volume of each box, (N,)."""
    lower, upper = np.split(boxes, 2, axis=1)
    return np.asarray((upper - lower).prod(1))


def _volumes(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Of every pair: what they share, what they fill together, and the smallest box around both."""
    a, b = boxes_of(first), boxes_of(second)
    if not (len(a) and len(b)):
        return (np.zeros((len(a), len(b))),) * 3
    if a.shape[1] != b.shape[1]:
        raise UsageError(f"boxes of {a.shape[1] // 2} and of {b.shape[1] // 2} axes cannot overlap")
    (a_low, a_high), (b_low, b_high) = np.split(a[:, None], 2, axis=2), np.split(b[None], 2, axis=2)
    shared = (np.minimum(a_high, b_high) - np.maximum(a_low, b_low)).clip(0).prod(2)
    around = (np.maximum(a_high, b_high) - np.minimum(a_low, b_low)).prod(2)
    return shared, box_volumes(a)[:, None] + box_volumes(b)[None] - shared, around


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _chosen(
    boxes: ArrayLike, scores: ArrayLike, factor: Callable[[Floats], Floats], least: float
) -> tuple[NDArray[np.intp], Floats]:
    """The best box, then the best of those whose scores its overlap has multiplied by a factor, and so on."""
    array = boxes_of(boxes)
    left = scores_of(scores, len(array)).copy()
    rest, kept = np.flatnonzero(left >= least), []
    while rest.size:
        best = rest[np.argmax(left[rest])]
        kept.append(best)
        rest = rest[rest != best]
        multiplied = factor(box_iou(array[best : best + 1], array[rest])[0])
        left[rest] *= multiplied
        rest = rest[(multiplied > 0) & (left[rest] >= least)]
    chosen = np.array(kept, np.intp)
    return chosen, left[chosen]
