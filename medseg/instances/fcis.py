"""FCIS: maps of each part of an object, inside and outside of it, score its box and give its mask at once.

Li et al. 2017, arXiv:1611.07709, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.instances.mask_rcnn import own_class
from medseg.instances.pooling import position_sensitive
from medseg.instances.regions import Patch, on_map
from medseg.instances.rfcn import CELLS
from medseg.networks.parts import Maps, Style

FINER = {2: 3, 3: 4}
"""Bins of a part along each axis: masks of 21 by 21, or 12 cubed."""


class InsideOutside(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps, of which the finest that boxes are proposed on has the scores.
        classes: K, structures.
        levels: of the pyramid on which boxes are proposed, the coarsest ones.
        cells: parts of a box along each axis; 0 for 7 in images, 3 in volumes.
    """

    masked = True
    rounds = 2

    def __init__(self, style: Style, pyramid: Maps, classes: int, *, levels: int = 3, cells: int = 0) -> None:
        super().__init__()
        self.level = len(pyramid.widths[-levels:])
        self.stride = pyramid.strides[-self.level]
        self.cells, self.finer = cells or CELLS[style.spatial_dims], FINER[style.spatial_dims]
        parts = self.cells**style.spatial_dims
        self.scores = parts * 2 * (classes + 1)
        self.map = style.conv(pyramid.widths[-self.level], self.scores + parts * 2 * style.spatial_dims)

    def begin(self) -> None:
        """As other layers."""

    def say(self, pyramid: list[Tensor]) -> Tensor:
        """Inside and outside of every class by every part, then the offsets of any class by every part."""
        out: Tensor = self.map(pyramid[-self.level])
        return out

    def classify(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """A class scores by the mean over the box of the higher of inside and outside (section 3.1)."""
        scores = torch.maximum(*self._pooled(patch, boxes)).flatten(2).mean(2)
        own = on_map(boxes, self.stride)
        offsets = position_sensitive(patch.more[self.scores :], own, self.cells).flatten(2).mean(2)
        return scores, offsets[:, None].expand(-1, scores.shape[1], -1)

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        """The logit of a softmax over inside and outside of the box's class."""
        inside, outside = self._pooled(patch, boxes)
        return own_class((inside - outside)[:, 1:], classes)

    def _pooled(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Inside and outside (R, K + 1, *bins)."""
        own = on_map(boxes, self.stride)
        found = position_sensitive(patch.more[: self.scores], own, self.cells, self.finer)
        inside, outside = found.chunk(2, dim=1)
        return inside, outside
