"""Boxes of voxels: around masks and labels, united, widened, and which faces of an array they reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.errors import GeometryError
from medseg.core.volume import Grid

T = TypeVar("T", bound=np.generic)

Triple = tuple[int, int, int]
Slices = tuple[slice, ...]
"""A box as it cuts an array: a slice an axis, with a start and a stop."""

MOST_NUMBERS = 2**20
"""Label values above this are renumbered before their boxes are looked for."""


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

    @classmethod
    def of(cls, slices: Slices) -> Box:
        """The box of three slices."""
        i, j, k = slices
        return cls((i.start, j.start, k.start), (i.stop, j.stop, k.stop))

    @property
    def shape(self) -> Triple:
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    def moved(self, by: Triple) -> Box:
        """The box, so many voxels further along each axis."""
        return Box.of(tuple(slice(s.start + n, s.stop + n) for s, n in zip(self.slices, by, strict=True)))

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


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of them, of which there is at least one.

    >>> around([Box((1, 0, 2), (4, 5, 3)), Box((0, 2, 2), (2, 3, 9))])
    Box(start=(0, 0, 2), stop=(4, 5, 9))
    """
    return Box.of(union(box.slices for box in boxes))


def union(boxes: Iterable[Slices]) -> Slices:
    """The smallest box around boxes, of which there is at least one.

    >>> union([(slice(1, 3),), (slice(5, 6),)])
    (slice(1, 6, None),)
    """
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)


def widened(box: Slices, voxels: int | Sequence[int], shape: Sequence[int]) -> Slices:
    """A box with a margin on both sides, as far as the array reaches.

    Args:
        box: in an array of `shape`.
        voxels: the margin, the same along all axes or for each of them.
        shape: of the array.

    >>> widened((slice(1, 3), slice(4, 6)), 2, (9, 7))
    (slice(0, 5, None), slice(2, 7, None))
    """
    margins = (voxels,) * len(box) if isinstance(voxels, int) else voxels
    sides = zip(box, margins, shape, strict=True)
    return tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in sides)


def relative(part: Slices, box: Slices) -> Slices:
    """A part of a box, counted from the start of the box.

    >>> relative((slice(5, 7),), (slice(4, 9),))
    (slice(1, 3, None),)
    """
    return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))


def bounding_box(array: NDArray[Any]) -> Slices | None:
    """The smallest box around what is not 0 in an array of two axes or more; None where all is.

    >>> bounding_box(np.eye(3, dtype=bool)[:2])
    (slice(0, 2, None), slice(0, 2, None))
    """
    if not array.size:
        return None
    inside: NDArray[np.bool_] = array if array.dtype == np.bool_ else array != 0
    along_first, along_last = np.asarray(inside.any(axis=0)), np.asarray(inside.any(axis=-1))
    spans = [*(_any_but(along_last, axis) for axis in range(inside.ndim - 1)), _any_but(along_first, -1)]
    found = [np.flatnonzero(span) for span in spans]
    if not all(at.size for at in found):
        return None
    return tuple(slice(int(at[0]), int(at[-1]) + 1) for at in found)


