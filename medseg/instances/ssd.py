"""SSD: every level has a head of its own for its anchors, and learns the hardest background beside objects.

Liu et al. 2016, arXiv:1512.02325, section 2. Its levels are here those of a feature pyramid.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.anchored import AnchorRule, Matching, Rows, elongated
from medseg.instances.anchors import NOTHING, looked_at
from medseg.instances.boxes import encode
from medseg.instances.choice import Choice
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import Dense, DenseHead
from medseg.instances.label_masks import LabelMasks
from medseg.instances.losses import smooth_l1
from medseg.instances.objects import Objects
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

HARD = 3
"""Background anchors for each that learns an object (section 2.2)."""
RELATIVE = (1.0, 2**0.5)


class LevelAnchors(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        levels: of the pyramid on which objects are looked for, the coarsest ones.
        depth: convolutions of each head before its last.
        head_norm: of the heads.
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
        depth: int = 0,
        head_norm: Norm = "group",
        matching: Matching = "",
        bins: int = 12,
    ) -> None:
        super().__init__()
        self.looked = looked_at(pyramid, levels)
        self.numbers = classes + 1
        aspects = elongated(style.spatial_dims)
        strides = [pyramid.strides[n] for n in self.looked]
        self.rule = AnchorRule.of(strides, RELATIVE, aspects, matching, 0.5, 0.5)
        own = replace(style, norm=head_norm)
        self.heads = nn.ModuleList(
            DenseHead(own, pyramid.widths[n], self.numbers, anchors=self.rule.count, depth=depth)
            for n in self.looked
        )
        self.masks = LabelMasks(bins)

    def begin(self) -> None:
        for head in self.heads:
            head.begin(prior=0.0)  # type: ignore[operator]

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        return [head([pyramid[n]])[0] for head, n in zip(self.heads, self.looked, strict=True)], None

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """Cross-entropy of the scores and smooth L1 of the boxes, a learnt anchor (equation 1)."""
        rows = Rows.of(outputs.dense, self.rule, self.numbers)
        learns = [self.rule.learnt(rows.anchors, one) for one in lesson.objects]
        count = max(1, sum(int((found >= 0).sum()) for found in learns))
        losses = [_loss(rows, n, learns[n], one) for n, one in enumerate(lesson.objects)]
        return torch.stack(losses).sum() / count

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        rows = Rows.of(outputs.dense, self.rule, self.numbers)
        sure = torch.softmax(rows.scores, dim=2)[..., 1:]
        found = [rows.found(n, one, outputs.shape, choice) for n, one in enumerate(sure)]
        return [self.masks.instances(outputs, n, one) for n, one in enumerate(found)]


def _loss(rows: Rows, n: int, learns: Tensor, objects: Objects) -> Tensor:
    """The sum over one patch of a batch: of anchors that learn objects, and of the hardest others."""
    own = torch.nonzero(learns >= 0).flatten()
    at = learns[own]
    wanted = torch.zeros(len(learns), dtype=torch.int64, device=own.device)
    wanted[own] = objects.classes.to(own.device)[at] + 1
    entropy = functional.cross_entropy(rows.scores[n], wanted, reduction="none")
    background = entropy[learns == NOTHING]
    hardest = background.topk(min(max(HARD * len(own), 1), len(background))).values
    offsets = encode(objects.boxes.to(own.device)[at], torch.cat(rows.anchors)[own])
    return entropy[own].sum() + hardest.sum() + smooth_l1(rows.offsets[n][own], offsets).sum()
