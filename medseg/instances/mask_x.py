"""Mask^X R-CNN: the last layer of a class's mask is computed from what scores and places its boxes.

Hu et al. 2018, arXiv:1711.10370, section 3. It was made so that classes without masks get some; here every
structure has masks, and what it learns from one structure it knows of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.instances.mask_rcnn import PooledRegions
from medseg.instances.panet import WholeMask
from medseg.instances.regions import Patch, pooled
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

SLOPE = 0.1
"""Of the leaky ReLU between the two layers of the transfer."""


class TransferredMasks(PooledRegions):
    """See the module; the mask of no class is that of full connections (section 3.3).

    Args:
        style, pyramid, classes, head_norm, box_bins, mask_bins, hidden, convs: see `PooledRegions`.
    """

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
        convs: int = 4,
    ) -> None:
        super().__init__(
            style,
            pyramid,
            classes,
            head_norm=head_norm,
            box_bins=box_bins,
            mask_bins=mask_bins,
            hidden=hidden,
            convs=convs,
        )
        width, axes = pyramid.widths[0], style.spatial_dims
        self.mask.score = nn.Identity()  # its weights are those of the transfer
        told = hidden * (1 + 2 * axes)
        self.transfer = nn.Sequential(nn.Linear(told, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width))
        self.beside = WholeMask(style, width, self.mask_bins)

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        cut = pooled(patch, self.strides, boxes, self.mask_bins)
        weights = self.weights()[classes]
        found = torch.einsum("rw...,rw->r...", self.mask(cut), weights)
        beside: Tensor = self.beside(cut)
        return found + beside

    def weights(self) -> Tensor:
        """The last layer (K, W) of each structure's mask; no gradient goes back to the boxes' weights."""
        scores = self.box.scores.weight.detach()
        boxes = self.box.boxes.weight.detach().reshape(len(scores), -1)
        out: Tensor = self.transfer(torch.cat((scores, boxes), dim=1)[1:])
        return out
