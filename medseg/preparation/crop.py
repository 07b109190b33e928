"""What of a scan is kept: the box of its foreground, or of the object in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Box, bounding_box, cut_at, whole, widened
from medseg.core.errors import InputError

STANDS_OUT, PLANE_SHARE = 0.1, 0.005
"""Share of the range of intensities by which a voxel differs from the faces of a scan, and share of such
voxels from which a plane is a part of what is in it."""

THIN_VOXELS = 96
"""Voxels along an axis that the range of intensities is taken from."""


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
    box = bounding_box(seen)
    if box is None:
        raise InputError("every voxel is background, so there is nothing to crop to")
    return Box.of(widened(box, margin_voxels, seen.shape))


def object_box(array: NDArray[np.generic], margin_voxels: Sequence[int]) -> Box:
    """The box of the object that differs from the faces of a scan, such as a head in noisy air.

    A voxel differs from the median of the faces if a channel of it does, by more than a tenth of the distance
    of the percentiles 0.5 and 99.5; a plane counts if one in two hundred of its voxels differs.

    Args:
        array: (C, I, J, K).
        margin_voxels: how far the box reaches beyond, along each axis.

    Returns:
        The box, or the whole scan if nothing differs from the faces.
    """
    seen = np.zeros(array.shape[1:], np.bool_)
    for channel in array:
        thin = channel[tuple(slice(None, None, max(1, n // THIN_VOXELS)) for n in channel.shape)]
        low, high = np.percentile(thin, [0.5, 99.5])
        faces = [cut_at(channel, end, axis).ravel() for axis in range(3) for end in (0, -1)]
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
    box = tuple(slice(int(u[0]), int(u[-1]) + 1) for u in used)
    return Box.of(widened(box, margin_voxels, seen.shape))
