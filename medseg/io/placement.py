"""From an affine some file claims to a Grid we trust, whatever the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg import affine as aff
from medseg.affine import Affine
from medseg.errors import GeometryError
from medseg.volume import Grid

LARGEST_SHEAR_DEGREES = 0.5
NOTICED_SHEAR_DEGREES = 0.01
USUAL_SPACING_MM = (0.1, 10.0)


def checked_grid(
    shape: tuple[int, int, int], affine: Affine, source: Path, what: str = "affine"
) -> tuple[Grid, tuple[str, ...]]:
    """The grid, and what a reader should know about it.

    Args:
        shape: voxels along I, J, K.
        affine: voxel index to RAS+ mm.
        source: the file, for the message.
        what: what the matrix is called there.

    Raises:
        GeometryError: the matrix is not finite, singular, or sheared beyond 0.5 degrees.
    """
    require_invertible(affine, source, what)
    shear = aff.shear_degrees(affine)
    if shear > LARGEST_SHEAR_DEGREES:
        raise GeometryError(
            f"the axes of the {what} are sheared by {shear:.2f} degrees (limit {LARGEST_SHEAR_DEGREES})",
            source=source,
            mend="resample it to a rectangular grid first",
        )
    try:
        grid = Grid(shape, affine)
    except GeometryError as fault:
        raise GeometryError(fault.fault, source=source) from None
    return grid, (*_shear_warning(shear), *_spacing_warning(grid))


def require_invertible(affine: Affine, source: Path, what: str) -> None:
    """Refuse a matrix that places no voxels.

    Raises:
        GeometryError: an entry is not finite, or the matrix is singular.
    """
    if not np.isfinite(affine).all() or np.abs(affine).max() > 1e9:
        raise GeometryError(f"the {what} has entries that are no positions: {numbers(affine)}", source=source)
    norms = np.asarray(aff.spacing_mm(affine))
    if norms.min() <= 0 or aff.voxel_volume_mm3(affine) < 1e-3 * norms.prod():
        raise GeometryError(f"the {what} is singular: {numbers(affine)}", source=source)


def numbers(affine: Affine) -> str:
    """The three rows of an affine on one line.

    >>> numbers(np.eye(4))
    '[1 0 0 0; 0 1 0 0; 0 0 1 0]'
    """
    return "[" + "; ".join(" ".join(f"{x:.5g}" for x in row) for row in np.round(affine[:3], 9) + 0.0) + "]"


def _shear_warning(shear: float) -> tuple[str, ...]:
    if shear <= NOTICED_SHEAR_DEGREES:
        return ()
    return (f"The axes depart from right angles by {shear:.2f} degrees.",)


def _spacing_warning(grid: Grid) -> tuple[str, ...]:
    low, high = USUAL_SPACING_MM
    if all(low <= s <= high for s in grid.spacing_mm):
        return ()
    sizes = " x ".join(f"{s:.4g}" for s in grid.spacing_mm)
    return (f"The voxels measure {sizes} mm, outside the usual {low} to {high} mm.",)
