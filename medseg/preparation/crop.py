"""Boxes of voxels: find one, cut it out, put it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.errors import GeometryError, InputError
from medseg.core.volume import Grid

Triple = tuple[int, int, int]

STANDS_OUT, PLANE_SHARE = 0.1, 0.005
"""Share of the range of intensities by which a voxel differs from the faces of a scan, and share of such
voxels from which a plane is a part of what is in it."""

THIN_VOXELS = 96
"""Voxels along an axis that the range of intensities is taken from."""


@dataclass(frozen=True)
class Box:
    """Voxels from `start` up to, not including, `stop`.

    Raises:
        GeometryError: the box is empty or begins before voxel 0.

    >>> Box((1, 0, 2), (4, 5, 3)).shape
    (3, 5, 1)
    """

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        if any(a < 0 or b <= a for a, b in zip(self.start, self.stop, strict=True)):
            raise GeometryError(f"a box cannot run from {self.start} to {self.stop}")

    @property
    def shape(self) -> Triple:
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    def grid(self, grid: Grid) -> Grid:
        """The grid of the box's voxels, which stay where they are in the world.

        Raises:
            GeometryError: the box reaches out of `grid`.
        """
        if any(b > n for b, n in zip(self.stop, grid.shape, strict=True)):
            raise GeometryError(f"a box up to {self.stop} does not fit into {grid.shape}")
        return Grid(self.shape, aff.shifted(grid.affine, self.start))


def whole(shape: Triple) -> Box:
    """The box of every voxel of `shape`."""
    return Box((0, 0, 0), shape)


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them.

    >>> around([Box((1, 0, 2), (4, 5, 3)), Box((0, 2, 2), (2, 3, 9))])
    Box(start=(0, 0, 2), stop=(4, 5, 9))
    """
    i, j, k = ((min(b.start[a] for b in boxes), max(b.stop[a] for b in boxes)) for a in range(3))
    return Box((i[0], j[0], k[0]), (i[1], j[1], k[1]))


def corner_values(array: NDArray[np.generic]) -> list[float | None]:
    """The value that all eight corners of each channel of (C, I, J, K) share; None where they differ.

    What fills the corners of a scan cut out of its surroundings, or normalised since, is its background.
    """
    ends = (slice(None, None, max(1, n - 1)) for n in array.shape[1:])
    corners = array[(slice(None), *ends)]
    return [float(c.flat[0]) if (c == c.flat[0]).all() else None for c in corners]


def foreground_box(
    array: NDArray[np.generic], margin_voxels: int = 0, background: Sequence[float | None] = ()
) -> Box:
    """The smallest box around every voxel that is not background, grown by a margin inside the array.

    Args:
        array: (I, J, K), or (C, I, J, K), where a voxel counts if any channel of it does.
        margin_voxels: how far the box reaches beyond them on each side.
        background: value of each channel outside the subject; zero if none is given; None for a channel
            without background.

    Raises:
        InputError: every voxel is background.
    """
    channels = array[None] if array.ndim == 3 else array
    seen = np.zeros_like(channels[0], dtype=np.bool_)  # in the array's own order
    for channel, value in zip(channels, background or (0,) * len(channels), strict=True):
        seen |= True if value is None else channel != value
    start: list[int] = []
    stop: list[int] = []
    for slices in (np.moveaxis(seen, axis, 0) for axis in range(3)):
        size = len(slices)
        first = next((n for n in range(size) if slices[n].any()), None)
        if first is None:
            raise InputError("every voxel is background, so there is nothing to crop to")
        last = next(n for n in reversed(range(size)) if slices[n].any())
        start.append(max(0, first - margin_voxels))
        stop.append(min(size, last + 1 + margin_voxels))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def object_box(array: NDArray[np.generic], margin_voxels: Sequence[int]) -> Box:
    """The box of what differs from what lies at the faces of a scan, such as a head in noisy air.

    A voxel differs from the median of the faces if a channel of it does, by more than a tenth of the distance
    of the percentiles 0.5 and 99.5; a plane counts if one in two hundred of its voxels differs.

    Args:
        array: (C, I, J, K).
        margin_voxels: how far the box reaches beyond, along each axis.

    Returns:
        The box, or the whole where nothing stands out from the faces.
    """
    seen = np.zeros(array.shape[1:], np.bool_)
    for channel in array:
        thin = channel[tuple(slice(None, None, max(1, n // THIN_VOXELS)) for n in channel.shape)]
        low, high = np.percentile(thin, [0.5, 99.5])
        faces = [np.take(channel, end, axis).ravel() for axis in range(3) for end in (0, -1)]
        level = float(np.median(np.concatenate(faces)))
        reach = STANDS_OUT * (high - low)
        seen |= (channel > level + reach) | (channel < level - reach)
    used = [
        np.flatnonzero(seen.mean(axis=tuple({0, 1, 2} - {axis}), dtype=np.float32) > PLANE_SHARE)
        for axis in range(3)
    ]
    if not all(u.size for u in used):
        i, j, k = array.shape[1:]
        return whole((i, j, k))
    i, j, k = (
        (max(0, int(u[0]) - m), min(n, int(u[-1]) + 1 + m))
        for u, m, n in zip(used, margin_voxels, array.shape[1:], strict=True)
    )
    return Box((i[0], j[0], k[0]), (i[1], j[1], k[1]))


def crop(array: NDArray[np.generic], box: Box) -> NDArray[np.generic]:
    """View of `array` (..., I, J, K) inside the box."""
    return array[(..., *box.slices)]


def paste(part: NDArray[np.generic], box: Box, shape: Triple, fill: float = 0) -> NDArray[np.generic]:
    """New array (..., *shape) of `fill`, with `part` (..., *box.shape) in the box."""
    out = np.full((*part.shape[:-3], *shape), fill, dtype=part.dtype)
    out[(..., *box.slices)] = part
    return out
