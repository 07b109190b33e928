"""Post-processing: anatomical constraints on the labels of structures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import cut_at, label_boxes, union, widened
from medseg.core.components import components
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.model.spec import PostprocessSpec

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]

ISLAND_SHARE, SIDE_SHARE = 0.1, 0.01
"""Up to this share of a structure, or of a side, a piece beside its largest is small. (Half a cerebellum is a
tenth of its side, and lies apart from the rest of it.)"""


def postprocess(labels: Labels, structures: StructureSet, spec: PostprocessSpec, grid: Grid) -> Labels:
    """Apply the requested steps: sides, then components and holes of every structure in turn.

    Works on the values painted in the label map, so for overlapping regions on the part of a
    region that no later one was painted over. Components taken away become background; a hole is
    filled only where it is background, never over another structure. On a grid one voxel thick
    along an axis, a hole is a hole of the plane.

    Args:
        labels: (I, J, K), in the dataset's own values.
        structures: what the values mean.
        spec: what to do.
        grid: the labels' grid, for the volume of a voxel.

    Returns:
        An array of the same shape and type; the given one where nothing is asked for.

    Raises:
        UsageError: the spec names a structure that does not exist.
    """
    if not (spec.names or spec.one_side):
        return labels
    out = labels.copy()
    if spec.one_side:
        _join_sides(out, structures)
    pieces, largest, filled = (
        _values(structures, names) for names in (spec.one_piece, spec.largest_component, spec.fill_holes)
    )
    least = {
        s.value: mm3 / grid.voxel_volume_mm3
        for name, mm3 in spec.min_volume_mm3.items()
        for s in structures.meant(name)
    }
    asked = pieces | largest | filled | least.keys()
    boxes = label_boxes(out, asked)
    flat = tuple(axis for axis, size in enumerate(labels.shape) if size == 1)
    for value in (s.value for s in structures if s.value in boxes):
        if value in pieces:
            around = widened(boxes[value], 1, out.shape)
            for heir in _give_away(out[around], value):
                boxes[heir] = union((boxes.get(heir, around), around))
        part = np.squeeze(out[boxes[value]], axis=flat)
        _remove_components(part, value, least.get(value, 0.0), value in largest)
        if value in filled:
            _fill_holes(part, value)
    return out


def _values(structures: StructureSet, names: Iterable[str]) -> set[int]:
    return {s.value for name in names for s in structures.meant(name)}


def _join_sides(labels: Labels, structures: StructureSet) -> None:
    """Relabel small components of one side that touch only the other side, in place."""
    twins = structures.twins()
    exchanged = np.arange(int(labels.max()) + 1, dtype=labels.dtype)
    side = np.zeros(len(exchanged), np.uint8)
    for pair in twins:
        for here, there in (pair, pair[::-1]):
            if here < len(exchanged):
                exchanged[here], side[here] = there, 1 + (here == pair[1])
    sides = side[labels]
    for here in (1, 2):
        pieces = _Pieces.of(sides == here, SIDE_SHARE)
        if not pieces.small.size:
            continue
        wrong = pieces.neighbours(sides, 3)[:, 3 - here] > 0
        moved = pieces.places(wrong)
        labels[moved] = exchanged[labels[moved]]
        sides[moved] = 3 - here


def _give_away(labels: Labels, value: int) -> set[int]:
    """Relabel small components of `value` as what they touch most, in place; returns the values that grew."""
    pieces = _Pieces.of(labels == value, ISLAND_SHARE)
    if not pieces.small.size:
        return set()
    heirs = pieces.neighbours(labels, int(labels.max()) + 1).argmax(axis=1).astype(labels.dtype)
    labels[pieces.where] = heirs[pieces.rows]
    return set(heirs.tolist()) - {0}


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The small components of a mask; the largest is none.

    Attributes:
        numbers: of the component at each voxel of the mask, from 1; 0 elsewhere.
        small: numbers of the small ones, ascending.
        where: voxels of these.
        rows: which of `small` each such voxel belongs to.
    """

    numbers: NDArray[np.integer]
    small: NDArray[np.intp]
    where: tuple[NDArray[np.intp], ...]
    rows: NDArray[np.intp]

    @classmethod
    def of(cls, mask: Mask, share: float) -> _Pieces:
        """Of the components that hold at most a share of a mask."""
        numbers = components(mask)
        sizes = np.bincount(numbers.ravel(), minlength=1)
        sizes[0] = 0
        largest = sizes.argmax()
        small = (sizes > 0) & (sizes <= share * sizes.sum())
        small[largest] = False
        others = np.flatnonzero((numbers != 0) & (numbers != largest))  # far quicker than `nonzero`
        where = np.unravel_index(others, numbers.shape)
        row = np.cumsum(small) - 1
        row[~small] = -1
        rows = row[numbers[where]]
        kept = rows >= 0
        return cls(numbers, np.flatnonzero(small), tuple(axis[kept] for axis in where), rows[kept])

    def places(self, chosen: Mask) -> tuple[NDArray[np.intp], ...]:
        """Voxels of the chosen ones of `small`."""
        inside = chosen[self.rows]
        return tuple(axis[inside] for axis in self.where)

    def neighbours(self, values: NDArray[np.integer], kinds: int) -> NDArray[np.intp]:
        """How many faces each small piece (rows) shares with voxels of each value that are not its own."""
        own = self.numbers[self.where]
        counts = np.zeros(len(self.small) * kinds, np.intp)
        for axis, size in enumerate(self.numbers.shape):
            for step in (-1, 1):
                moved = self.where[axis] + step
                there = (*self.where[:axis], np.clip(moved, 0, size - 1), *self.where[axis + 1 :])
                touching = (moved >= 0) & (moved < size) & (self.numbers[there] != own)
                pairs = self.rows[touching] * kinds + values[there][touching]
                counts += np.bincount(pairs, minlength=len(counts))
        return counts.reshape(-1, kinds)


def _remove_components(labels: Labels, value: int, smallest_voxels: float, largest_only: bool) -> None:
    """Set the components of `value` that must go to background, in place."""
    if smallest_voxels <= 0 and not largest_only:
        return
    pieces = components(labels == value)
    sizes = np.bincount(pieces.ravel(), minlength=1)
    sizes[0] = 0
    keep = sizes >= max(smallest_voxels, 1)
    if largest_only:
        keep &= np.arange(sizes.size) == sizes.argmax()
    labels[(pieces > 0) & ~keep[pieces]] = 0


def _fill_holes(labels: Labels, value: int) -> None:
    """Give `value` the background that it encloses, in place; a hole opens through faces only."""
    if labels.ndim < 2:  # whose voxels enclose nothing but along a line
        labels = labels.reshape(-1, 1)
    outside = components(labels != value, 2 * labels.ndim)
    open_ones = np.zeros(int(outside.max()) + 1, np.bool_)
    for axis in range(labels.ndim):
        for end in (0, -1):
            open_ones[cut_at(outside, end, axis)] = True
    open_ones[0] = True  # where the structure is
    labels[~open_ones[outside] & (labels == 0)] = value