def _any_but(inside: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Whether there is anything, along one axis."""
    return np.asarray(np.moveaxis(inside, axis, 0).reshape(inside.shape[axis], -1).any(axis=1))


SEARCHED_ONE_BY_ONE = 2**26
"""Voxels to look at, one value after another, that take less time than to import what takes one pass."""


def label_boxes(labels: NDArray[np.integer], values: Iterable[int]) -> dict[int, Slices]:
    """The smallest box around each of some values, of those that there are.

    Args:
        labels: label values, of any number of axes.
        values: to look for; negative and huge ones are values like others.

    >>> label_boxes(np.array([[0, 7, 7], [0, 0, -2]]), (-2, 3, 7))
    {-2: (slice(1, 2, None), slice(2, 3, None)), 7: (slice(0, 1, None), slice(1, 3, None))}
    """
    limits = np.iinfo(labels.dtype)
    wanted = sorted({value for value in values if limits.min <= value <= limits.max})
    if not wanted or not labels.size:
        return {}
    if len(wanted) * labels.size <= SEARCHED_ONE_BY_ONE:
        found = {value: bounding_box(labels == value) for value in wanted}
        return {value: box for value, box in found.items() if box is not None}
    return _boxes_in_one_pass(labels, wanted)


def _boxes_in_one_pass(labels: NDArray[np.integer], wanted: Sequence[int]) -> dict[int, Slices]:
    """As `label_boxes`, of values that the type of the labels can hold, ascending."""
    from scipy import ndimage  # slow to import

    numbers = wanted
    if wanted[0] < 1 or wanted[-1] > MOST_NUMBERS:
        order = np.array(wanted, labels.dtype)
        at = np.minimum(np.searchsorted(order, labels), len(wanted) - 1)
        labels = np.where(order[at] == labels, at + 1, 0)
        numbers = list(range(1, len(wanted) + 1))
    found = ndimage.find_objects(labels, max_label=numbers[-1])
    boxes = {value: found[number - 1] for value, number in zip(wanted, numbers, strict=True)}
    return {value: box for value, box in boxes.items() if box is not None}


def cut_at(array: NDArray[T], index: int, axis: int) -> NDArray[T]:
    """A view of one plane of an array, without that axis; unlike `numpy.take`, it copies nothing.

    >>> cut_at(np.arange(6).reshape(2, 3), -1, 1).tolist()
    [2, 5]
    """
    return array[(slice(None),) * (axis % array.ndim) + (index,)]


def outer_faces(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Axis and end, 0 or -1, of each face of an array at which what it shows may be cut.

    The two faces of an axis of one voxel are none: a single slice shows all there is of its plane.

    >>> outer_faces((4, 1, 3))
    ((0, 0), (0, -1), (2, 0), (2, -1))
    """
    return tuple((axis, end) for axis, n in enumerate(shape) if n > 1 for end in (0, -1))


def faces_reached(box: Slices, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Those of `outer_faces` that a box reaches.

    >>> faces_reached((slice(0, 2), slice(0, 1), slice(1, 3)), (4, 1, 3))
    ((0, 0), (2, -1))
    """
    return tuple(
        (axis, end)
        for axis, end in outer_faces(shape)
        if (box[axis].start == 0 if end == 0 else box[axis].stop == shape[axis])
    )


def profiles(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Voxels of a mask in each slice across each axis.

    >>> profiles(np.array([[True, True], [False, True]]))
    (array([2, 1]), array([1, 2]))
    """
    axes = range(mask.ndim)
    return tuple(np.asarray(np.count_nonzero(mask, axis=tuple(set(axes) - {axis}))) for axis in axes)


def centroid(profiles: Sequence[NDArray[np.int64]]) -> tuple[float, ...]:
    """The centroid of a mask in voxels, from its `profiles`; the mask has a voxel at least.

    >>> centroid(profiles(np.array([[True, True], [False, True]])))[0]
    0.3333333333333333
    """
    return tuple(float(np.average(np.arange(len(counts)), weights=counts)) for counts in profiles)


THIN_SHARE = 0.25
"""The central slice gives way to the fullest one when it holds less than this share of its voxels."""


def middle_voxel(mask: NDArray[np.bool_]) -> Triple:
    """The voxel at the centroid; along an axis where its slice holds little, the fullest slice's.

    >>> middle_voxel(np.ones((3, 5, 1), bool))
    (1, 2, 0)
    """
    point = []
    along = profiles(mask)
    for counts, middle in zip(along, map(round, centroid(along)), strict=True):
        thin = counts[middle] < THIN_SHARE * counts.max()
        point.append(int(counts.argmax()) if thin else middle)
    i, j, k = point
    return i, j, k
