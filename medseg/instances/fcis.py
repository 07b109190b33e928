"""FCIS: maps of each part of an object, inside and outside of it, score its box and give its mask at once.

Li et al. 2017, arXiv:1611.07709, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.instances.mask_rcnn import own_class
from medseg.instances.pooling import position_sensitive
from medseg.instances.regions import Patch, on_map
from medseg.instances.rfcn import VotingRegions

FINER = {2: 3, 3: 4}
"""Bins of a part along each axis: masks of 21 by 21, or 12 cubed."""


class InsideOutside(VotingRegions):
    """See the module, and `VotingRegions` for its arguments."""

    masked = True
    rounds = 2
    of_a_class = 2

    def scored(self, patch: Patch, boxes: Tensor) -> Tensor:
        """The higher of inside and outside (section 3.1)."""
        return torch.maximum(*self._sides(patch, boxes))

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        """The logit of a softmax over inside and outside of the box's class."""
        inside, outside = self._sides(patch, boxes)
        return own_class((inside - outside)[:, 1:], classes)

    def _sides(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Inside and outside (R, K + 1, *bins)."""
        finer = FINER[boxes.shape[1] // 2]
        own = on_map(boxes, self.stride)
        inside, outside = position_sensitive(patch.more[: self.scores], own, self.cells, finer).chunk(
            2, dim=1
        )
        return inside, outside
