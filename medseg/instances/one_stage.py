"""Objects found at every point of a pyramid at once, as FCOS has them: what is learnt, and what was found.

Tian et al. 2019, arXiv:1904.01355: a point near the middle of an object, on the level of its size, says which
class the object is of, how far its faces are, and how near the middle it lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medseg import metrics
from medseg.instances.anchors import LEFT_OUT, by_centre, centreness, points
from medseg.instances.boxes import around_points, clipped
from medseg.instances.heads import Dense, flat
from medseg.instances.losses import focal, giou_loss
from medseg.instances.objects import Objects

LARGEST_OF_LEVEL = 4.0
"""Strides from a point to the farthest face of an object that its level learns, at most (FCOS: 8)."""

GROWTH = 10.0
"""Of the logarithm of a distance in strides, which is cut off above."""


class Found(NamedTuple):
    """What one patch shows.

    Attributes:
        boxes: (N, 2n), in voxels of the patch, the highest score first.
        scores: (N,), in [0, 1].
        classes: (N,), from 0.
        more: further numbers (N, E) of the head.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    more: Tensor


@dataclass(frozen=True)
class PointRule:
    """How points stand for objects.

    Attributes:
        strides: of each level, per axis.
        largest: strides from a point to an object's farthest face, at most, but on the last level.
        radius: strides around an object's middle within which points learn it.
    """

    strides: tuple[tuple[int, ...], ...]
    largest: float = LARGEST_OF_LEVEL
    radius: float = 1.5

    @property
    def lengths(self) -> list[float]:
        """Of each level's stride, the geometric mean over the axes."""
        return [math.prod(stride) ** (1 / len(stride)) for stride in self.strides]

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Of each level, distances of the farthest face from which and up to which it learns."""
        ends = [0.0, *(self.largest * length for length in self.lengths[:-1]), math.inf]
        return list(pairwise(ends))

    def places(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The points of each level's maps, in voxels of the patch."""
        return [
            points(x.shape[2:], stride).to(x.device) for x, stride in zip(levels, self.strides, strict=True)
        ]

    def learnt(self, places: Sequence[Tensor], objects: Objects) -> Tensor:
        """The number of the object that each point learns; points of one that was cut are left out."""
        boxes = objects.boxes.to(places[0].device)
        found = by_centre(places, self.lengths, boxes, self.ranges, self.radius)
        cut = torch.nonzero(~objects.whole).flatten().to(found.device)
        return torch.where(torch.isin(found, cut), LEFT_OUT, found)


@dataclass(frozen=True)
class Said:
    """What the head said of all points, (B, P, ...) each, the finest level first.

    Attributes:
        scores: logits of the classes.
        distances: to the faces of the object, in voxels, (B, P, 2n).
        centre: logit of the centre-ness (B, P); None where the head has none.
        more: further numbers (B, P, E).
        places: the points of each level.
    """

    scores: Tensor
    distances: Tensor
    centre: Tensor | None
    more: Tensor
    places: list[Tensor]

    @classmethod
    def of(cls, levels: Sequence[Dense], rule: PointRule, classes: int) -> Said:
        """From maps to rows."""
        axes = levels[0].scores.ndim - 2
        distances = [
            torch.exp(flat(level.boxes, 2 * axes).clamp(max=GROWTH)) * length
            for level, length in zip(levels, rule.lengths, strict=True)
        ]
        centres = [flat(level.centre, 1)[..., 0] for level in levels if level.centre is not None]
        further = [flat(level.more, level.more.shape[1]) for level in levels if level.more is not None]
        scores = torch.cat([flat(level.scores, classes) for level in levels], dim=1)
        return cls(
            scores,
            torch.cat(distances, dim=1),
            torch.cat(centres, dim=1) if centres else None,
            torch.cat(further, dim=1) if further else scores.new_zeros(*scores.shape[:2], 0),
            rule.places([level.scores for level in levels]),
        )

    def sure(self) -> Tensor:
        """Scores (B, P, K) in [0, 1]: the root of class times centre-ness, as FCOS's later version has it."""
        scores = torch.sigmoid(self.scores)
        if self.centre is None:
            return scores
        return torch.sqrt(scores * torch.sigmoid(self.centre)[..., None])


