"""Objects found at every point of a pyramid at once (FCOS): what is learnt, and what was found.

Tian et al. 2019, arXiv:1904.01355: a point near the middle of an object, on the level of its size, says which
class the object is of, how far its faces are, and how near the middle it lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.anchors import LEFT_OUT, by_centre, centreness, looked_at, points
from medseg.instances.blendmask import Mixtures
from medseg.instances.boxes import around_points
from medseg.instances.choice import Choice, Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import Dense, DenseHead, flat
from medseg.instances.label_masks import LabelMasks
from medseg.instances.losses import focal, giou_loss
from medseg.instances.objects import Objects
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

LARGEST_OF_LEVEL = 4.0
"""Strides from a point to the farthest face of an object that its level learns, at most (FCOS: 8)."""

GROWTH = 10.0
"""Of the logarithm of a distance in strides, which is cut off above."""


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


class PointFinder(nn.Module):
    """Objects at the points of a pyramid, and their masks: of the label map, or mixtures (BlendMask).

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        levels: of the pyramid on which objects are looked for, the coarsest ones.
        depth: convolutions of the head.
        head_norm: of the head.
        mixture: whether masks are mixtures of maps of the whole image.
        bases: how many such maps.
        bins: of a mask, along each axis.
        attention: places of a box, along each axis, at which the shares of the maps are said.
    """

    def __init__(
        self,
        style: Style,
        pyramid: Maps,
        classes: int,
        *,
        levels: int = 3,
        depth: int = 4,
        head_norm: Norm = "group",
        mixture: bool = False,
        bases: int = 4,
        bins: int = 12,
        attention: int = 4,
    ) -> None:
        super().__init__()
        self.looked = looked_at(pyramid, levels)
        self.classes = classes
        width = pyramid.widths[0]
        self.masks: LabelMasks | Mixtures = LabelMasks(bins)
        if mixture:
            self.masks = Mixtures(style, pyramid, count=bases, bins=bins, attention=attention)
        own = replace(style, norm=head_norm)
        self.head = DenseHead(own, width, classes, depth=depth, centre=True, more=self.masks.numbers)
        self.rule = PointRule(tuple(pyramid.strides[n] for n in self.looked))

    def begin(self) -> None:
        self.head.begin()

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        return self.head([pyramid[n] for n in self.looked]), self.masks(pyramid)

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        said = Said.of(outputs.dense, self.rule, self.classes)
        total, learns = teach(said, lesson.objects, self.rule)
        return total + self.masks.teach(outputs, said.more, learns, lesson)

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        said = Said.of(outputs.dense, self.rule, self.classes)
        found = find(said, outputs.shape, choice)
        return [self.masks.instances(outputs, n, one) for n, one in enumerate(found)]


def find(said: Said, shape: Sequence[int], choice: Choice) -> list[Found]:
    """The objects of each patch of a batch, whose patches have a shape in voxels."""
    places, every = torch.cat(said.places), []
    for n, sure in enumerate(said.sure()):
        at, classes, scores = choice.surest(sure)
        boxes = around_points(said.distances[n][at], places[at])
        every.append(choice.kept(Found(boxes, scores, classes, said.more[n][at]), shape))
    return every
