"""A checked Grid from the affine of any file format."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.affine import Affine
from medseg.core.errors import GeometryError, GridMismatchError, counted, plural
from medseg.core.volume import SAME_GRID_MM, Grid, LabelMap
from medseg.io.itk.lengths import converted

LARGEST_SHEAR_DEGREES = 0.5
NOTICED_SHEAR_DEGREES = 0.01
USUAL_SPACING_MM = (0.1, 10.0)


def checked_grid(
    shape: tuple[int, int, int],
    affine: Affine,
    source: Path,
    what: str = "affine",
    units: Sequence[str] = (),
) -> tuple[Grid, tuple[str, ...]]:
    """The checked grid, and warnings about it.

    Args:
        shape: voxels along I, J, K.
        affine: voxel index to RAS+ mm.
        source: the file, for the message.
        what: what the matrix is called there.
        units: of length, in which the file states the matrix, converted since; see `lengths.unit_of`.

    Raises:
        GeometryError: the matrix is not finite, singular, or sheared beyond 0.5 degrees.
    """
    require_invertible(affine, source, what)
    shear = aff.shear_degrees(affine)
    if shear > LARGEST_SHEAR_DEGREES:
        raise GeometryError(
            f"the axes of the {what} are sheared by {shear:.2f} degrees (limit {LARGEST_SHEAR_DEGREES})",
            source=source,
            hint="resample it to a rectangular grid first",
        )
    try:
        grid = Grid(shape, affine)
    except GeometryError as fault:
        raise GeometryError(fault.fault, source=source) from None
    return grid, (*_shear_warning(shear), *_size_warning(grid, units))


def require_invertible(affine: Affine, source: Path, what: str) -> None:
    """Refuse a singular matrix.

    Raises:
        GeometryError: an entry is not finite, or the matrix is singular.
    """
    if not np.isfinite(affine).all() or np.abs(affine).max() > 1e9:
        raise GeometryError(
            f"the {what} has entries that are not positions: {numbers(affine)}", source=source
        )
    norms = np.asarray(aff.spacing_mm(affine))
    if norms.min() <= 0 or aff.voxel_volume_mm3(affine) < 1e-3 * norms.prod():
        raise GeometryError(f"the {what} is singular: {numbers(affine)}", source=source)


def numbers(affine: Affine) -> str:
    """The three rows of an affine on one line.

    >>> numbers(np.eye(4))
    '[1 0 0 0; 0 1 0 0; 0 0 1 0]'
    """
    return "[" + "; ".join(" ".join(f"{x:.5g}" for x in row) for row in np.round(affine[:3], 9) + 0.0) + "]"


def on_grid(labels: LabelMap, grid: Grid, source: Path) -> LabelMap:
    """A label map whose voxels are some of a grid's, cropped or reordered, on all of that grid.

    Args:
        labels: the map; background around it is taken for cropped away.
        grid: where it is wanted.
        source: its file, for the message.

    Raises:
        GridMismatchError: its voxels are not voxels of the grid, to 1e-3 mm, or labels lie outside.
    """
    if labels.grid.matches(grid):
        return replace(labels, grid=grid)
    exact = np.linalg.solve(grid.affine, labels.grid.affine)
    step = np.rint(exact)
    off_mm = np.linalg.norm(grid.affine[:3] @ (step - exact) @ _corners(labels.grid.shape), axis=0).max()
    turns = np.abs(step[:3, :3])
    if off_mm > SAME_GRID_MM or (turns.sum(axis=0) != 1).any() or (turns.sum(axis=1) != 1).any():
        labels.grid.require(grid, "the segmentation and the requested grid", str(source))
    array, start = _turned(labels.array, step)
    inside, place = _shared(array.shape, start, grid.shape)
    out = np.zeros(grid.shape, dtype=array.dtype)
    out[place] = array[inside]
    lost = int(np.count_nonzero(array) - np.count_nonzero(out))
    if lost:
        raise GridMismatchError(
            f"{counted(lost, 'labelled voxel')} {plural(lost, 'lies', 'lie')} outside the requested grid",
            source=source,
            hint="give the scan that was segmented",
        )
    return replace(labels, array=out, grid=grid)


def _corners(shape: Sequence[int]) -> NDArray[np.float64]:
    """Indices (4, 8) of the corner voxels, in homogeneous coordinates."""
    corners = list(itertools.product(*((0.0, n - 1.0) for n in shape), (1.0,)))
    return np.array(corners).T


def _turned(array: NDArray[np.integer], step: Affine) -> tuple[NDArray[np.integer], list[int]]:
    """The array in the axis order and directions of the grid, and where its first voxel lies there."""
    order = np.abs(step[:3, :3]).argmax(axis=1)
    start = []
    array = array.transpose(order)
    for axis, old in enumerate(order):
        first = int(step[axis, 3])
        if step[axis, old] < 0:
            array = np.flip(array, axis)
            first -= array.shape[axis] - 1
        start.append(first)
    return array, start


def _shared(
    shape: Sequence[int], start: Sequence[int], whole: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What two boxes share: as a part of the first, which begins at `start`, and of the second."""
    low = [min(max(0, s), n) for s, n in zip(start, whole, strict=True)]
    high = [max(min(s + size, n), first) for s, size, n, first in zip(start, shape, whole, low, strict=True)]
    inside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    return inside, tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _shear_warning(shear: float) -> tuple[str, ...]:
    if shear <= NOTICED_SHEAR_DEGREES:
        return ()
    return (f"The axes depart from right angles by {shear:.2f} degrees.",)


def is_usual(spacing_mm: Sequence[float]) -> bool:
    """Whether voxels of these sides need no warning."""
    low, high = USUAL_SPACING_MM
    return all(low <= side <= high for side in spacing_mm)


def _size_warning(grid: Grid, units: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of the size of voxels: that it was converted, that it is unusual, or both."""
    said = converted(*units)
    if is_usual(grid.spacing_mm):
        return said
    low, high = USUAL_SPACING_MM
    sizes = " x ".join(f"{s:.4g}" for s in grid.spacing_mm)
    unusual = f"voxels measure {sizes} mm, outside the usual {low} to {high} mm."
    return (f"{said[0].removesuffix('.')}, where the {unusual}" if said else f"The {unusual}",)