class Parts(NamedTuple):
    """Sums of the loss of one patch: of scores, boxes and centre-ness, and of the weights of its boxes."""

    scores: Tensor
    boxes: Tensor
    centre: Tensor
    weight: Tensor


def teach(said: Said, objects: Sequence[Objects], rule: PointRule) -> tuple[Tensor, list[Tensor]]:
    """Focal loss of the scores, GIoU of the boxes, cross-entropy of the centre-ness (FCOS, equation 2).

    Args:
        said: of a batch.
        objects: of each patch.
        rule: how points stand for objects.

    Returns:
        A scalar, and of each patch the number of the object that each point learns.
    """
    learns = [rule.learnt(said.places, one) for one in objects]
    parts = [_parts(said, n, found, one) for n, (found, one) in enumerate(zip(learns, objects, strict=True))]
    scores, boxes, centre, weight = (torch.stack(part).sum() for part in zip(*parts, strict=True))
    count = max(1, sum(int((found >= 0).sum()) for found in learns))
    return (scores + centre) / count + boxes / weight.clamp(min=1e-6), learns


def _parts(said: Said, n: int, learns: Tensor, objects: Objects) -> Parts:
    """Of one patch of a batch; boxes count by how near the middle their points lie."""
    places, device = torch.cat(said.places), learns.device
    own = torch.nonzero(learns >= 0).flatten()
    at = learns[own]
    wanted = torch.zeros_like(said.scores[n])
    wanted[own, objects.classes.to(device)[at]] = 1.0
    kept = learns != LEFT_OUT
    scores = focal(said.scores[n][kept], wanted[kept]).sum()
    boxes = objects.boxes.to(device)[at]
    low, high = boxes.chunk(2, dim=1)
    middle = centreness(torch.cat((places[own] - low, high - places[own]), dim=1))
    found = around_points(said.distances[n][own], places[own])
    placed = (giou_loss(found, boxes) * middle).sum()
    centre = scores.new_zeros(())
    if said.centre is not None:
        centre = functional.binary_cross_entropy_with_logits(said.centre[n][own], middle, reduction="sum")
    return Parts(scores, placed, centre, middle.sum())


def suppressed(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], most_iou: float, most: int | None = None
) -> NDArray[np.intp]:
    """Which boxes are left, the surest first; boxes of two classes never meet."""
    span = 1.0 + float(boxes.max()) - float(boxes.min())
    apart = boxes.astype(np.float64) + classes[:, None] * span
    return metrics.non_max_suppression(apart, scores.astype(np.float64), most_iou=most_iou, most=most)


@dataclass(frozen=True)
class Choice:
    """Which of many boxes are objects.

    Attributes:
        least: score below which a point is passed over.
        candidates: points with the highest scores that are looked at.
        most_iou: a box that overlaps a better one of its class by more is dropped.
        most: objects of a patch.
    """

    least: float = 0.05
    candidates: int = 500
    most_iou: float = 0.5
    most: int = 100

    def kept(self, found: Found) -> Found:
        """Without boxes that overlap a better one of their class too much; the highest score first."""
        if not len(found.scores):
            return found
        boxes, scores, classes = (part.detach().cpu().numpy() for part in found[:3])
        kept = suppressed(boxes, scores, classes, self.most_iou, self.most)
        at = torch.from_numpy(kept).to(found.scores.device)
        return Found(*(part[at] for part in found))


def find(said: Said, shape: Sequence[int], choice: Choice) -> list[Found]:
    """The objects of each patch of a batch, whose patches have a shape in voxels."""
    places, every = torch.cat(said.places), []
    for n, sure in enumerate(said.sure()):
        scores, where = sure.flatten().topk(min(choice.candidates, sure.numel()))
        where = where[scores >= choice.least]
        at, classes = where // sure.shape[1], where % sure.shape[1]
        boxes = clipped(around_points(said.distances[n][at], places[at]), shape)
        low, high = boxes.chunk(2, dim=1)
        solid = (high > low).all(dim=1)
        found = Found(boxes, scores[: len(where)], classes, said.more[n][at])
        every.append(choice.kept(Found(*(part[solid] for part in found))))
    return every
