"""Slices turned the way radiologists look at them: the patient's left on the right of the image.

Slices follow the array's own axes, so nothing is interpolated; which way they are turned comes
from the affine, never from the order of the array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.affine import WORLD_LETTERS
from medseg.core.boxes import cut_at
from medseg.core.errors import GeometryError
from medseg.core.volume import Grid

VIEWS = (("axial", 2, 1, 0), ("coronal", 1, 2, 0), ("sagittal", 0, 2, 1))
"""Name, world axis across the slice, world axis down the image, world axis along the image."""

ARRAY_NAMES = "IJK"


@dataclass(frozen=True)
class Plane:
    """How the slices across one array axis are shown.

    Attributes:
        name: axial, coronal or sagittal; "across I" and so on when the orientation is unknown.
        axis: array axis the slices lie across.
        row_axis, column_axis: array axes running down and along the image.
        flip_rows, flip_columns: whether the index falls where the image row or column rises.
        letters: what the left, right, top and bottom edges face; None when unknown.
        world_axis: world axis nearest to `axis`; None when unknown.
        pixel_mm: height and width of one pixel.
    """

    name: str
    axis: int
    row_axis: int
    column_axis: int
    flip_rows: bool
    flip_columns: bool
    letters: tuple[str, str, str, str] | None
    world_axis: int | None
    pixel_mm: tuple[float, float]

    def cut(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Slice `index` of an array (I, J, K) as an image (rows, columns), row 0 on top."""
        image: NDArray[Any] = cut_at(array, index, self.axis)
        if self.row_axis > self.column_axis:
            image = image.T
        return image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def size_mm(self, shape: tuple[int, int, int]) -> tuple[float, float]:
        """Height and width of a whole slice, voxel edge to voxel edge."""
        return shape[self.row_axis] * self.pixel_mm[0], shape[self.column_axis] * self.pixel_mm[1]


def planes(grid: Grid, *, orientation_known: bool = True) -> tuple[Plane, ...]:
    """The views of a grid worth showing: those with more than one voxel each way.

    A grid that is one voxel thick along an axis has one view; a single row of voxels has the view
    with the most voxels.
    """
    views = _anatomical(grid) if orientation_known else _as_stored(grid)
    wide = tuple(p for p in views if min(grid.shape[p.row_axis], grid.shape[p.column_axis]) > 1)
    return wide or (max(views, key=lambda p: grid.shape[p.row_axis] * grid.shape[p.column_axis]),)


def _anatomical(grid: Grid) -> tuple[Plane, ...]:
    world_of, sign = aff.axis_order(grid.affine)
    array_of = [world_of.index(world) for world in range(3)]
    views = []
    for name, across, down, along in VIEWS:
        rows, columns = array_of[down], array_of[along]
        letters = (*reversed(WORLD_LETTERS[along]), *reversed(WORLD_LETTERS[down]))
        views.append(
            Plane(
                name,
                axis=array_of[across],
                row_axis=rows,
                column_axis=columns,
                flip_rows=sign[rows] > 0,
                flip_columns=sign[columns] > 0,
                letters=letters,  # type: ignore[arg-type]
                world_axis=across,
                pixel_mm=(grid.spacing_mm[rows], grid.spacing_mm[columns]),
            )
        )
    return tuple(views)


def _as_stored(grid: Grid) -> tuple[Plane, ...]:
    views = []
    for axis, rows, columns in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        pixel_mm = (grid.spacing_mm[rows], grid.spacing_mm[columns])
        name = f"across {ARRAY_NAMES[axis]}"
        views.append(Plane(name, axis, rows, columns, False, False, None, None, pixel_mm))
    return tuple(views)


def position(grid: Grid, plane: Plane, point: tuple[float, float, float]) -> str:
    """Where a slice lies, by letter and millimetres; empty when the orientation is unknown.

    >>> import numpy as np
    >>> position(Grid((9, 9, 9), np.eye(4)), planes(Grid((9, 9, 9), np.eye(4)))[0], (0, 0, 5))
    'S 5.0 mm'
    """
    if plane.world_axis is None:
        return ""
    millimetres = round(float(aff.apply(grid.affine, point)[plane.world_axis]), 1)
    return f"{WORLD_LETTERS[plane.world_axis][millimetres >= 0]} {abs(millimetres):.1f} mm"


def require_shape(grid: Grid, **arrays: NDArray[Any] | None) -> None:
    """Refuse arrays that are not of the grid's shape.

    Raises:
        GeometryError: which array, with both shapes.
    """
    for what, array in arrays.items():
        if array is not None and array.shape != grid.shape:
            raise GeometryError(f"{what} array of shape {array.shape}, the grid says {grid.shape}")
