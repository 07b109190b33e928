"""Changes between two segmentations of one patient: volumes, and lesions one by one.

A change counts where it exceeds the smallest change that is more than noise: two measurements of
the same thing differ by less in 95 % of pairs (the repeatability coefficient, 1.96 sqrt(2) s_w).

References:
    Bland and Altman 1996, Measurement error, doi:10.1136/bmj.313.7059.744; of errors that grow with the
    size, doi:10.1136/bmj.313.7049.106.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from medseg.core import affine as aff
from medseg.core.components import components
from medseg.core.volume import Grid

Mask = NDArray[np.bool_]
Labelled = NDArray[np.integer[Any]]
Kind = Literal["new", "gone", "grown", "shrunk", "unchanged", "merged", "split", "rearranged", "outside"]

OUTSIDE_SHARE = 0.5
"""A lesion with more than this share beyond the other scan is neither new nor gone: it was not looked at."""


@dataclass(frozen=True)
class Smallest:
    """The smallest change that is more than noise.

    Attributes:
        ml: for any volume.
        percent: of the smaller of two volumes; None where it is not known.
    """

    ml: float
    percent: float | None = None

    def between(self, first_ml: float, second_ml: float) -> float:
        """What a change between two volumes must exceed, in ml: the larger of both bounds.

        >>> Smallest(0.2, 25.0).between(2.0, 4.0), Smallest(0.75, 25.0).between(2.0, 4.0)
        (0.5, 0.75)
        """
        return max(self.ml, (self.percent or 0.0) / 100 * min(first_ml, second_ml))


@dataclass(frozen=True)
class Change:
    """The volume of one structure at two times.

    Attributes:
        structure: its name.
        first_ml: at the first time.
        second_ml: at the second.
        smallest_ml: what the change must exceed to be more than noise; None where it is not known.
        cut: it reaches the edge of one of the scans, so that part of it may be missing there.
    """

    structure: str
    first_ml: float
    second_ml: float
    smallest_ml: float | None = None
    cut: bool = False

    @property
    def change_ml(self) -> float:
        return self.second_ml - self.first_ml

    @property
    def exceeds(self) -> bool | None:
        """Whether the change is more than noise; None where that is not known."""
        return None if self.smallest_ml is None else abs(self.change_ml) > self.smallest_ml

    @property
    def percent(self) -> float | None:
        """Of the first volume; None unless the change exceeds the smallest one."""
        return 100 * self.change_ml / self.first_ml if self.exceeds and self.first_ml else None


def changes(
    first_ml: Mapping[str, float],
    second_ml: Mapping[str, float],
    smallest: Mapping[str, Smallest],
    cut: Sequence[str] = (),
) -> tuple[Change, ...]:
    """The change of each structure.

    Args:
        first_ml: volumes at the first time, by structure.
        second_ml: at the second, of the same structures.
        smallest: the smallest change of the structures where it is known.
        cut: structures that reach the edge of a scan.
    """
    return tuple(
        Change(
            name,
            first,
            second_ml[name],
            smallest[name].between(first, second_ml[name]) if name in smallest else None,
            name in cut,
        )
        for name, first in first_ml.items()
    )


@dataclass(frozen=True)
class LesionChange:
    """Lesions that belong together because they overlap, at both times.

    Attributes:
        kind: "new" and "gone" have none at the other time; "grown", "shrunk" and "unchanged" are one at both;
            "merged" were several and are one, "split" was one and is several, "rearranged" are several at
            both; "outside" lies for the most part beyond the other scan.
        first_ml: volumes at the first time, the largest first.
        second_ml: at the second.
        centre_mm: of the lesions at the last time they are there, in the world of that scan.
        smallest_ml: what the change of one lesion must exceed; None where it is not known.
    """

    kind: Kind
    first_ml: tuple[float, ...]
    second_ml: tuple[float, ...]
    centre_mm: tuple[float, float, float]
    smallest_ml: float | None = None

    @property
    def change_ml(self) -> float:
        return sum(self.second_ml) - sum(self.first_ml)


def track_lesions(
    first: Mask | Labelled,
    first_grid: Grid,
    second: Mask | Labelled,
    second_grid: Grid,
    smallest: Smallest | None = None,
) -> tuple[LesionChange, ...]:
    """Match the objects of two scans by their overlap.

    Nothing is registered: two voxels are in the same place when one is nearest to the other's centre in
    world coordinates. Both directions are looked at, so the answer does not depend on which grid is finer.

    Args:
        first: one structure at the first time, (I, J, K): a bool mask, whose connected components are its
            objects, or the number of each voxel's object, 0 where there is none.
        first_grid: of the first.
        second: at the second time, likewise.
        second_grid: of the second.
        smallest: change of the volume that is more than noise, for "grown" and "shrunk"; without one, any.

    Returns:
        Groups of lesions, the largest first.
    """
    a, b = _Lesions(first, first_grid), _Lesions(second, second_grid)
    there, back = _Placed(a, b), _Placed(b, a)
    pairs = sorted({*there.pairs, *((m, n) for n, m in back.pairs)})
    groups = _groups(len(a.ml), len(b.ml), pairs)
    found = [_change(a, b, one, two, smallest) for one, two in groups]
    seen = [
        _seen(change, there.outside, back.outside, *group)
        for change, group in zip(found, groups, strict=True)
    ]
    return tuple(sorted(seen, key=lambda g: (-max(sum(g.first_ml), sum(g.second_ml)), g.centre_mm)))


class _Lesions:
    """The lesions of one scan, numbered from 0: voxels, their number and sum of indices, volumes in ml."""

    def __init__(self, found: Mask | Labelled, grid: Grid) -> None:
        self.grid = grid
        self.labelled = _numbered(found)
        self.voxels = np.argwhere(self.labelled)
        self.lesion = self.labelled[tuple(self.voxels.T)].astype(np.int64) - 1
        self.sizes = np.bincount(self.lesion)
        self.sums = [np.bincount(self.lesion, axis) for axis in self.voxels.T.astype(np.float64)]
        self.ml = [grid.volume_ml(n) for n in self.sizes.tolist()]

    def centre_mm(self, lesions: Sequence[int]) -> tuple[float, float, float]:
        """Of all voxels of the lesions, in world coordinates."""
        at = list(lesions)
        middle = [axis[at].sum() / self.sizes[at].sum() for axis in self.sums]
        x, y, z = aff.apply(self.grid.affine, middle)
        return round(float(x), 3), round(float(y), 3), round(float(z), 3)


def _numbered(found: Mask | Labelled) -> Labelled:
    """The components of a mask, or given objects, numbered from 1 without a gap."""
    if found.dtype == np.bool_:
        return components(found)
    known = np.unique(found[found > 0])
    return np.where(found > 0, np.searchsorted(known, found) + 1, 0).astype(np.uint32)


class _Placed:
    """The lesions of one scan put on the grid of another: pairs that share a place, and what lies outside."""

    def __init__(self, own: _Lesions, other: _Lesions) -> None:
        world = aff.apply(own.grid.affine, own.voxels)
        back = np.asarray(np.linalg.inv(other.grid.affine), dtype=np.float64)
        nearest = np.rint(aff.apply(back, world)).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < np.array(other.grid.shape))).all(axis=1)
        there = other.labelled[tuple(nearest[inside].T)].astype(np.int64) - 1
        found = np.stack((own.lesion[inside], there), axis=1)[there >= 0]
        self.pairs = [(int(m), int(n)) for m, n in np.unique(found, axis=0)]
        self.outside = np.bincount(own.lesion, ~inside, len(own.ml)) / np.maximum(own.sizes, 1)


def _groups(
    n_first: int, n_second: int, pairs: Sequence[tuple[int, int]]
) -> list[tuple[list[int], list[int]]]:
    """Lesions that overlap, directly or through others, by their numbers at both times."""
    size = n_first + n_second
    if not size:
        return []
    rows, columns = [m for m, _ in pairs], [n_first + n for _, n in pairs]
    links = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(size, size))
    count, group = connected_components(links, directed=False)
    members = [np.flatnonzero(group == k) for k in range(count)]
    return [
        ([int(x) for x in m if x < n_first], [int(x) - n_first for x in m if x >= n_first]) for m in members
    ]


def _change(
    a: _Lesions, b: _Lesions, one: Sequence[int], two: Sequence[int], smallest: Smallest | None
) -> LesionChange:
    first, second = (tuple(sorted((s.ml[n] for n in at), reverse=True)) for s, at in ((a, one), (b, two)))
    bound = smallest.between(first[0], second[0]) if smallest and len(one) == len(two) == 1 else None
    centre = b.centre_mm(two) if two else a.centre_mm(one)
    return LesionChange(_kind(first, second, bound), first, second, centre, bound)


def _seen(
    change: LesionChange,
    outside_first: NDArray[np.float64],
    outside_second: NDArray[np.float64],
    one: Sequence[int],
    two: Sequence[int],
) -> LesionChange:
    """What is new or gone, unless the other scan does not reach there."""
    gone = change.kind == "gone" and outside_first[one[0]] > OUTSIDE_SHARE
    new = change.kind == "new" and outside_second[two[0]] > OUTSIDE_SHARE
    return replace(change, kind="outside") if gone or new else change


def _kind(first: Sequence[float], second: Sequence[float], bound: float | None) -> Kind:
    if not first or not second:
        return "gone" if first else "new"
    if len(first) > 1 or len(second) > 1:
        several: Kind = "merged" if len(second) == 1 else "split"
        return several if min(len(first), len(second)) == 1 else "rearranged"
    change = second[0] - first[0]
    if abs(change) <= (bound or 0.0):
        return "unchanged"
    return "grown" if change > 0 else "shrunk"
