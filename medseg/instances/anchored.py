"""Anchors of a pyramid, what a head says of each, and which of them learn an object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor

from medseg.instances.anchors import LEFT_OUT, adaptive, anchor_sizes, anchors, by_iou, points
from medseg.instances.boxes import decode
from medseg.instances.choice import Choice, Found
from medseg.instances.heads import Dense, flat
from medseg.instances.objects import Objects
from medseg.networks.layers import PerAxis

Matching = Literal["", "adaptive", "iou"]

SIDE = 4.0
"""Of an anchor of relative size 1, in strides of its level; RetinaNet, whose objects are larger, has 8."""
THIRDS = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Relative sizes of anchors of a level (RetinaNet, section 4)."""
NEAREST = {2: 9, 3: 4}
"""Points of a level among whose anchors the adaptive choice is made, see `anchors.adaptive`."""


def elongated(axes: int, factor: float = 2.0) -> list[tuple[float, ...]]:
    """A cube, and boxes longer along one axis and, in images and volumes alike, along all but one.

    >>> elongated(2)
    [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)]
    """
    long, flat_ = (1.0,) * (axes - 1) + (factor,), (1.0,) + (factor,) * (axes - 1)
    more = sorted({*permutations(long), *permutations(flat_)})
    return [(1.0,) * axes, *more]


@dataclass(frozen=True)
class AnchorRule:
    """Which anchors there are, and how they stand for objects.

    Attributes:
        strides: of each level, per axis.
        sizes: of the anchors of each level, in voxels of the patch.
        matching: "adaptive" (ATSS) or "iou".
        least, enough: IoU below which an anchor learns background, and from which an object; of "iou".
    """

    strides: tuple[PerAxis, ...]
    sizes: tuple[tuple[tuple[float, ...], ...], ...]
    matching: Matching = "adaptive"
    least: float = 0.4
    enough: float = 0.5

    @classmethod
    def of(
        cls,
        strides: Sequence[PerAxis],
        relative: Sequence[float],
        aspects: Sequence[Sequence[float]],
        matching: Matching = "",
        least: float = 0.4,
        enough: float = 0.5,
    ) -> AnchorRule:
        """Anchors of each aspect at each relative size, `SIDE` strides long.

        Args:
            strides: of each level, per axis.
            relative: sizes over that.
            aspects: of the boxes.
            matching: "" for IoU in images, as in the papers, and the adaptive choice in volumes, where
                few anchors overlap an object by half.
            least, enough: see the class.
        """
        axes = len(strides[0])
        sides = [SIDE * math.prod(stride) ** (1 / axes) for stride in strides]
        sizes = [anchor_sizes(side, relative, aspects) for side in sides]
        rows = tuple(tuple(map(tuple, level)) for level in sizes)
        return cls(tuple(strides), rows, matching or ("iou" if axes == 2 else "adaptive"), least, enough)

    @property
    def count(self) -> int:
        """Anchors of a point."""
        return len(self.sizes[0])

    def anchors(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """(A_l, 2n) of the maps (B, C, *S) of each level."""
        rows = zip(levels, self.strides, self.sizes, strict=True)
        return [anchors(points(x.shape[2:], stride), sizes).to(x.device) for x, stride, sizes in rows]

    def learnt(self, given: Sequence[Tensor], objects: Objects) -> Tensor:
        """The number of the object that each anchor learns; anchors of one that was cut are left out."""
        boxes = objects.boxes.to(given[0].device)
        if self.matching == "adaptive":
            found = adaptive(given, boxes, self.count * NEAREST[boxes.shape[1] // 2])
        else:
            found = by_iou(torch.cat(list(given)), boxes, self.least, self.enough)
        cut = torch.nonzero(~objects.whole).flatten().to(found.device)
        return torch.where(torch.isin(found, cut), LEFT_OUT, found)


@dataclass(frozen=True)
class Rows:
    """What heads said of all anchors, (B, A, ...) each, the finest level first.

    Attributes:
        scores: logits (B, A, K).
        offsets: of the boxes from the anchors (B, A, 2n).
        anchors: of each level.
    """

    scores: Tensor
    offsets: Tensor
    anchors: list[Tensor]

    @classmethod
    def of(cls, levels: Sequence[Dense], rule: AnchorRule, numbers: int) -> Rows:
        """From maps to rows; `numbers` of the scores of each anchor."""
        axes = levels[0].scores.ndim - 2
        return cls(
            torch.cat([flat(level.scores, numbers) for level in levels], dim=1),
            torch.cat([flat(level.boxes, 2 * axes) for level in levels], dim=1),
            rule.anchors([level.scores for level in levels]),
        )

    def found(self, n: int, sure: Tensor, shape: Sequence[int], choice: Choice) -> Found:
        """The objects of patch n, of scores (A, K) in [0, 1]."""
        at, classes, scores = choice.surest(sure)
        boxes = decode(self.offsets[n][at], torch.cat(self.anchors)[at])
        return choice.kept(Found(boxes, scores, classes, scores.new_zeros(len(scores), 0)), shape)
