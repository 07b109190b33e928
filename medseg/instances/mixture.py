"""Masks of objects as mixtures of a few maps of the whole image.

Chen et al. 2020, arXiv:2001.00309 (BlendMask), section 3: of each object, the maps are cut out by its box,
and every bin of the box says how much of each map it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medseg.instances.losses import mask_loss
from medseg.instances.objects import Objects
from medseg.instances.pooling import roi_align

MODES = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Mixture:
    """How masks are made.

    Attributes:
        count: of the maps.
        stride: voxels of the image per voxel of a map, per axis.
        bins: of a mask, along each axis.
        attention: places of a box, along each axis, at which the shares of the maps are said.
    """

    count: int
    stride: tuple[int, ...]
    bins: int = 12
    attention: int = 4

    @property
    def numbers(self) -> int:
        """Numbers that a head says of each object."""
        return int(self.count * self.attention ** len(self.stride))

    def masks(self, bases: Tensor, boxes: Tensor, shares: Tensor) -> Tensor:
        """Logits (R, *bins) of the masks of boxes.

        Args:
            bases: the maps of one patch, (count, *S / stride).
            boxes: (R, 2n), in voxels of the patch.
            shares: what the head says of each, (R, numbers).
        """
        axes = len(self.stride)
        cut = roi_align(bases, boxes / _twice(self.stride, boxes), (self.bins,) * axes)
        said = shares.reshape(-1, self.count, *(self.attention,) * axes)
        sides = (self.bins,) * axes
        finer = functional.interpolate(said, size=sides, mode=MODES[axes], align_corners=False)
        return (cut * torch.softmax(finer, dim=1)).sum(dim=1)

    def wanted(self, codes: Tensor, objects: Objects) -> Tensor:
        """The share (R, *bins) of each bin of each object's box that is the object's."""
        axes = len(self.stride)
        masks = [
            roi_align((codes == code).float()[None], box[None], (self.bins,) * axes)[0, 0]
            for code, box in zip(objects.codes.tolist(), objects.boxes.to(codes.device), strict=True)
        ]
        return torch.stack(masks)

    def teach(self, bases: Tensor, boxes: Tensor, shares: Tensor, wanted: Tensor) -> Tensor:
        """The loss of each mask, (R,)."""
        return mask_loss(self.masks(bases, boxes, shares), wanted)


def _twice(stride: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([*stride, *stride], dtype=like.dtype, device=like.device)
