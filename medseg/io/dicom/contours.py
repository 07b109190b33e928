"""Closed contours as masks: a voxel belongs to what surrounds its centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INDEX_DIGITS = 6
"""Decimals of a voxel that count: what a header's decimal strings and an affine's inverse leave of noise."""

Points = NDArray[np.float64]


def filled(contours: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (I, J) whose centres lie inside, by the even-odd rule.

    A contour inside another is a hole, one inside that an island. A keyhole, which runs to a hole and back
    along one line, leaves no trace of that line. A centre on the border belongs to the side of greater
    indices, so that two structures that share a border share no pixel.

    Args:
        contours: closed polygons (n, 2) of indices i and j, in any direction, without the first point again.
        shape: pixels along I and J.

    >>> square = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 3.5], [0.5, 3.5]])
    >>> filled([square, (square + 2) / 2], (5, 5)).sum(), filled([square], (5, 5)).sum()
    (np.int64(8), np.int64(9))
    """
    odd = np.zeros((shape[0] + 1, shape[1]), dtype=np.uint8)
    for contour in contours:
        columns, rows = _crossings(contour, shape)
        np.bitwise_xor.at(odd, (columns, rows), 1)
    return np.bitwise_xor.accumulate(odd, axis=0)[:-1].astype(np.bool_)


def _crossings(points: Points, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first column right of each crossing of a polygon with a row of centres, and the row."""
    start = np.round(points, INDEX_DIGITS)
    end = np.roll(start, -1, axis=0)
    upwards = (start[:, 1] <= end[:, 1])[:, None]
    low, high = np.where(upwards, start, end), np.where(upwards, end, start)
    first = np.clip(np.ceil(low[:, 1]), 0, shape[1]).astype(np.intp)
    last = np.clip(np.ceil(high[:, 1]), 0, shape[1]).astype(np.intp)
    counts = last - first
    edge = np.repeat(np.arange(len(points)), counts)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = first[edge] + within
    share = (rows - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
    x = low[edge, 0] + share * (high[edge, 0] - low[edge, 0])
    columns = np.clip(np.ceil(np.round(x, INDEX_DIGITS)), 0, shape[0]).astype(np.intp)
    return columns, rows
