"""Voxel size, patch and levels of a network, from the extent of the scans and the voxels of a patch.

The rules for anisotropic voxels are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z,
supplementary note 2): an axis is neither pooled nor convolved along while its voxels are twice as long as the
shortest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Lengths = tuple[float, float, float]
Sizes = tuple[int, int, int]

MOST_COARSE = 2.0
"""Voxels are made longer than the scans' shortest by this factor at most."""

VOXELS_ACROSS = 16.0
"""Voxels across the thinnest structure that are kept when voxels are made longer."""

LEAST_MAP = 4
"""Voxels along an axis of the coarsest map."""

STEP = 1.02
"""By which voxels are made longer at a time until a patch holds a whole scan."""

MOST_LEVELS = 6
ANISOTROPIC = 2.0
WHOLE_SHARE = 1.15
"""A patch may have this share more of the voxels it may have, where it holds a whole scan with them."""


@dataclass(frozen=True)
class Geometry:
    """What a network sees of a scan.

    Attributes:
        spacing_mm: voxels it sees.
        patch: voxels of a patch.
        kernels: of each level.
        strides: between the levels.
        whole: whether a patch holds a whole scan of the usual extent.
    """

    spacing_mm: Lengths
    patch: Sizes
    kernels: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    whole: bool

    @property
    def levels(self) -> int:
        return len(self.kernels)


def geometry(extent_mm: Lengths, spacing_mm: Lengths, thinnest_mm: float, voxels: float) -> Geometry:
    """Voxel size, patch and levels.

    Voxels stay as they are where a whole scan fits into a patch; else they are made longer, the shortest
    first, until it does, by `MOST_COARSE` at most.

    Args:
        extent_mm: of a usual scan.
        spacing_mm: of a usual scan.
        thinnest_mm: what the thinnest structure measures.
        voxels: that a patch may have.

    >>> found = geometry((125.0, 87.5, 55.0), (0.625, 0.625, 0.625), 48.0, 300_000)
    >>> found.spacing_mm, found.patch, found.levels, found.whole
    ((1.25, 1.25, 1.25), (96, 64, 48), 5, True)
    >>> found = geometry((44.8, 44.8, 60.0), (0.7, 0.7, 6.0), 20.0, 32_768)
    >>> found.spacing_mm, found.patch, found.whole
    ((0.8, 0.8, 6.0), (56, 56, 10), True)
    """
    shortest = min(_of_many(extent_mm, spacing_mm))
    coarsest = max(shortest, min(MOST_COARSE * shortest, thinnest_mm / VOXELS_ACROSS))
    found = _geometry_at(_coarsened(extent_mm, spacing_mm, coarsest, voxels), extent_mm, voxels)
    longer = min(_of_many(extent_mm, found.spacing_mm))
    while not found.whole and longer * STEP <= coarsest:  # patches come in multiples, which may not hold it
        longer *= STEP
        other = _geometry_at(_lengthened(extent_mm, spacing_mm, round(longer, 2)), extent_mm, voxels)
        found = other if other.whole else found
    return found


def whole_geometry(extent_mm: Lengths, spacing_mm: Lengths, voxels: float) -> Geometry:
    """As `geometry`, with voxels as long as it takes for a patch to hold a whole scan.

    >>> whole_geometry((300.0, 300.0, 400.0), (1.0, 1.0, 2.0), 300_000).spacing_mm
    (4.93, 4.93, 4.93)
    """
    return _geometry_at(_coarsened(extent_mm, spacing_mm, max(extent_mm), voxels), extent_mm, voxels)


def _geometry_at(seen: Lengths, extent_mm: Lengths, voxels: float) -> Geometry:
    """Patch and levels for a voxel size."""
    sizes = [math.ceil(e / s - 1e-6) for e, s in zip(extent_mm, seen, strict=True)]
    sizes = [max(2 * LEAST_MAP, n) if n > 1 else 1 for n in sizes]
    patch = _shrunk(sizes, seen, voxels)
    kernels, strides = _levels(patch, seen)
    steps = [math.prod(axis) for axis in zip(*strides, strict=True)] if strides else [1, 1, 1]
    rounded = _rounded(patch, steps, voxels)
    whole = all(p >= 0.9 * n for p, n in zip(rounded, sizes, strict=True))
    return Geometry(seen, rounded, kernels, strides, whole)


