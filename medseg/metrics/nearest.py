"""Distance from every surface point of each label in one map to the surfaces in another.

Distances run between points of a grid, so each is one of few lengths. Three searches find them, each
what the one before has left, and all give the same numbers:

1. *Steps*: the offsets nearest to zero are tried in the order of their length, for all labels at
   once. Where two maps resemble each other this finds nearly all.
2. *Windows*: what is left of a label gets a distance transform that reaches some way (`windows`). A
   square names one length of the grid, and that length is the distance. Where the seven digits of a
   square leave two lengths open, the third search decides.
3. *Tree*: a k-d tree over the other surface, for what lies farther, and where few points are left in a
   large box.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.borders import BITS, Borders, ByLabel, Frame
from medseg.metrics.windows import ROUNDING, Windows, nearest_squares

Numbers = NDArray[np.float64]

STEPS, STEPS_FOR_ALL, SHARE_FOR_MORE = 257, 27, 1 / 2
"""Offsets tried at least. After the second number of them the rest is tried only where no more than
this share of the points is left: elsewhere the surfaces are far from each other, and more steps would
be in vain. On a grid of cubes they reach 4 voxels, and the square root of 3."""

POINTS_AT_ONCE = 1 << 15
"""Points looked after at a time, so that they stay in the processor's cache."""

REACHES = (32, 64)
"""How far the windows reach, one time after the other, in voxels where these are cubes."""

PLANES_AT_ONCE = 64
"""Planes of points, or little more, whose nearest ones the windows find in one go."""

VOXEL_SECONDS, TREE_SECONDS, PLANTING_SECONDS = 1.5e-10, 1.5e-6, 2e-7
"""About what a voxel costs with each voxel that windows reach, a search in a tree, and a point of a
tree: the choice between them goes by these, no number does."""

WINDOW_VOXELS = 1 << 26
"""Voxels of the windows' box at most: bounds its memory to 64 MiB for each thread."""

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
    here: ByLabel, there: ByLabel, spacing_mm: tuple[float, ...], pool: Executor, threads: int
) -> Numbers:
    """Distance from each surface point of one map to the nearest of its label in the other.

    Args:
        here: the points, (M,), in a frame from `frame_of`.
        there: what they are to be near to, in the same frame.
        spacing_mm: along the axes of the frame.
        pool: what works on parts of the points.
        threads: for the search in trees.

    Returns:
        (M,) in mm, in the order of the map's borders, +inf where the other map has no point of the label.
    """
    shells = _shells(here.frame, spacing_mm)
    starts = here.borders.starts
    mm = np.empty(here.order.size)

    def search(slab: int) -> None:
        mm[starts[slab] : starts[slab + 1]] = _by_steps(here.borders, there.borders, here.frame, shells, slab)

    for _ in pool.map(search, range(len(starts) - 1)):
        pass
    left = here.only(np.isnan(mm))
    for reach in REACHES:
        look = partial(_by_windows, mm, left, there, Windows.of(spacing_mm, reach), spacing_mm)
        for _ in pool.map(look, *zip(*_parts(left), strict=True)):
            pass
        left = left.only(np.isnan(mm))
    for _ in pool.map(partial(_by_tree, mm, left, there, spacing_mm, threads), left.labels()):
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


def _parts(points: ByLabel) -> list[tuple[int, slice]]:
    """Labels and some of their slabs, those that have most points first."""
    slabs = points.frame.slabs()
    each = -(-PLANES_AT_ONCE // (slabs[0][1] - slabs[0][0]))
    every = itertools.product(points.labels(), (slice(n, n + each) for n in range(0, len(slabs), each)))
    sizes = [(points.part(*part).size, part) for part in every]
    return [part for size, part in sorted(sizes, key=lambda item: -item[0]) if size]


def _by_windows(
    mm: Numbers,
    points: ByLabel,
    targets: ByLabel,
    windows: Windows,
    spacing_mm: tuple[float, ...],
    label: int,
    slabs: slice,
) -> None:
    """Write the distances of some points as far as the windows reach."""
    which, every = points.part(label, slabs), targets.part(label)
    if not every.size:
        mm[which] = math.inf
        return
    at, reach = points.at(which), windows.reach[0]
    near = targets.frame.slabs_of(int(at[0].min()) - reach, int(at[0].max()) + reach)
    sites = targets.at(targets.part(label, near))
    if not sites.size:
        return
    voxels = math.prod(windows.box(at, sites)[1])
    seconds = voxels * (1 + windows.reach[windows.passes[1]]) * VOXEL_SECONDS
    if voxels > WINDOW_VOXELS or seconds > which.size * TREE_SECONDS + every.size * PLANTING_SECONDS:
        return
    squares = nearest_squares(at, sites, windows)
    found = np.flatnonzero(squares <= windows.limit)
    if windows.whole:
        mm[which[found]] = _lengths_of_squares(spacing_mm, int(windows.limit))[squares[found]]
    elif found.size:
        lengths, sure = _named(squares[found].astype(np.float64), spacing_mm)
        mm[which[found[sure]]] = lengths[sure]


def _named(squared: Numbers, spacing_mm: tuple[float, ...]) -> tuple[Numbers, NDArray[np.bool_]]:
    """The length each squared distance stands for, and whether it is the only one it can stand for."""
    radius = float(np.sqrt(squared.max())) * (1 + ROUNDING)
    known = _lengths(spacing_mm, math.ceil(math.log2(max(radius / min(spacing_mm), 1.0))))
    low = np.searchsorted(known * known, squared * (1 - ROUNDING))
    high = np.searchsorted(known * known, squared * (1 + ROUNDING), side="right")
    sure = (high - low == 1) & (squared < known[-1] ** 2 * (1 - ROUNDING))
    return known[np.minimum(low, known.size - 1)], sure


@lru_cache(maxsize=8)
def _lengths(spacing_mm: tuple[float, ...], doublings: int) -> Numbers:
    """Lengths of the grid, ascending, each once, up to the smallest spacing doubled so often."""
    radius = min(spacing_mm) * 2.0**doublings
    while math.prod(int(radius / s) + 1 for s in spacing_mm) > LISTED_OFFSETS:
        radius /= 2
    every = np.sort(lengths_mm(_offsets_within(spacing_mm, radius, signed=False), spacing_mm))
    return np.asarray(every[np.diff(every, prepend=-1.0) > every * SAME_LENGTH])


@lru_cache(maxsize=8)
def _lengths_of_squares(spacing_mm: tuple[float, ...], limit: int) -> Numbers:
    """The length of each square of voxels that are cubes, up to a limit; NaN where none is listed."""
    known = _lengths(spacing_mm, math.ceil(math.log2(limit) / 2))
    squares = np.rint((known / spacing_mm[0]) ** 2).astype(np.intp)
    out = np.full(limit + 1, math.nan)
    out[squares[squares <= limit]] = known[squares <= limit]
    return out


def _by_tree(
    mm: Numbers,
    points: ByLabel,
    targets: ByLabel,
    spacing_mm: tuple[float, ...],
    threads: int,
    label: int,
) -> None:
    """Write the distances of all points of a label."""
    from scipy.spatial import cKDTree  # slow to import

    which, spacing = points.part(label), np.asarray(spacing_mm)
    at, sites = points.at(which), targets.at(targets.part(label))
    tree = cKDTree(sites.T * spacing, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(at.T * spacing, workers=threads)[1]
    mm[which] = lengths_mm((at - sites[:, nearest]).T, spacing_mm)
