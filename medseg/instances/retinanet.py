"""RetinaNet: every anchor of a pyramid says class and box, and the focal loss keeps the easy ones quiet.

Lin et al. 2017, arXiv:1708.02002, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from medseg.instances.anchored import THIRDS, AnchorRule, Matching, Rows, elongated
from medseg.instances.anchors import LEFT_OUT, looked_at
from medseg.instances.boxes import encode
from medseg.instances.choice import Choice
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import Dense, DenseHead
from medseg.instances.label_masks import LabelMasks
from medseg.instances.losses import focal, smooth_l1
from medseg.instances.objects import Objects
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

BETA = 1 / 9
"""Where the loss of an offset turns from quadratic to linear."""


class FocalAnchors(nn.Module):
    """See the module; in volumes anchors are cubes, and chosen adaptively.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        levels: of the pyramid on which objects are looked for, the coarsest ones.
        depth: convolutions of the head.
        head_norm: of the head.
        matching: how anchors are chosen: "adaptive", "iou", or "" by the number of axes.
        bins: of a mask, along each axis.
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
        matching: Matching = "",
        bins: int = 12,
    ) -> None:
        super().__init__()
        self.looked = looked_at(pyramid, levels)
        self.classes = classes
        axes = style.spatial_dims
        aspects = elongated(axes) if axes == 2 else [(1.0,) * axes]
        self.rule = AnchorRule.of([pyramid.strides[n] for n in self.looked], THIRDS, aspects, matching)
        own = replace(style, norm=head_norm)
        self.head = DenseHead(own, pyramid.widths[0], classes, anchors=self.rule.count, depth=depth)
        self.masks = LabelMasks(bins)

    def begin(self) -> None:
        self.head.begin()

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        return self.head([pyramid[n] for n in self.looked]), None

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """Focal loss of the scores and smooth L1 of the boxes, a learnt anchor."""
        rows = Rows.of(outputs.dense, self.rule, self.classes)
        learns = [self.rule.learnt(rows.anchors, one) for one in lesson.objects]
        count = max(1, sum(int((found >= 0).sum()) for found in learns))
        losses = [_loss(rows, n, learns[n], one) for n, one in enumerate(lesson.objects)]
        return torch.stack(losses).sum() / count

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        rows = Rows.of(outputs.dense, self.rule, self.classes)
        sure = torch.sigmoid(rows.scores)
        found = [rows.found(n, one, outputs.shape, choice) for n, one in enumerate(sure)]
        return [self.masks.instances(outputs, n, one) for n, one in enumerate(found)]


def _loss(rows: Rows, n: int, learns: Tensor, objects: Objects) -> Tensor:
    """The sum over one patch of a batch."""
    own, kept = torch.nonzero(learns >= 0).flatten(), learns != LEFT_OUT
    at = learns[own]
    wanted = torch.zeros_like(rows.scores[n])
    wanted[own, objects.classes.to(own.device)[at]] = 1.0
    scores = focal(rows.scores[n][kept], wanted[kept]).sum()
    offsets = encode(objects.boxes.to(own.device)[at], torch.cat(rows.anchors)[own])
    return scores + smooth_l1(rows.offsets[n][own], offsets, BETA).sum()
