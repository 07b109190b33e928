"""Closed contours around the pixels of a mask: each a single ring, holes joined to it by a keyhole.

A contour runs half-way between the centres of pixels inside and outside, so that filling it at the pixels'
centres gives the mask back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import bounding_box

Ring = NDArray[np.float64]
"""Points (n, 2) in pixels, row and column; the last is joined to the first and does not repeat it."""


def rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """One ring around each connected part of a mask.

    Pixels that touch at a corner alone are parts of their own. A hole becomes a piece of the ring around it:
    a channel of no width leads from the ring to the hole and back.

    Args:
        mask: of one slice, (rows, columns), with at least one pixel.

    >>> [len(ring) for ring in rings(np.pad(np.ones((1, 9), bool), 1))]
    [6]
    """
    from skimage.measure import find_contours

    outer: list[Ring] = []
    holes: list[Ring] = []
    box = bounding_box(mask) or ()
    start = [s.start for s in box]
    for points in find_contours(np.pad(mask[box], 1).astype(np.float32), 0.5):
        ring = _corners(points[:-1] - 1 + start)
        (outer if _area(ring) > 0 else holes).append(ring)
    of_outer: list[list[Ring]] = [[] for _ in outer]
    low, high = (np.array([end(ring, axis=0) for ring in outer]) for end in (np.min, np.max))
    for hole in holes:
        near = np.flatnonzero((low < hole[0]).all(axis=1) & (hole[0] < high).all(axis=1))
        around = [n for n in near.tolist() if _contains(outer[n], hole[0])]
        of_outer[min(around, key=lambda n: _area(outer[n]))].append(hole)
    return [_joined(ring, inner) for ring, inner in zip(outer, of_outer, strict=True)]


def _corners(ring: Ring) -> Ring:
    """The points at which a ring turns; between two of them it is straight."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]  # halves of pixels: exact
    return np.asarray(ring[turns])


def _area(ring: Ring) -> float:
    """Twice the area, positive for the outer rings of `find_contours`, negative for those of holes."""
    row, column = ring.T
    return float(np.sum(np.roll(row, -1) * column - row * np.roll(column, -1)))


def _contains(ring: Ring, point: Ring) -> bool:
    """Whether a point lies within a ring: it is crossed an odd number of times on the way out."""
    return len([c for _, c in _crossings(ring, float(point[0])) if c < point[1]]) % 2 == 1


def _crossings(ring: Ring, row: float) -> Iterator[tuple[int, float]]:
    """Where a ring crosses a row: number of the point before, and column."""
    after = np.concatenate([ring[1:], ring[:1]])
    for n in np.flatnonzero((ring[:, 0] > row) != (after[:, 0] > row)):
        share = (row - ring[n, 0]) / (after[n, 0] - ring[n, 0])
        yield int(n), float(ring[n, 1] + share * (after[n, 1] - ring[n, 1]))


def _joined(ring: Ring, holes: list[Ring]) -> Ring:
    """A ring with its holes, those that begin at the smallest column first.

    From the first point of a hole the channel runs along the row to the nearest piece of the ring, which may
    be a hole that was joined before; no other hole can lie between.
    """
    for hole in sorted(holes, key=lambda h: h[:, 1].min()):
        start = int(hole[:, 1].argmin())
        row, column = hole[start]
        n, there = max(
            ((n, c) for n, c in _crossings(ring, float(row)) if c < column), key=lambda crossing: crossing[1]
        )
        turned = np.roll(hole, -start, axis=0)
        gate = np.array([[row, there]])
        ring = np.concatenate([ring[: n + 1], gate, turned, turned[:1], gate, ring[n + 1 :]])
    return ring