def fixed_geometry(extent_mm: Lengths, spacing_mm: Lengths, steps: Sizes, voxels: float) -> Geometry:
    """The patch for a network whose voxel size and total strides are given.

    Args:
        extent_mm: of a usual scan.
        spacing_mm: that the network sees.
        steps: its total stride along each axis.
        voxels: that a patch may have.

    >>> fixed_geometry((120.0, 90.0, 55.0), (1.0, 1.0, 1.0), (8, 8, 8), 200_000).patch
    (64, 64, 56)
    """
    sizes = [
        max(step, math.ceil(e / s - 1e-6)) for e, s, step in zip(extent_mm, spacing_mm, steps, strict=True)
    ]
    patch = _rounded(_shrunk(sizes, spacing_mm, voxels), steps, voxels)
    whole = all(p >= 0.9 * n for p, n in zip(patch, sizes, strict=True))
    return Geometry(spacing_mm, patch, (), (), whole)


def _of_many(extent: Lengths, spacing: Lengths) -> list[float]:
    """Sides of the voxels along the axes that have several; all, where none has."""
    sides = [s for e, s in zip(extent, spacing, strict=True) if e > 1.5 * s]
    return sides or list(spacing)


def _lengthened(extent: Lengths, spacing: Lengths, shortest: float) -> Lengths:
    """Voxels at least so long along the axes that have several."""
    i, j, k = (max(s, shortest) if e > 1.5 * s else s for e, s in zip(extent, spacing, strict=True))
    return i, j, k


def _coarsened(extent: Lengths, spacing: Lengths, coarsest: float, voxels: float) -> Lengths:
    """Voxels of which a scan has no more than `voxels`, if the coarsest are enough for that."""

    def count(shortest: float) -> float:
        sides = _lengthened(extent, spacing, shortest)
        return math.prod(e / s for e, s in zip(extent, sides, strict=True))

    low, high = min(_of_many(extent, spacing)), coarsest
    if count(low) <= voxels:
        return spacing
    if count(high) < voxels:
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if count(middle) > voxels else (low, middle)
    return _lengthened(extent, spacing, round(high, 2))


def _shrunk(sizes: Sequence[int], spacing: Lengths, voxels: float) -> list[int]:
    """Sizes with no more voxels in all: the axis that is longest in mm gives way first."""
    patch = list(sizes)
    while math.prod(patch) > voxels:
        longest = max((n for n in range(3) if patch[n] > 1), key=lambda axis: patch[axis] * spacing[axis])
        patch[longest] = max(1, patch[longest] - max(1, patch[longest] // 20))
    return patch


def _levels(patch: Sequence[int], spacing: Lengths) -> tuple[tuple[Sizes, ...], tuple[Sizes, ...]]:
    """Kernels and strides from the finest level to the coarsest."""
    sizes, steps, kernel = [float(n) for n in patch], list(spacing), [1, 1, 1]
    kernels: list[Sizes] = []
    strides: list[Sizes] = []
    while True:
        large = [size >= 2 * LEAST_MAP for size in sizes]
        shortest = min((step for step, yes in zip(steps, large, strict=True) if yes), default=min(steps))
        near = [step < ANISOTROPIC * shortest for step in steps]
        kernel = [3 if k == 3 or (n and p > 1) else 1 for k, n, p in zip(kernel, near, patch, strict=True)]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        pooled = [2 if yes and n else 1 for yes, n in zip(large, near, strict=True)]
        if max(pooled) == 1 or len(kernels) == MOST_LEVELS:
            return tuple(kernels), tuple(strides)
        strides.append((pooled[0], pooled[1], pooled[2]))
        sizes = [size / p for size, p in zip(sizes, pooled, strict=True)]
        steps = [step * p for step, p in zip(steps, pooled, strict=True)]


def _rounded(patch: Sequence[int], steps: Sequence[int], voxels: float) -> Sizes:
    """The patch in multiples of the steps: larger if that has not many more voxels, else smaller."""
    found = [math.ceil(n / s) * s for n, s in zip(patch, steps, strict=True)]
    while math.prod(found) > WHOLE_SHARE * voxels:
        excess = [(f - n) / n if f > s else -math.inf for f, n, s in zip(found, patch, steps, strict=True)]
        axis = excess.index(max(excess))
        if excess[axis] == -math.inf:
            break
        found[axis] -= steps[axis]
    i, j, k = found
    return i, j, k
