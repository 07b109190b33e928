"""Patches for a 2D network: slices across an axis of choice, with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from medseg.augment.compose import Augmenter
from medseg.model.spec import SliceSpec

T = TypeVar("T")


class SliceAugmenter:
    """Draws patches of a few slices through an `Augmenter`, and hands the neighbours on as channels.

    Args:
        inner: changes the patch, in three dimensions.
        spec: across which axes slices are cut, and how many neighbours a network sees.
    """

    def __init__(self, inner: Augmenter, spec: SliceSpec) -> None:
        self.inner = inner
        self.spec = spec

    def target(self, labels: Tensor) -> Tensor:
        """The labels themselves."""
        return labels

    def source_shape(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels of the volume that a slice spans, along canonical axes; what all axes have in common."""
        shapes = [turned(patch_shape, axis) for axis in self.spec.axes]
        return tuple(min(sizes) for sizes in zip(*shapes, strict=True))

    def draw(
        self,
        generator: torch.Generator,
        image: Tensor,
        labels: Tensor,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
        progress: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """A changed slice ((1 + 2 context) C, i, j) of a volume (C, I, J, K), and its labels (i, j).

        Args:
            generator: its state decides everything.
            image: the volume.
            labels: its label indices (I, J, K).
            centre_voxels: of the patch.
            patch_shape: (i, j, 1) of the slice.
            progress: of the training, in [0, 1].
        """
        axis = self.spec.axes[0]
        if len(self.spec.axes) > 1:
            axis = self.spec.axes[int(torch.randint(len(self.spec.axes), (), generator=generator))]
        thick = (*patch_shape[:2], 1 + 2 * self.spec.context)
        patch, cut = self.inner.draw(generator, image, labels, centre_voxels, turned(thick, axis), progress)
        slices = patch.swapaxes(axis + 1, 3).movedim(3, 0).flatten(0, 1)
        return slices, cut.swapaxes(axis, 2)[..., self.spec.context]


def turned(sizes: Sequence[T], axis: int) -> tuple[T, ...]:
    """Three sizes with that of `axis` and the last one exchanged."""
    order = [0, 1, 2]
    order[axis], order[2] = 2, axis
    return tuple(sizes[n] for n in order)
