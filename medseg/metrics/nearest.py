"""Distance from every surface point of each label in one map to the surfaces in another.

Distances run between points of a grid, so each is one of few lengths. Three searches find them, and
all give the same numbers:

1. *Steps*: the offsets nearest to zero are tried in the order of their length, for all labels at
   once. Where two maps resemble each other this finds nearly all.
2. *Transform*: what is left of a label gets a Euclidean distance transform of the box around it. Its
   seven digits name one length of the grid, and that length is the distance. Where they leave two
   lengths open, the third search decides.
3. *Tree*: a k-d tree over the other surface, where few points are left in a large box.

References:
    The transform: Felzenszwalb and Huttenlocher 2012, doi:10.4086/toc.2012.v008a019, as in the
    package `edt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import edt
import numpy as np
from numpy.typing import NDArray

from medseg.metrics.borders import BITS, Borders, Frame, Positions

Numbers = NDArray[np.float64]
Coordinates = NDArray[np.int32]

STEPS, STEPS_FOR_ALL, SHARE_FOR_MORE = 257, 81, 1 / 3
"""Offsets tried at least. After the second number of them the rest is tried only where no more than
this share of the points is left: elsewhere the surfaces are far from each other, and more steps would
be in vain. On a grid of cubes they reach 4 voxels, and the square root of 6."""

POINTS_AT_ONCE = 1 << 15
"""Points looked after at a time, so that they stay in the processor's cache."""

TRANSFORM_SECONDS, TREE_SECONDS, PLANTING_SECONDS = 3e-8, 1.5e-6, 2e-7
"""About what a voxel of a transform, a search in a tree and a point of a tree cost: the choice
between them goes by these, no number does."""

TRANSFORM_VOXELS = 1 << 26
"""Voxels of a transform at most: bounds its memory to 320 MiB."""

SHARED_VOXELS = 1 << 24
"""Voxels of a transform beside which no other such runs."""

TRANSFORM_ERROR = 2e-6
"""Largest relative error of a squared distance of the transform, which computes in float32."""

SAME_LENGTH = 1e-12
"""Lengths this close, relatively, are one length, summed in another order."""

LISTED_OFFSETS = 1 << 21
"""Offsets whose lengths are listed at most: bounds the list to 16 MiB."""


@dataclass(frozen=True, eq=False)
class _Shell:
    """Offsets of one length, as steps of a flat position."""

    length_mm: float
    steps: tuple[int, ...]


def lengths_mm(offsets: NDArray[np.integer], spacing_mm: Sequence[float]) -> Numbers:
    """Lengths of offsets in voxels, (N, axes): the one formula every distance comes from."""
    mm = offsets * np.asarray(spacing_mm, dtype=np.float64)
    return np.asarray(np.sqrt((mm * mm).sum(axis=-1)))


@lru_cache(maxsize=16)
def near_offsets(spacing_mm: tuple[float, ...]) -> NDArray[np.intp]:
    """The offsets nearest to zero, `STEPS` of them or more, (N, axes), the shortest first.

    >>> near_offsets((1.0, 1.0, 1.0))[:2].tolist()
    [[0, 0, 0], [-1, 0, 0]]
    """
    radius = min(spacing_mm)
    while len(offsets := _offsets_within(spacing_mm, radius)) < STEPS:
        radius *= 1.2
    order = np.argsort(lengths_mm(offsets, spacing_mm), kind="stable")
    return np.asarray(offsets[order])


