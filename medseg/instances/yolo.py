"""YOLO: the cell of one grid that holds an object's middle says its box, and how sure it is.

Redmon and Farhadi 2016, arXiv:1612.08242 (YOLO9000), section 2, and 2018, arXiv:1804.02767, section 2.1,
whose loss this is. Its grid is here a map of a feature pyramid.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.anchored import AnchorRule, Rows
from medseg.instances.anchors import LEFT_OUT, NOTHING, looked_at
from medseg.instances.boxes import MOST_GROWTH, iou, pairwise_iou
from medseg.instances.choice import Choice, Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import PRIOR, Dense, DenseHead
from medseg.instances.label_masks import LabelMasks
from medseg.instances.objects import Objects
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

RELATIVE = (0.75, 1.5, 3.0)
"""Sizes of the boxes that a cell begins with, over four strides; YOLO takes them from the training boxes."""
OVERLAPS = 0.5
"""IoU with an object above which a box that does not learn it is no background either."""


class Cells(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        levels: of the pyramid, of which the finest is the grid.
        depth: convolutions of the head.
        head_norm: of the head.
        bins: of a mask, along each axis.
    """

    def __init__(
        self,
        style: Style,
        pyramid: Maps,
        classes: int,
        *,
        levels: int = 3,
        depth: int = 2,
        head_norm: Norm = "group",
        bins: int = 12,
    ) -> None:
        super().__init__()
        self.grid = looked_at(pyramid, levels)[0]
        self.stride = pyramid.strides[self.grid]
        self.classes = classes
        self.rule = AnchorRule.of([self.stride], RELATIVE, [(1.0,) * style.spatial_dims])
        own = replace(style, norm=head_norm)
        self.head = DenseHead(
            own, pyramid.widths[0], classes, anchors=self.rule.count, depth=depth, centre=True
        )
        self.masks = LabelMasks(bins)

    def begin(self) -> None:
        self.head.begin(prior=0.0)
        nn.init.constant_(cast("nn.Conv2d | nn.Conv3d", self.head.centre).bias, PRIOR)  # type: ignore[arg-type]

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        return self.head([pyramid[self.grid]]), None

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """Squared errors of the boxes, cross-entropy of being an object and of its class, an object."""
        rows, there = self._rows(outputs)
        parts = [self._loss(rows, there[n], n, one) for n, one in enumerate(lesson.objects)]
        return torch.stack(parts).sum() / max(1, sum(map(len, lesson.objects)))

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        rows, there = self._rows(outputs)
        every = []
        for n, scores in enumerate(rows.scores):
            at, classes, sure = choice.surest(torch.sigmoid(scores) * torch.sigmoid(there[n])[:, None])
            boxes = self.placed(rows.offsets[n][at], rows.anchors[0][at])
            found = choice.kept(Found(boxes, sure, classes, sure.new_zeros(len(sure), 0)), outputs.shape)
            every.append(self.masks.instances(outputs, n, found))
        return every

    def _rows(self, outputs: Outputs) -> tuple[Rows, Tensor]:
        """What is said of each box of each cell, and the logit (B, A) that it is an object."""
        there = cast(Tensor, outputs.dense[0].centre).flatten(2).transpose(1, 2).flatten(1)
        return Rows.of(outputs.dense, self.rule, self.classes), there

    def placed(self, offsets: Tensor, cells: Tensor) -> Tensor:
        """Boxes whose middle lies in their cell, of a size that grows from the cell's box (figure 3).

        Args:
            offsets: (N, 2n).
            cells: the boxes (N, 2n) that cells begin with, around their middles.
        """
        shift, growth = offsets.chunk(2, dim=1)
        low, high = cells.chunk(2, dim=1)
        step = torch.tensor(self.stride, dtype=cells.dtype, device=cells.device)
        middle = (low + high) / 2 + (torch.sigmoid(shift) - 0.5) * step
        half = (high - low) / 2 * torch.exp(growth.clamp(max=MOST_GROWTH))
        return torch.cat((middle - half, middle + half), dim=1)

    def learnt(self, cells: Tensor, boxes: Tensor) -> Tensor:
        """The object (A,) that each box of each cell learns: of the cell that its middle lies in, the box
        that is nearest to it in size."""
        found = torch.full((len(cells),), NOTHING, device=cells.device)
        if not len(boxes):
            return found
        low, high = boxes.chunk(2, dim=1)
        middle, size = (low + high) / 2, high - low
        own_low, own_high = cells.chunk(2, dim=1)
        own, own_size = (own_low + own_high) / 2, own_high - own_low
        step = torch.tensor(self.stride, dtype=cells.dtype, device=cells.device)
        away = middle[None] - own[:, None]
        inside = ((away >= -step / 2) & (away < step / 2)).all(dim=2)
        alike = iou(_at_zero(own_size)[:, None], _at_zero(size)[None])
        best = torch.where(inside, alike, -1.0).argmax(dim=0)
        found[best] = torch.arange(len(boxes), device=cells.device)
        return found

    def _loss(self, rows: Rows, there: Tensor, n: int, objects: Objects) -> Tensor:
        """The sum over one patch of a batch."""
        cells, boxes = rows.anchors[0], objects.boxes.to(there.device)
        learns = self.learnt(cells, boxes)
        placed = self.placed(rows.offsets[n], cells)
        if len(boxes):
            near = pairwise_iou(placed.detach(), boxes).amax(dim=1) > OVERLAPS
            learns = torch.where((learns == NOTHING) & near, LEFT_OUT, learns)
            cut = torch.nonzero(~objects.whole).flatten().to(learns.device)
            learns = torch.where(torch.isin(learns, cut), LEFT_OUT, learns)
        own, kept = torch.nonzero(learns >= 0).flatten(), learns != LEFT_OUT
        at = learns[own]
        sure = functional.binary_cross_entropy_with_logits(
            there[kept], (learns[kept] >= 0).float(), reduction="sum"
        )
        wanted = torch.zeros_like(rows.scores[n][own])
        wanted[torch.arange(len(own)), objects.classes.to(at.device)[at]] = 1.0
        classes = functional.binary_cross_entropy_with_logits(rows.scores[n][own], wanted, reduction="sum")
        shift, growth = rows.offsets[n][own].chunk(2, dim=1)
        true_shift, true_growth = self._wanted(boxes[at], cells[own])
        where = ((torch.sigmoid(shift) - true_shift) ** 2).sum() + ((growth - true_growth) ** 2).sum()
        return sure + classes + where

    def _wanted(self, boxes: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Places of middles within cells, in [0, 1], and logarithms of growth."""
        (low, high), (own_low, own_high) = boxes.chunk(2, dim=1), cells.chunk(2, dim=1)
        step = torch.tensor(self.stride, dtype=boxes.dtype, device=boxes.device)
        shift = ((low + high) - (own_low + own_high)) / 2 / step + 0.5
        return shift, torch.log((high - low) / (own_high - own_low))


def _at_zero(sizes: Tensor) -> Tensor:
    """Boxes (N, 2n) of sizes (N, n) around zero."""
    return torch.cat((-sizes / 2, sizes / 2), dim=1)
