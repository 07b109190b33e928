"""Squared distance from points of a grid to the nearest of other points, as far as a window reaches.

A Euclidean distance transform, axis by axis: along the first, a loop over planes to and fro counts the
voxels to the nearest target; along the second, the smallest of the values in the window is taken, each
with the square of its offset; along the third the same, but only where a point asks for it and only
until nothing nearer can come. What lies outside the windows is farther than they reach, so that each
square up to `Windows.limit` is the smallest there is. All work is done by numpy on whole planes, without
Python's lock, so that several of these run side by side.

References:
    The transform, axis by axis: Saito and Toriwaki 1994, doi:10.1016/0031-3203(94)90133-3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Axes = NDArray[np.integer]
"""Coordinates of points, (axes, N)."""

FARTHEST = 126
"""Voxels along the first axis that windows reach at most: a byte counts them, and the squares of what
lies outside fit in two."""

BLOCK_VOXELS = 1 << 19
"""Voxels whose squares are worked on at a time, one plane at least: they stay in the processor's cache."""

SHARE_TO_GO_ON = 0.8
"""Points done with are dropped where the others are no more than this share of all."""

ROUNDING = 1e-6
"""Largest relative error of a square in float32."""


@dataclass(frozen=True)
class Windows:
    """How far is looked, and in what the squares are counted.

    Attributes:
        passes: the axes in the order in which they are gone along: the finest, the coarsest, the other.
        reach: voxels to either side along each axis.
        spacing: between voxels along each axis, in the unit that is squared.
        limit: the largest square that is sure to be the smallest.
        whole: the voxels are cubes and the unit, so that squares are whole numbers; otherwise it is mm.
    """

    passes: tuple[int, ...]
    reach: tuple[int, ...]
    spacing: tuple[float, ...]
    limit: float
    whole: bool

    @classmethod
    def of(cls, spacing_mm: Sequence[float], cubes: int) -> Windows:
        """Windows that reach so many cubes, or about as many voxels where these are none.

        Args:
            spacing_mm: along two or three axes.
            cubes: `FARTHEST` at most.
        """
        finest, *others = sorted(range(len(spacing_mm)), key=spacing_mm.__getitem__)
        passes = (finest, *reversed(others))
        if len(set(spacing_mm)) == 1:
            return cls(passes, (cubes,) * len(passes), (1,) * len(passes), cubes**2, whole=True)
        side = math.prod(spacing_mm) ** (1 / len(spacing_mm))
        radius = min(cubes * side, FARTHEST * spacing_mm[finest])
        reach = tuple(int(radius / mm) for mm in spacing_mm)
        return cls(passes, reach, tuple(spacing_mm), radius**2 * (1 - ROUNDING), whole=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.whole else np.float32)

    def square(self, axis: int, offset: int) -> Any:
        return self.dtype.type((offset * self.spacing[axis]) ** 2)

    def box(self, points: Axes, targets: Axes) -> tuple[NDArray[np.int32], tuple[int, ...]]:
        """The first voxel, (axes, 1), and the shape of the box that decides the squares of points."""
        low, shape = [], []
        for here, there, far in zip(points, targets, self.reach, strict=True):
            first, last = int(here.min()), int(here.max())
            start = max(first - far, min(first, int(there.min())))
            low.append(start)
            shape.append(min(last + far, max(last, int(there.max()))) + 1 - start)
        return np.array(low, np.int32)[:, None], tuple(shape)


def nearest_squares(points: Axes, targets: Axes, windows: Windows) -> NDArray[Any]:
    """Square of the distance from each point to the nearest target, (N,); unsure above the limit."""
    low, every = windows.box(points, targets)
    at, near = points - low, targets - low
    for axis, size in enumerate(every):
        if near[axis].min(initial=0) < 0 or near[axis].max(initial=0) >= size:
            near = near.take(np.flatnonzero((near[axis] >= 0) & (near[axis] < size)), axis=1)
    first, *between, last = windows.passes
    pad = min(windows.reach[last], every[last] - 1)
    shape = every[first], math.prod(every[axis] for axis in between), every[last] + pad
    strides = {last: 1, **dict.fromkeys(between, shape[2]), first: shape[1] * shape[2]}
    steps_of_axes = np.array([[strides[axis] for axis in range(len(every))]])
    flat, sites = ((steps_of_axes @ axes)[0] for axes in (at, near))
    steps = _to_nearest_plane(sites, shape, windows.reach[first])
    order = np.argsort(flat)
    flat, found = flat[order], np.empty(order.size, windows.dtype)
    planes = max(1, BLOCK_VOXELS // strides[first])
    starts = range(0, shape[0] + planes, planes)
    ends = np.searchsorted(flat, [plane * strides[first] for plane in starts]).tolist()
    for plane, (start, stop) in zip(starts, itertools.pairwise(ends), strict=False):
        if start < stop:
            inside = flat[start:stop] - plane * strides[first]
            found[order[start:stop]] = _of_block(steps[plane : plane + planes], inside, pad, windows)
    return found


def _to_nearest_plane(sites: NDArray[np.intp], shape: tuple[int, ...], reach: int) -> NDArray[np.uint8]:
    """Voxels along the first axis to the nearest of the sites, one more than the reach where farther."""
    steps = np.full(shape, reach + 1, np.uint8)
    steps.reshape(-1)[sites] = 0
    farther = np.empty_like(steps[0])
    for planes in (steps, steps[::-1]):
        for before, here in itertools.pairwise(planes):
            np.add(before, np.uint8(1), out=farther)
            np.minimum(here, farther, out=here)
    return steps


def _of_block(steps: NDArray[np.uint8], flat: NDArray[np.intp], pad: int, windows: Windows) -> NDArray[Any]:
    """Squares at the flat positions of points in some planes, whose rows end in as much as the pad."""
    first, *between, last = windows.passes
    padded = np.full(pad + steps.size, windows.square(first, windows.reach[first] + 1))
    nearest = padded[pad:].reshape(steps.shape)
    np.multiply(steps, windows.dtype.type(windows.spacing[first]), out=nearest)
    np.multiply(nearest, nearest, out=nearest)
    for axis in between:
        along, shifted = nearest.copy(), np.empty_like(nearest)
        for offset in range(1, min(windows.reach[axis], steps.shape[1] - 1) + 1):
            np.add(along, windows.square(axis, offset), out=shifted)
            np.minimum(nearest[:, offset:], shifted[:, :-offset], out=nearest[:, offset:])
            np.minimum(nearest[:, :-offset], shifted[:, offset:], out=nearest[:, :-offset])
    squares = [windows.square(last, offset) for offset in range(pad + 1)]
    return _along_rows(padded, flat, squares)


def _along_rows(padded: NDArray[Any], flat: NDArray[np.intp], squares: list[Any]) -> NDArray[Any]:
    """The smallest value in the row of each point, each with the square of its offset."""
    pad = len(squares) - 1
    found = best = padded[pad:].take(flat)
    left = np.arange(flat.size)
    for offset in range(1, pad + 1):
        more = np.flatnonzero(best > squares[offset])
        if not more.size:
            break
        if more.size <= SHARE_TO_GO_ON * left.size:
            found[left] = best
            best, left, flat = best.take(more), left.take(more), flat.take(more)
        beside = np.minimum(padded[pad + offset :].take(flat), padded[pad - offset :].take(flat))
        beside += squares[offset]
        best = np.minimum(best, beside)
    found[left] = best
    return found