def frame_of(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Frame:
    """The frame in which the steps stay inside."""
    reach = np.abs(near_offsets(spacing_mm)).max(axis=0)
    return Frame(shape, tuple((reach + 1).tolist()))


def nearest_mm(
    here: Borders, there: Borders, frame: Frame, spacing_mm: tuple[float, ...], pool: Executor, threads: int
) -> Numbers:
    """Distance from each surface point of one map to the nearest of its label in the other.

    Args:
        here: the points, (M,).
        there: what they are to be near to.
        frame: of both, from `frame_of`.
        spacing_mm: along the axes of the frame.
        pool: what works on the slabs.
        threads: for the searches that work label by label.

    Returns:
        (M,) in mm, +inf where the other map has no point of the label.
    """
    shells = _shells(frame, spacing_mm)
    mm = np.empty(here.positions.size)

    def search(slab: int) -> None:
        mm[here.starts[slab] : here.starts[slab + 1]] = _by_steps(here, there, frame, shells, slab)

    for _ in pool.map(search, range(len(here.starts) - 1)):
        pass
    left = np.flatnonzero(np.isnan(mm))
    one_large = Lock()

    def find(job: tuple[NDArray[np.intp], NDArray[np.intp]]) -> None:
        points, sites = job
        at = _coordinates(here.positions[points], frame)
        targets = _coordinates(there.positions[sites], frame)
        mm[points] = _of_one_label(at, targets, spacing_mm, threads, one_large)

    jobs = sorted(_of_each_label(here, there, left), key=lambda job: len(job[0]), reverse=True)
    for _ in pool.map(find, jobs):
        pass
    return mm


def _offsets_within(
    spacing_mm: Sequence[float], radius_mm: float, *, signed: bool = True
) -> NDArray[np.intp]:
    """All offsets up to a length, (N, axes)."""
    reach = [int(radius_mm / s) for s in spacing_mm]
    axes = [np.arange(-n if signed else 0, n + 1) for n in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(reach))
    return np.asarray(offsets[lengths_mm(offsets, spacing_mm) <= radius_mm])


def _shells(frame: Frame, spacing_mm: tuple[float, ...]) -> list[_Shell]:
    offsets = near_offsets(spacing_mm)
    lengths, steps = lengths_mm(offsets, spacing_mm), frame.steps(offsets).tolist()
    starts = np.flatnonzero(np.diff(lengths, prepend=-1.0) > lengths * SAME_LENGTH).tolist()
    ends = [*starts[1:], len(steps)]
    return [_Shell(float(lengths[a]), tuple(steps[a:b])) for a, b in zip(starts, ends, strict=True)]


def _by_steps(here: Borders, there: Borders, frame: Frame, shells: list[_Shell], slab: int) -> Numbers:
    """Distances of one slab's points as far as the steps reach, NaN beyond."""
    points = slice(here.starts[slab], here.starts[slab + 1])
    mm = np.full(points.stop - points.start, math.nan)
    if not mm.size:
        return mm
    start, stop = frame.slabs()[slab]
    reach, plane = frame.margin[0] - 1, frame.strides[0]
    first, size = (start - reach) * plane, (stop - start + 2 * reach) * plane
    members = np.zeros((len(there.members), size), np.uint64)
    near = slice(*np.searchsorted(there.cells, (first, first + size)).tolist())
    members[:, there.cells[near] - first] = there.members[:, near]
    for low in range(0, mm.size, POINTS_AT_ONCE):
        part = slice(points.start + low, min(points.start + low + POINTS_AT_ONCE, points.stop))
        labels = here.labels[part].astype(np.intp)
        at = here.positions[part] - first + labels // BITS * size
        _search(mm[low : low + POINTS_AT_ONCE], at, labels, members.reshape(-1), shells)
    return mm


def _search(
    mm: Numbers,
    at: NDArray[np.intp],
    labels: NDArray[np.intp],
    members: NDArray[np.uint64],
    shells: list[_Shell],
) -> None:
    """Try the steps from some points; write the distances found into `mm`."""
    bits = np.uint64(1) << (labels % BITS).astype(np.uint64)
    left, tried = np.arange(at.size), 0
    for shell in shells:
        found = members.take(at + shell.steps[0])
        for step in shell.steps[1:]:
            found |= members.take(at + step)
        found &= bits
        mm[left[found != 0]] = shell.length_mm
        more = np.flatnonzero(found == 0)
        at, bits, left = at.take(more), bits.take(more), left.take(more)
        tried += len(shell.steps)
        if not left.size or (tried >= STEPS_FOR_ALL and left.size > SHARE_FOR_MORE * mm.size):
            return


def _of_each_label(
    here: Borders, there: Borders, left: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Points that are left, and all points of the other map, label by label."""
    if not left.size:
        return
    own = left[np.argsort(here.labels[left], kind="stable")]
    others = np.argsort(there.labels, kind="stable")
    labels, starts = np.unique(here.labels[own], return_index=True)
    ends = np.cumsum(np.bincount(there.labels, minlength=int(labels[-1]) + 1))
    for label, points in zip(labels.tolist(), np.split(own, starts[1:]), strict=True):
        yield points, others[ends[label - 1] : ends[label]]


def _coordinates(positions: Positions, frame: Frame) -> Coordinates:
    along = [axis.astype(np.int32) for axis in np.unravel_index(positions, frame.shape)]
    return np.stack(along, axis=1)


def _of_one_label(
    points: Coordinates,
    targets: Coordinates,
    spacing_mm: tuple[float, ...],
    threads: int,
    one_large: AbstractContextManager[object],
) -> Numbers:
    """Distance from each point to the nearest target by transform or tree, whichever costs less.

    Where the transform is large, `one_large` is held, so that no other of those runs beside it.
    """
    if not len(targets):
        return np.full(len(points), math.inf)
    low = np.minimum(points.min(axis=0), targets.min(axis=0))
    shape = np.maximum(points.max(axis=0), targets.max(axis=0)) - low + 1
    tree_seconds = len(points) * TREE_SECONDS + len(targets) * PLANTING_SECONDS
    voxels = math.prod(shape.tolist())
    if voxels > TRANSFORM_VOXELS or voxels * TRANSFORM_SECONDS > tree_seconds:
        return _by_tree(points, targets, spacing_mm, threads)
    with one_large if voxels > SHARED_VOXELS else nullcontext():
        squared = _transform(points - low, targets - low, shape, spacing_mm, threads)
    mm, sure = _named(squared, spacing_mm)
    if not sure.all():
        mm[~sure] = _by_tree(points[~sure], targets, spacing_mm, threads)
    return mm


def _transform(
    points: Coordinates,
    targets: Coordinates,
    shape: Coordinates,
    spacing_mm: tuple[float, ...],
    threads: int,
) -> Numbers:
    """Squared distance from each point to the nearest target, to seven digits."""
    elsewhere = np.ones(tuple(shape.tolist()), np.uint8)
    elsewhere[tuple(targets.T)] = 0
    squared = edt.edtsq(elsewhere, anisotropy=spacing_mm, parallel=threads)
    return np.asarray(squared[tuple(points.T)], dtype=np.float64)


def _named(squared: Numbers, spacing_mm: tuple[float, ...]) -> tuple[Numbers, NDArray[np.bool_]]:
    """The length each squared distance stands for, and whether it is the only one it can stand for."""
    radius = float(np.sqrt(squared.max())) * (1 + TRANSFORM_ERROR)
    known = _lengths(spacing_mm, math.ceil(math.log2(max(radius / min(spacing_mm), 1.0))))
    low = np.searchsorted(known * known, squared * (1 - TRANSFORM_ERROR))
    high = np.searchsorted(known * known, squared * (1 + TRANSFORM_ERROR), side="right")
    sure = (high - low == 1) & (squared < known[-1] ** 2 * (1 - TRANSFORM_ERROR))
    return known[np.minimum(low, known.size - 1)], sure


@lru_cache(maxsize=8)
def _lengths(spacing_mm: tuple[float, ...], doublings: int) -> Numbers:
    """Lengths of the grid, ascending, each once, up to the smallest spacing doubled so often."""
    radius = min(spacing_mm) * 2.0**doublings
    while math.prod(int(radius / s) + 1 for s in spacing_mm) > LISTED_OFFSETS:
        radius /= 2
    every = np.sort(lengths_mm(_offsets_within(spacing_mm, radius, signed=False), spacing_mm))
    return np.asarray(every[np.diff(every, prepend=-1.0) > every * SAME_LENGTH])


def _by_tree(
    points: Coordinates, targets: Coordinates, spacing_mm: tuple[float, ...], threads: int
) -> Numbers:
    from scipy.spatial import cKDTree  # slow to import

    spacing = np.asarray(spacing_mm)
    tree = cKDTree(targets * spacing, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(points * spacing, workers=threads)[1]
    return lengths_mm(points - targets[nearest], spacing_mm)
