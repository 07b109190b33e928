"""The surfaces of every label of a map, found in one pass over it.

A cell of 2x2x2 voxel centres whose corners do not all have one label holds a surface of every
label among them; a voxel with a neighbour of another label across a face is on the border of its
own. Both are found for all labels at once, because where two labels meet each has its surface.
Only there are single labels looked at.

Positions are flat ones in a frame: the label map with background around it, so that a step of a few
voxels from any point of a surface stays inside, and is an addition.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medseg.metrics import surfels

Labels = NDArray[np.integer]
Positions = NDArray[np.integer]

SLAB_VOXELS, SLAB_PLANES = 1 << 19, 8
"""Voxels of the frame looked at in one go, but these planes at least: bounds what is held on the way."""

BITS = 64
"""Labels that a word tells apart."""


@dataclass(frozen=True)
class Frame:
    """Where the voxels of a label map lie once background surrounds it.

    Attributes:
        inner: shape of the label map.
        margin: voxels of background on each side, along each axis; at least one.
    """

    inner: tuple[int, ...]
    margin: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(n + 2 * m for n, m in zip(self.inner, self.margin, strict=True))

    @property
    def strides(self) -> tuple[int, ...]:
        """What a step along each axis adds to a flat position."""
        return tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    def steps(self, offsets: NDArray[np.integer]) -> NDArray[np.intp]:
        """Offsets along the axes, (N, axes), as steps of a flat position, (N,)."""
        return np.asarray(offsets @ np.array(self.strides, dtype=np.intp), dtype=np.intp)

    def around(self, labels: Labels) -> Labels:
        """The label map in its frame, contiguous."""
        out = np.zeros(self.shape, labels.dtype)
        out[tuple(slice(m, m + n) for n, m in zip(self.inner, self.margin, strict=True))] = labels
        return out

    def slabs(self) -> list[tuple[int, int]]:
        """First and last plane but one of parts of the frame that hold the voxels and the cells."""
        first, stop = self.margin[0] - 1, self.margin[0] + self.inner[0]
        planes = max(SLAB_PLANES, SLAB_VOXELS // self.strides[0])
        return [(start, min(start + planes, stop)) for start in range(first, stop, planes)]

    def slabs_of(self, first: int, last: int) -> slice:
        """Which slabs hold planes from the first to the last."""
        slabs = self.slabs()
        low, planes = slabs[0][0], slabs[0][1] - slabs[0][0]
        return slice(max(first - low, 0) // planes, max(last - low + planes, 0) // planes)


@dataclass(frozen=True, eq=False)
class Borders:
    """The surface points of every label of one map, slab by slab in the order of `Frame.slabs`.

    Attributes:
        cells: positions that hold a point of any label, ascending, (N,).
        members: which labels those are, bit `label % 64` of word `label // 64`, (words, N).
        positions: of the points, (M,), one for each label that has a surface there.
        labels: their labels, (M,).
        codes: corners inside, as in `surfels`; 0 for border voxels, (M,).
        starts: where the points of each slab begin, and the end, (slabs + 1,).
    """

    cells: Positions
    members: NDArray[np.uint64]
    positions: Positions
    labels: Labels
    codes: NDArray[np.uint8]
    starts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ByLabel:
    """Surface points of one map label by label, those of a label slab by slab.

    Attributes:
        borders: all points of the map.
        frame: in which they lie.
        order: which of them these are, (N,).
        starts: where the points of each slab of each label begin, and the end.
    """

    borders: Borders
    frame: Frame
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, borders: Borders, frame: Frame) -> ByLabel:
        """All points of a map."""
        slabs = np.repeat(np.arange(len(borders.starts) - 1), np.diff(borders.starts))
        parts = len(borders.members) * BITS * (len(borders.starts) - 1)
        counts = np.bincount(borders.labels * np.intp(len(borders.starts) - 1) + slabs, minlength=parts)
        return cls(borders, frame, np.argsort(borders.labels, kind="stable"), np.append(0, np.cumsum(counts)))

    def only(self, wanted: NDArray[np.bool_]) -> ByLabel:
        """Those of the points that are wanted, (M,) for all points of the map."""
        kept = wanted[self.order]
        return replace(self, order=self.order[kept], starts=np.append(0, np.cumsum(kept))[self.starts])

    def labels(self) -> list[int]:
        """Those that have points."""
        return [int(n) for n in np.flatnonzero(np.diff(self.starts[:: len(self.borders.starts) - 1]))]

    def part(self, label: int, slabs: slice = slice(None)) -> NDArray[np.intp]:
        """Which points a label has, or some of its slabs."""
        every = len(self.borders.starts) - 1
        first, stop, _ = slabs.indices(every)
        return self.order[self.starts[label * every + first] : self.starts[label * every + stop]]

    def at(self, points: NDArray[np.intp]) -> NDArray[np.int32]:
        """Coordinates of some points of the map in the frame, (axes, N)."""
        rest, along = self.borders.positions[points], []
        for stride in self.frame.strides:
            along.append(rest // stride)
            rest = rest - along[-1] * stride
        return np.stack(along).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Part:
    """What one slab holds; attributes as those of `Borders`."""

    cells: Positions
    members: NDArray[np.uint64]
    positions: Positions
    labels: Labels
    codes: NDArray[np.uint8]


def words(labels: int) -> int:
    """How many words tell the labels from 0 to `labels` apart.

    >>> words(63), words(64)
    (1, 2)
    """
    return labels // BITS + 1


def find_borders(labels: Labels, frame: Frame, count: int, pool: Executor, *, surfel: bool) -> Borders:
    """The surfaces of all labels of a map.

    Args:
        labels: from 0, the background, to `count`, in the shape of the frame's inside.
        frame: what surrounds it.
        count: the largest label there may be.
        pool: what works on the slabs.
        surfel: cells of voxel centres; otherwise border voxels.
    """
    framed = frame.around(labels)
    bits = _bit_table(count)
    find = _cells if surfel else _voxels
    parts = list(pool.map(lambda planes: find(framed, frame, planes, bits), frame.slabs()))
    ends = np.cumsum([part.positions.size for part in parts])
    return Borders(
        cells=np.concatenate([part.cells for part in parts]),
        members=np.concatenate([part.members for part in parts], axis=1),
        positions=np.concatenate([part.positions for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        codes=np.concatenate([part.codes for part in parts]),
        starts=(0, *ends.tolist()),
    )


def _bit_table(count: int) -> NDArray[np.uint64]:
    """The bit of each label in each word, (words, count + 1); none for the background."""
    table = np.zeros((words(count), count + 1), np.uint64)
    label = np.arange(1, count + 1)
    table[label // BITS, label] = np.uint64(1) << (label % BITS).astype(np.uint64)
    return table


def _cells(framed: Labels, frame: Frame, planes: tuple[int, int], bits: NDArray[np.uint64]) -> _Part:
    """The cells whose corners have several labels, and each label's pattern of corners there."""
    start, stop = planes
    at = np.flatnonzero(_mixed(framed[start : stop + 1])) + start * frame.strides[0]
    flat = framed.reshape(-1)
    corners = np.empty((2**framed.ndim, at.size), framed.dtype)
    members = np.zeros((len(bits), at.size), np.uint64)
    for corner, step in zip(corners, frame.steps(np.array(surfels.corners(framed.ndim))), strict=True):
        flat.take(at + step, out=corner)
        for word, table in zip(members, bits, strict=True):
            word |= table.take(corner)
    positions = _compact(at, framed.size)
    which, labels, codes = _patterns(corners)
    return _Part(positions, members, positions[which], labels, codes)


