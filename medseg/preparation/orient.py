"""Axis order: any of the 48 ways to store one scan, to RAS+ and back, without changing a value."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import axis_order
from medseg.core.volume import Grid

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Reorientation:
    """A permutation of the three array axes, then a flip of some of them.

    Attributes:
        axes: for each new axis, the old axis it is.
        flips: for each new axis, whether it runs the other way.

    >>> turn = Reorientation(axes=(1, 0, 2), flips=(True, False, False))
    >>> turn.forward(np.arange(6).reshape(1, 2, 3, 1)).shape
    (1, 3, 2, 1)
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def _flip(self) -> tuple[EllipsisType, slice, slice, slice]:
        i, j, k = (slice(None, None, -1 if flip else None) for flip in self.flips)
        return ..., i, j, k

    def grid(self, grid: Grid) -> Grid:
        """The same voxels in the same places of the world, indexed by the new axes."""
        step = np.zeros((4, 4))
        step[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            step[old, new] = -1.0 if flip else 1.0
            step[old, 3] = grid.shape[old] - 1 if flip else 0.0
        return Grid([grid.shape[old] for old in self.axes], grid.affine @ step)

    def forward(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """View of `array` (..., I, J, K) in the new order; nothing is copied."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return turned[self._flip]

    def backward(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """View of `array` (..., i, j, k), which is in the new order, in the old one."""
        lead = array.ndim - 3
        unflipped = array[self._flip]
        return unflipped.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))


def canonical(grid: Grid) -> Reorientation:
    """The reorientation after which I, J, K grow towards right, anterior and superior (RAS+).

    An oblique grid keeps its obliqueness: every axis goes to the world axis it is nearest to.
    """
    world, sign = axis_order(grid.affine)
    axes = (world.index(0), world.index(1), world.index(2))
    return Reorientation(axes=axes, flips=(sign[axes[0]] < 0, sign[axes[1]] < 0, sign[axes[2]] < 0))
