"""Boxes in which something may be, of whatever class: the region proposal network.

Ren et al. 2015, arXiv:1506.01497 (Faster R-CNN), section 3.1, on a pyramid (Lin et al. 2017,
arXiv:1612.03144, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.anchored import AnchorRule, Matching, Rows, elongated
from medseg.instances.anchors import looked_at, sampled
from medseg.instances.boxes import encode
from medseg.instances.choice import Choice
from medseg.instances.heads import Dense, DenseHead
from medseg.instances.losses import smooth_l1
from medseg.instances.objects import Objects
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

SAMPLED, SHARE = 256, 0.5
"""Anchors of a patch of which the loss is the mean, and the share of objects among them (section 3.1.3)."""
RELATIVE = (1.0, 2**0.5)
BETA = 1 / 9
"""Where the loss of an offset turns from quadratic to linear."""


class Proposals(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        levels: of the pyramid on which objects are looked for, the coarsest ones.
        depth: convolutions of the head.
        head_norm: of the head.
        matching: how anchors are chosen: "adaptive", "iou", or "" by the number of axes.
    """

    def __init__(
        self, style: Style, pyramid: Maps, *, levels: int, depth: int, head_norm: Norm, matching: Matching
    ) -> None:
        super().__init__()
        self.looked = looked_at(pyramid, levels)
        axes = style.spatial_dims
        aspects = elongated(axes) if axes == 2 else [(1.0,) * axes]
        relative = (1.0,) if axes == 2 else RELATIVE
        strides = [pyramid.strides[n] for n in self.looked]
        self.rule = AnchorRule.of(strides, relative, aspects, matching, 0.3, 0.7)
        own = replace(style, norm=head_norm)
        self.head = DenseHead(own, pyramid.widths[0], 1, anchors=self.rule.count, depth=depth, shared=True)

    def begin(self) -> None:
        self.head.begin(prior=0.0)

    def forward(self, pyramid: list[Tensor]) -> list[Dense]:
        out: list[Dense] = self.head([pyramid[n] for n in self.looked])
        return out

    def teach(self, dense: Sequence[Dense], objects: Sequence[Objects]) -> Tensor:
        """Cross-entropy of being an object, and smooth L1 of the boxes, over a sample (equation 1)."""
        rows = Rows.of(dense, self.rule, 1)
        losses = [_loss(rows, n, self.rule, one) for n, one in enumerate(objects)]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def propose(self, dense: Sequence[Dense], shape: Sequence[int], most: int) -> list[Tensor]:
        """Boxes (R, 2n) of each patch, R at most `most`, the surest first."""
        rows = Rows.of(dense, self.rule, 1)
        choice = Choice(least=0.0, candidates=5 * most, most_iou=0.7, most=most)
        return [
            rows.found(n, torch.sigmoid(scores), shape, choice).boxes for n, scores in enumerate(rows.scores)
        ]


def _loss(rows: Rows, n: int, rule: AnchorRule, objects: Objects) -> Tensor:
    """The mean over the sample of one patch."""
    learns = rule.learnt(rows.anchors, objects)
    kept = sampled(learns, SAMPLED, SHARE)
    own = kept[learns[kept] >= 0]
    there = (learns[kept] >= 0).float()
    sure = functional.binary_cross_entropy_with_logits(rows.scores[n][kept, 0], there)
    wanted = encode(objects.boxes.to(own.device)[learns[own]], torch.cat(rows.anchors)[own])
    placed = smooth_l1(rows.offsets[n][own], wanted, BETA).sum()
    return sure + placed / max(1, len(kept))