def _mixed(slab: Labels) -> NDArray[np.bool_]:
    """Whether the corners of the cell that starts at a voxel differ; all planes but the last."""
    out = np.zeros((slab.shape[0] - 1, *slab.shape[1:]), bool)
    cell = tuple(slice(0, n - 1) for n in slab.shape)
    for axis in range(slab.ndim):
        # Edges along this axis that begin on the earlier axes' both sides join all corners.
        after = [slice(None)] * slab.ndim
        before = list(after)
        after[axis], before[axis] = slice(1, None), slice(None, -1)
        edges = slab[tuple(after)] != slab[tuple(before)]
        for later in range(axis + 1, slab.ndim):
            edges = edges[(*(slice(None),) * later, slice(None, -1))]
        for earlier in range(axis):
            low = edges[(*(slice(None),) * earlier, slice(None, -1))]
            edges = low | edges[(*(slice(None),) * earlier, slice(1, None))]
        out[cell] |= edges
    return out


def _patterns(corners: Labels) -> tuple[NDArray[np.intp], Labels, NDArray[np.uint8]]:
    """Every label of every cell but the background.

    Args:
        corners: the labels of the cells' corners, (corners, N).

    Returns:
        The cell, the label and its pattern of corners, each (M,). Cells come in turn with their first
        labels, then those that have more with their second, and so on.
    """
    lowest = np.array([(code & -code).bit_length() - 1 for code in range(1 << len(corners))], np.intp)
    which = np.arange(corners.shape[1])
    left = np.full(which.size, (1 << len(corners)) - 1, np.uint8)
    found = []
    while which.size:
        label = corners.reshape(-1).take(lowest.take(left) * which.size + np.arange(which.size))
        code = np.zeros(which.size, np.uint8)
        for bit, corner in enumerate(corners):
            code |= (corner == label).view(np.uint8) << np.uint8(bit)
        inside = np.flatnonzero(label)
        found.append((which.take(inside), label.take(inside), code.take(inside)))
        left &= ~code
        more = np.flatnonzero(left)
        which, left, corners = which.take(more), left.take(more), corners.take(more, axis=1)
    cells, labels, codes = zip(*found, strict=True) if found else ([which], [corners[0]], [left])
    return np.concatenate(cells), np.concatenate(labels), np.concatenate(codes)


def _voxels(framed: Labels, frame: Frame, planes: tuple[int, int], bits: NDArray[np.uint64]) -> _Part:
    """The voxels with a neighbour of another label across a face."""
    start, stop = planes
    low = max(start, 1)
    at = np.flatnonzero(_on_border(framed[low - 1 : stop + 1])) + low * frame.strides[0]
    labels = framed.reshape(-1)[at]
    positions = _compact(at, framed.size)
    return _Part(positions, bits[:, labels], positions, labels, np.zeros(labels.shape, np.uint8))


def _on_border(slab: Labels) -> NDArray[np.bool_]:
    """Whether a voxel has a label and a face neighbour without it; all planes but the outer two."""
    out = np.zeros((slab.shape[0] - 2, *slab.shape[1:]), bool)
    inside = slab[1:-1]
    for axis in range(slab.ndim):
        lower = (*(slice(None),) * axis, slice(None, -1))
        upper = (*(slice(None),) * axis, slice(1, None))
        changes = slab[upper] != slab[lower]
        if axis == 0:
            out |= changes[1:] | changes[:-1]
        else:
            out[upper] |= changes[1:-1]
            out[lower] |= changes[1:-1]
    out &= inside != 0
    return out


def _compact(positions: NDArray[np.intp], size: int) -> Positions:
    return positions.astype(np.int32) if size <= np.iinfo(np.int32).max else positions
