"""Masks of objects as mixtures of a few maps of the whole image.

Chen et al. 2020, arXiv:2001.00309 (BlendMask), section 3: of each object, the maps are cut out by its box,
and every bin of the box says how much of each map it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.choice import Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import Bases
from medseg.instances.losses import mask_loss
from medseg.instances.objects import Objects, shares_of
from medseg.instances.pooling import roi_align
from medseg.networks.parts import Maps, Style

MODES = {2: "bilinear", 3: "trilinear"}
MOST_MASKS = 64
"""Points of a patch whose masks are learnt at a step."""


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


class Mixtures(nn.Module):
    """The maps that masks are mixtures of, and what is learnt of the masks.

    Args:
        style: of the convolutions.
        pyramid: its maps.
        count, bins, attention: see `Mixture`.
    """

    def __init__(self, style: Style, pyramid: Maps, *, count: int, bins: int, attention: int) -> None:
        super().__init__()
        self.bases = Bases(style, pyramid, count=count, head=pyramid.widths[0])
        self.rule = Mixture(count, self.bases.stride, bins, attention)
        self.numbers = self.rule.numbers

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """The maps (B, count, *S / stride)."""
        out: Tensor = self.bases(pyramid)
        return out

    def teach(self, outputs: Outputs, shares: Tensor, learns: Sequence[Tensor], lesson: Lesson) -> Tensor:
        """The mean loss of the masks of some points that learn an object.

        Args:
            outputs: whose further map has the maps.
            shares: what the head says of each point (B, P, numbers).
            learns: of each patch the number of the object that each point learns.
            lesson: of the batch.
        """
        losses = [
            self._losses(outputs.more[n], shares[n], learnt, lesson.codes[n], lesson.objects[n])
            for n, learnt in enumerate(learns)
        ]
        every = torch.cat(losses)
        return every.mean() if len(every) else every.sum()

    def _losses(
        self, bases: Tensor, shares: Tensor, learns: Tensor, codes: Tensor, objects: Objects
    ) -> Tensor:
        own = torch.nonzero(learns >= 0).flatten()
        if not len(own):
            return bases.new_zeros(0)
        own = own[torch.randperm(len(own), device=own.device)[:MOST_MASKS]]
        at, boxes = learns[own], objects.boxes.to(bases.device)
        wanted = shares_of(codes, objects.codes.tolist(), boxes, self.rule.bins)
        return mask_loss(self.rule.masks(bases, boxes[at], shares[own]), wanted[at])

    def instances(self, outputs: Outputs, n: int, found: Found) -> list[Instance]:
        """The objects of patch n with their masks."""
        if not len(found.scores):
            return []
        masks = torch.sigmoid(self.rule.masks(outputs.more[n], found.boxes, found.more))
        rows = zip(found.boxes, found.classes.tolist(), found.scores.tolist(), masks, strict=True)
        return [Instance(*row) for row in rows]


def _twice(stride: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([*stride, *stride], dtype=like.dtype, device=like.device)
