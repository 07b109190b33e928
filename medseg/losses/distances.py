"""Maps of distances to the structures of a patch, in mm; no gradient flows through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medseg.core.affine import checked_spacing
from medseg.core.boxes import label_boxes, widened
from medseg.core.components import components
from medseg.losses.base import Loss, Reduction

T = TypeVar("T", bound=np.generic)
SpacingMm = tuple[float, float, float]

REACH = 6.0
"""Sigmas beyond which the border map is taken as 0; it is below 2e-8 there."""


class Measuring(Loss):
    """A loss that measures distances.

    Args:
        spacing_mm: size of a voxel along each axis of a patch.
        regions, reduction: see `losses.base.Loss`.

    Attributes:
        spacing_mm: of the axes of what it is given (see `measure_at`).
    """

    def __init__(self, spacing_mm: SpacingMm, *, regions: bool, reduction: Reduction) -> None:
        super().__init__(regions=regions, reduction=reduction)
        a, b, c = checked_spacing(spacing_mm)
        self.patch_spacing_mm = self.spacing_mm = a, b, c


def measure_at(loss: nn.Module, steps: Sequence[int]) -> None:
    """Tell a loss, or the terms of one, that it is given every n-th voxel of a patch from now on.

    Args:
        loss: one that measures no distances is left as it is.
        steps: n per axis; 1 beyond those given.
    """
    for module in loss.modules():
        if isinstance(module, Measuring):
            a, b, c = (mm * n for mm, n in zip(module.patch_spacing_mm, (*steps, 1, 1, 1), strict=False))
            module.spacing_mm = (a, b, c)


def signed_distances_mm(mask: NDArray[np.bool_], spacing_mm: SpacingMm) -> NDArray[np.float32]:
    """Distance of each voxel to the structure outside of it, minus that to the rest within.

    Within, the smallest spacing is taken off, so that the outermost voxels of the structure lie at 0.

    Args:
        mask: of one to three axes.
        spacing_mm: of the axes; those beyond the mask's are ignored.

    Returns:
        The map; 0 everywhere where the mask has no border.
    """
    import edt

    if mask.all() or not mask.any():
        return np.zeros(mask.shape, np.float32)
    sides = mask.astype(np.uint8) + 1  # of two labels, each voxel's distance is that to the other one
    distance: NDArray[np.float32] = edt.edt(_volume(sides), anisotropy=spacing_mm).reshape(mask.shape)
    return np.where(mask, np.float32(min(spacing_mm[: mask.ndim])) - distance, distance)


def border_map(labels: NDArray[np.integer], sigma_mm: float, spacing_mm: SpacingMm) -> NDArray[np.float32]:
    """exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the distances to the nearest and second-nearest instance.

    An instance is a connected component of one label, and its own voxels are at distance 0 of it. The
    term of U-Net's weight map that w0 multiplies (Ronneberger et al. 2015, arXiv:1505.04597, equation 2).

    Args:
        labels: of one to three axes; 0 is background.
        sigma_mm: the width.
        spacing_mm: of the axes; those beyond the labels' are ignored.

    Returns:
        The map, in [0, 1]; 0 everywhere where there are fewer than two instances.
    """
    import edt

    instances = components(_volume(labels))
    nearest = np.full(instances.shape, np.inf, np.float32)
    second = nearest.copy()
    margin = [int(REACH * sigma_mm / mm) + 1 for mm in spacing_mm]
    for number, box in label_boxes(instances, range(1, int(instances.max(initial=0)) + 1)).items():
        near = widened(box, margin, instances.shape)
        distance = edt.edt(instances[near] != number, anisotropy=spacing_mm)
        second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
        nearest[near] = np.minimum(nearest[near], distance)
    height: NDArray[np.float32] = np.exp(-np.square((nearest + second) / sigma_mm) / 2)
    return height.reshape(labels.shape)


def _volume(array: NDArray[T]) -> NDArray[T]:
    """The array with three axes."""
    return np.ascontiguousarray(array).reshape(*array.shape, *(1,) * (3 - array.ndim))
