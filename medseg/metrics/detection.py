"""How well objects were detected: average precision and FROC, of boxes or masks with scores.

The objects found in a case are taken by descending score; each hits the free reference that it overlaps most,
if far enough, and every reference is hit once. Hits and false positives of all cases are pooled by score.
Definitions are in docs/metrics.md.

Private: the names are those of `medseg.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.affine import checked_spacing
from medseg.core.boxes import Slices, bounding_box, label_boxes, relative
from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.keywords import hinted
from medseg.metrics.boxes import Floats, box_iou, box_volumes, boxes_of, scores_of
from medseg.metrics.masks import Mask

VOLUME_IOU = tuple(n / 100 for n in range(10, 51, 5))
"""Least IoU of a hit, over which AP is averaged in volumes: 0.1 to 0.5."""
FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan at which LUNA16 states the sensitivity."""

Instances = NDArray[Any] | Sequence[ArrayLike]
Sizes = tuple[float, float]


class _Piece(NamedTuple):
    """An object: where it lies, its mask within, and its voxels."""

    box: Slices
    mask: Mask
    voxels: int


@dataclass(frozen=True, eq=False)
class CaseDetections:
    """The objects found in one case, beside those of the reference.

    Attributes:
        scores: of the objects found, (P,).
        overlap: of each with each of the reference, (P, R), in [0, 1]: the IoU, or how near a point lies.
        found_ml, reference_ml: volumes of both, (P,) and (R,); NaN where voxels have no size.

    >>> from medseg import metrics
    >>> found = metrics.CaseDetections.of_boxes([[0, 0, 0, 4, 4, 4]], [0.9], [[0, 0, 0, 4, 4, 3]])
    >>> found.overlap
    array([[0.75]])
    """

    scores: Floats
    overlap: Floats
    found_ml: Floats
    reference_ml: Floats

    @classmethod
    def of_boxes(
        cls, boxes: ArrayLike, scores: ArrayLike, reference: ArrayLike, *, spacing_mm: Sequence[float] = ()
    ) -> CaseDetections:
        """Of boxes in voxels, which overlap by their IoU.

        Args:
            boxes: found, (P, 2n), see `box_iou`.
            scores: (P,).
            reference: boxes (R, 2n).
            spacing_mm: distance between voxel centres along each axis; needed only for sizes.

        Raises:
            UsageError: boxes or scores are none, or do not belong together.
        """
        found, truth = boxes_of(boxes), boxes_of(reference)
        sizes = (_in_ml(box_volumes(b), spacing_mm, b.shape[1] // 2) for b in (found, truth))
        return cls(scores_of(scores, len(found)), box_iou(found, truth), *sizes)

    @classmethod
    def of_masks(
        cls, masks: Instances, scores: ArrayLike, reference: Instances, *, spacing_mm: Sequence[float] = ()
    ) -> CaseDetections:
        """Of masks, which overlap by their IoU.

        Args:
            masks: found: a list of bool arrays of one shape, which may overlap, or one array of whole numbers
                in which the object of scores[n] has the value n + 1.
            scores: (P,).
            reference: likewise; of numbers, every value but 0 is an object.
            spacing_mm: distance between voxel centres along each axis; needed only for sizes.

        Raises:
            GridMismatchError: the masks have not one shape.
            UsageError: they are not masks, or masks and scores do not belong together.
        """
        given = np.asarray(scores, np.float64)
        found, shape = _cut_out(masks, range(1, given.size + 1))
        truth, other = _cut_out(reference, None)
        if shape and other and shape != other:
            raise GridMismatchError(f"the masks have shape {shape}, and those of the reference {other}")
        voxels = (np.array([piece.voxels for piece in side], float) for side in (found, truth))
        sizes = (_in_ml(v, spacing_mm, len(shape or other)) for v in voxels)
        return cls(scores_of(given, len(found)), _mask_iou(found, truth), *sizes)


@hinted
def average_precision(
    cases: Iterable[CaseDetections],
    *,
    least_overlap: float,
    recall_points: int | None = None,
    size_ml: Sizes | None = None,
    most: int | None = None,
) -> float:
    """Average precision (AP): the area under precision over recall, in [0, 1]; NaN without a reference.

    At each recall stands the highest precision of this recall or more.

    Args:
        cases: all of them; those in which nothing was found count too.
        least_overlap: of a hit: IoU, which an overlap of exactly this reaches.
        recall_points: None for the area; 101 for the mean at so many values of recall, as COCO has it.
        size_ml: only objects of this volume, from the first up to, not including, the second. Other
            references, what hits them, and other objects that hit nothing are left out.
        most: objects of a case that count, those of the highest scores; None for all.

    Raises:
        UsageError: `least_overlap` is not in [0, 1], or a volume is asked for that nobody stated.

    References:
        Everingham et al. 2010, doi:10.1007/s11263-009-0275-4; Lin et al. 2014, arXiv:1405.0312.

    >>> from medseg import metrics
    >>> boxes = [[0, 0, 2, 2], [4, 4, 5, 5], [7, 7, 9, 9]]
    >>> case = metrics.CaseDetections.of_boxes(boxes, [0.9, 0.8, 0.7], [boxes[0], boxes[2]])
    >>> round(metrics.average_precision([case], least_overlap=0.5), 4)  # hit, false, hit of 2
    0.8333
    """
    _, hits, references = _pooled(cases, least_overlap, size_ml, most)
    if not references:
        return math.nan
    recall = np.cumsum(hits) / references
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if recall_points is None:
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    at = np.searchsorted(recall, np.linspace(0, 1, recall_points), side="left")
    return float(np.append(envelope, 0.0)[at].mean())


@hinted
def mean_average_precision(
    cases: Iterable[CaseDetections],
    *,
    thresholds: Sequence[float] = VOLUME_IOU,
    recall_points: int | None = None,
    size_ml: Sizes | None = None,
    most: int | None = None,
) -> float:
    """Mean of the average precision over several thresholds of a hit; see `average_precision`.

    Args:
        cases: all of them.
        thresholds: each a `least_overlap`; usual in volumes are 0.1 to 0.5 by 0.05, in images 0.5 to 0.95.
        recall_points, size_ml, most: see `average_precision`.

    >>> from medseg import metrics
    >>> case = metrics.CaseDetections.of_boxes([[0, 0, 4, 3]], [1.0], [[0, 0, 4, 4]])  # IoU 0.75
    >>> metrics.mean_average_precision([case], thresholds=(0.5, 0.7, 0.8, 0.9))
    0.5
    """
    known = list(cases)
    each = [
        average_precision(known, least_overlap=t, recall_points=recall_points, size_ml=size_ml, most=most)
        for t in thresholds
    ]
    return float(np.mean(each))


@hinted
def froc(
    cases: Iterable[CaseDetections],
    *,
    least_overlap: float,
    rates: Sequence[float] = FROC_RATES,
    size_ml: Sizes | None = None,
) -> tuple[float, ...]:
    """Sensitivity at each rate of false positives a scan (FROC), in [0, 1]; NaN without a reference.

    Linear between the thresholds of the score, and level beyond the lowest.

    Args:
        cases: a scan each; those without any object count too.
        least_overlap: of a hit.
        rates: false positives a scan.
        size_ml: see `average_precision`.

    Raises:
        UsageError: see `average_precision`.

    References:
        Setio et al. 2017, doi:10.1016/j.media.2017.06.015 (LUNA16).

    >>> from medseg import metrics
    >>> case = metrics.CaseDetections.of_boxes([[0, 0, 2, 2], [4, 4, 5, 5]], [0.9, 0.8], [[0, 0, 2, 2]])
    >>> metrics.froc([case], least_overlap=0.1, rates=(0.5, 1.0))
    (1.0, 1.0)
    """
    known = list(cases)
    scores, hits, references = _pooled(known, least_overlap, size_ml, None)
    if not references:
        return (math.nan,) * len(rates)
    last = np.flatnonzero(np.diff(scores, append=-math.inf))  # of each threshold, where scores are equal
    sensitivity, false = (np.append(0.0, np.cumsum(n)[last]) for n in (hits, ~hits))
    return tuple(np.interp(rates, false / len(known), sensitivity / references).tolist())


@hinted
def best_threshold(cases: Iterable[CaseDetections], *, least_overlap: float) -> float:
    """The score from which objects are best taken: of the highest F1 = 2 TP / (objects found + references).

    It lies half-way to the next lower score, of the lowest to 0; NaN where nothing is hit.

    Args:
        cases, least_overlap: see `average_precision`.

    >>> from medseg import metrics
    >>> boxes, scores = [[0, 0, 2, 2], [4, 4, 5, 5], [7, 7, 9, 9]], [0.9, 0.8, 0.3]
    >>> case = metrics.CaseDetections.of_boxes(boxes, scores, boxes[:2])
    >>> round(metrics.best_threshold([case], least_overlap=0.5), 4)
    0.55
    """
    scores, hits, references = _pooled(cases, least_overlap, None, None)
    if not hits.any():
        return math.nan
    last = np.flatnonzero(np.diff(scores, append=-math.inf))
    f1 = 2 * np.cumsum(hits)[last] / (last + 1 + references)
    at = int(np.argmax(f1))
    lower = scores[last[at] + 1] if last[at] + 1 < len(scores) else 0.0
    return float((scores[last[at]] + lower) / 2)


@hinted
def cpm(cases: Iterable[CaseDetections], *, least_overlap: float, size_ml: Sizes | None = None) -> float:
    """Competition performance metric: the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives.

    Args:
        cases, least_overlap, size_ml: see `froc`.

    >>> from medseg import metrics
    >>> case = metrics.CaseDetections.of_boxes([[0, 0, 2, 2]], [0.9], [[0, 0, 2, 2], [4, 4, 5, 5]])
    >>> metrics.cpm([case], least_overlap=0.1)
    0.5
    """
    return float(np.mean(froc(cases, least_overlap=least_overlap, size_ml=size_ml)))


def _pooled(
    cases: Iterable[CaseDetections], least_overlap: float, size_ml: Sizes | None, most: int | None
) -> tuple[Floats, NDArray[np.bool_], int]:
    """Scores of all cases, descending, whether each is a hit, and how many references there are."""
    if not 0 <= least_overlap <= 1:
        raise UsageError(f"least_overlap must be in [0, 1], not {least_overlap}")
    sizes = None if size_ml is None else (float(size_ml[0]), float(size_ml[1]))
    scores, hits, references = [np.zeros(0)], [np.zeros(0, bool)], 0
    for case in cases:
        own, hit, count = _of_case(case, least_overlap, sizes, most)
        scores.append(own)
        hits.append(hit)
        references += count
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return every[order], np.concatenate(hits)[order], references


@lru_cache(maxsize=4096)
def _of_case(
    case: CaseDetections, least: float, size_ml: Sizes | None, most: int | None
) -> tuple[Floats, NDArray[np.bool_], int]:
    """Of one case scores, hits and how many references; kept, for a bootstrap asks again and again."""
    outside = _outside(case.reference_ml, size_ml)
    scores, hits = _matched(case, least, outside, _outside(case.found_ml, size_ml), most)
    return scores, hits, int(np.count_nonzero(~outside))


def _outside(volumes_ml: Floats, size_ml: Sizes | None) -> NDArray[np.bool_]:
    if size_ml is None:
        return np.zeros(len(volumes_ml), bool)
    if np.isnan(volumes_ml).any():
        raise UsageError("size_ml needs the volumes of the objects", hint="make the cases with spacing_mm=")
    return ~((size_ml[0] <= volumes_ml) & (volumes_ml < size_ml[1]))


def _matched(
    case: CaseDetections, least: float, outside: NDArray[np.bool_], apart: NDArray[np.bool_], most: int | None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and hits of the objects of a case that count.

    Args:
        case: what was found.
        least: overlap of a hit.
        outside: references that are left out; those within are preferred.
        apart: objects that are left out where they hit nothing.
        most: objects that count.
    """
    free, kept, hits = np.ones(len(outside), bool), [], []
    for found in np.argsort(-case.scores, kind="stable")[:most].tolist():
        overlap = case.overlap[found]
        near = free & (overlap >= least) & (overlap > 0)
        if near.any():
            wanted = near & ~outside if (near & ~outside).any() else near
            best = int(np.argmax(np.where(wanted, overlap, -1)))
            free[best] = False
        if not (outside[best] if near.any() else apart[found]):
            kept.append(found)
            hits.append(bool(near.any()))
    return case.scores[kept], np.array(hits, bool)


def _in_ml(voxels: Floats, spacing_mm: Sequence[float], axes: int) -> Floats:
    if not (len(spacing_mm) and axes):
        return np.full(len(voxels), math.nan)
    return voxels * math.prod(checked_spacing(spacing_mm, axes)) / 1000


def _cut_out(instances: Instances, values: Iterable[int] | None) -> tuple[list[_Piece], tuple[int, ...]]:
    """The objects of a list of masks, or of an array of numbers, and the shape of their grid; () of none.

    Args:
        instances: see `CaseDetections.of_masks`.
        values: of the objects, in an array of numbers; None for all but 0.
    """
    if isinstance(instances, np.ndarray) and instances.dtype.kind in "iu":
        held = set(np.unique(instances).tolist()) - {0}
        wanted = sorted(held) if values is None else list(values)
        if strange := held - set(wanted):
            raise UsageError(f"the object {min(strange)} has no score: there are scores of {len(wanted)}")
        boxes = label_boxes(instances, wanted)
        return [_piece(instances, boxes.get(v), v) for v in wanted], instances.shape
    masks = [np.asarray(mask) for mask in instances]
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1 or any(mask.dtype != np.bool_ or mask.ndim < 2 for mask in masks):
        raise UsageError("masks are bool arrays of one shape, or one array of whole numbers")
    return [_piece(mask, bounding_box(mask), 1) for mask in masks], shapes.pop() if shapes else ()


def _piece(array: NDArray[Any], box: Slices | None, value: int) -> _Piece:
    box = (slice(0, 0),) * array.ndim if box is None else box
    mask = array[box] == value
    return _Piece(box, mask, int(np.count_nonzero(mask)))


def _mask_iou(found: Sequence[_Piece], reference: Sequence[_Piece]) -> Floats:
    """IoU of every pair, of whose boxes only those that meet are looked into."""
    ends = ([[s.start for s in p.box] + [s.stop for s in p.box] for p in side] for side in (found, reference))
    iou = box_iou(*ends)
    for n, m in np.argwhere(iou > 0).tolist():
        one, other = found[n], reference[m]
        pairs = zip(one.box, other.box, strict=True)
        common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs)
        both = (side.mask[relative(common, side.box)] for side in (one, other))
        shared = int(np.count_nonzero(np.logical_and(*both)))
        iou[n, m] = shared / (one.voxels + other.voxels - shared)
    return iou
