"""PANet: a box is looked at on every level at once, and its mask has a branch of full connections beside.

Liu et al. 2018, arXiv:1803.01534, sections 3.2 and 3.3; the path from fine to coarse is the pyramid's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from medseg.instances.heads import BoxHead, MaskHead
from medseg.instances.mask_rcnn import MASK_BINS, own_class
from medseg.instances.pooling import roi_align
from medseg.instances.regions import Patch, on_map
from medseg.model.spec import Norm
from medseg.networks.layers import PerAxis
from medseg.networks.parts import Maps, Style

REDUCED = 8
"""Channels before the full connections of a volume's mask, which would otherwise have 136 million weights."""


class AllLevels(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        head_norm: of the heads.
        box_bins: of what is pooled for class and box, along each axis.
        mask_bins: of what is pooled for the mask, which has twice as many; 0 for 14 in images, 7 in volumes.
        hidden: channels of the full connections.
    """

    masked = True
    rounds = 1

    def __init__(
        self,
        style: Style,
        pyramid: Maps,
        classes: int,
        *,
        head_norm: Norm = "none",
        box_bins: int = 7,
        mask_bins: int = 0,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        own = replace(style, norm=head_norm)
        self.strides = pyramid.strides
        self.box_bins = style.sized(box_bins)
        self.mask_bins = style.sized(mask_bins or MASK_BINS[style.spatial_dims])
        width = pyramid.widths[0]
        bins = math.prod(self.box_bins)
        self.first = nn.ModuleList(nn.Linear(width * bins, hidden) for _ in self.strides)
        self.box = BoxHead(own, hidden, (1,) * style.spatial_dims, classes, hidden=hidden, full=1)
        self.level = nn.ModuleList(own.unit(width, width) for _ in self.strides)
        self.before = nn.Sequential(own.unit(width, width), own.unit(width, width))
        self.mask = MaskHead(own, width, classes, convs=1)
        self.beside = WholeMask(own, width, self.mask_bins)

    def begin(self) -> None:
        self.box.begin()

    def say(self, pyramid: list[Tensor]) -> None:
        """Boxes are cut from the pyramid itself."""

    def classify(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        cut = self._cut(patch, boxes, self.box_bins)
        seen = [first(x.flatten(1)) for first, x in zip(self.first, cut, strict=True)]
        found: tuple[Tensor, Tensor] = self.box(torch.relu(_highest(seen)))
        return found

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        cut = self._cut(patch, boxes, self.mask_bins)
        seen = self.before(_highest([level(x) for level, x in zip(self.level, cut, strict=True)]))
        beside: Tensor = self.beside(seen)
        return own_class(self.mask(seen), classes) + beside

    def _cut(self, patch: Patch, boxes: Tensor, bins: PerAxis) -> list[Tensor]:
        """Of every level."""
        levels = zip(patch.pyramid, self.strides, strict=True)
        return [roi_align(x, on_map(boxes, stride), bins) for x, stride in levels]


class WholeMask(nn.Module):
    """A mask of no class by full connections, which see the whole box (section 3.3).

    Args:
        style: of the convolutions.
        width: channels of what was pooled.
        bins: along each axis; the mask has twice as many.
    """

    def __init__(self, style: Style, width: int, bins: PerAxis) -> None:
        super().__init__()
        half = width // 2 if style.spatial_dims == 2 else min(REDUCED, width // 2)
        self.convs = nn.Sequential(style.unit(width, width), style.unit(width, half))
        self.sides = tuple(2 * n for n in bins)
        self.full = nn.Linear(half * math.prod(bins), math.prod(self.sides))

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, *2 bins), to be added to the logits of every class."""
        out: Tensor = torch.relu(self.full(self.convs(pooled).flatten(1)))
        return out.reshape(len(pooled), *self.sides)


def _highest(maps: Sequence[Tensor]) -> Tensor:
    """The maximum over levels."""
    return torch.stack(list(maps)).amax(dim=0)
