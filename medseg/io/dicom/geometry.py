"""One regular grid from the positions of DICOM slices, or an error with both values.

Source: DICOM PS3.3, C.7.6.2.1.1 (Image Position and Orientation, Pixel Spacing); world LPS there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import GeometryError
from medseg.core.volume import Grid
from medseg.io.placement import LARGEST_SHEAR_DEGREES, checked_grid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
SAME_ORIENTATION = 1e-3
SAME_SPACING = 1e-3
UNIT_LENGTH = 1e-3
STEP_TOLERANCE = 0.01
STEP_TOLERANCE_MM = 0.01
ROUNDED_TOLERANCE = 0.1
"""How far from an even stack a slice may lie, in steps, where some writer rounded the positions."""
SHOWN = 4

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class SlicePlace:
    """Geometry of one slice from its header; empty tuples where it is missing.

    Attributes:
        position: of the first pixel's centre, LPS mm.
        orientation: direction of the rows, then of the columns.
        pixel_spacing: mm between rows, then between columns.
        thickness: mm between slices, for a series of one.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    thickness: tuple[float, ...]


def stack(
    places: Sequence[SlicePlace], in_plane: tuple[int, int], names: Sequence[str], source: Path
) -> tuple[list[int], Grid, tuple[str, ...]]:
    """Order slices along their normal and join them.

    Args:
        places: one per slice, in any order.
        in_plane: columns and rows of every slice.
        names: of the files, for messages.
        source: the folder, for messages.

    Returns:
        The order (indices into `places`), the grid in RAS+ mm, and warnings.

    Raises:
        GeometryError: a place is missing or impossible, orientation or spacing varies, slices are
            duplicated or missing, or the stack is tilted by more than 0.5 degrees.
    """
    _require_places(places, names, source)
    rows, columns = _directions(places, names, source)
    row_mm, column_mm = _pixel_spacing(places, names, source)
    normal = np.cross(rows, columns)
    positions = np.asarray([p.position for p in places])
    along = positions @ normal
    order = [int(n) for n in np.argsort(along, kind="stable")]
    positions, along = positions[order], along[order]
    said: tuple[str, ...] = ()
    if len(order) == 1:
        step = normal * _thickness(places[0], source)
    else:
        step = (positions[-1] - positions[0]) / (len(order) - 1)
        if not _are_even(along, [names[n] for n in order], source):
            positions, step, said = _evened(positions, normal, source)
        _require_straight(positions, step, normal, source)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ np.column_stack([rows * column_mm, columns * row_mm, step])
    affine[:3, 3] = LPS_TO_RAS @ positions[0]
    grid, warnings = checked_grid((*in_plane, len(order)), affine, source, "stack of slices")
    return order, grid, said + warnings


def _require_places(places: Sequence[SlicePlace], names: Sequence[str], source: Path) -> None:
    for place, name in zip(places, names, strict=True):
        if not (place.position and place.orientation and place.pixel_spacing):
            raise GeometryError(
                f"the slice {name} does not state its position",
                source=source,
                hint="export the original series",
            )


def _directions(places: Sequence[SlicePlace], names: Sequence[str], source: Path) -> tuple[Vector, Vector]:
    every = np.asarray([p.orientation for p in places])
    apart = np.abs(every - every[0]).max(axis=1)
    if apart.max() > SAME_ORIENTATION:
        raise GeometryError(
            f"slices differ in orientation: {names[0]} has {_text(every[0])}, "
            f"{names[int(apart.argmax())]} has {_text(every[int(apart.argmax())])}",
            source=source,
            hint="separate them into series",
        )
    rows, columns = every[0, :3], every[0, 3:]
    lengths = np.linalg.norm(rows), np.linalg.norm(columns)
    if max(abs(n - 1.0) for n in lengths) > UNIT_LENGTH or abs(rows @ columns) > UNIT_LENGTH:
        raise GeometryError(f"the orientation {_text(every[0])} is not a pair of axes", source=source)
    rows = rows / lengths[0]
    columns = columns - rows * (rows @ columns)
    return rows, columns / np.linalg.norm(columns)


def _pixel_spacing(places: Sequence[SlicePlace], names: Sequence[str], source: Path) -> tuple[float, float]:
    every = np.asarray([p.pixel_spacing for p in places])
    if every.min() <= 0:
        raise GeometryError(
            f"the pixel spacing is {_text(every[int(every.argmin()) // 2])} mm", source=source
        )
    apart = np.abs(every / every[0] - 1.0).max(axis=1)
    if apart.max() > SAME_SPACING:
        raise GeometryError(
            f"slices differ in pixel spacing: {names[0]} has {_text(every[0])} mm, "
            f"{names[int(apart.argmax())]} has {_text(every[int(apart.argmax())])} mm",
            source=source,
            hint="separate them into series",
        )
    return float(every[0, 0]), float(every[0, 1])


def _thickness(place: SlicePlace, source: Path) -> float:
    if not place.thickness or place.thickness[0] <= 0:
        raise GeometryError("the only slice does not state its thickness", source=source)
    return place.thickness[0]


def _are_even(along: Vector, names: Sequence[str], source: Path) -> bool:
    """Whether slices lie at equal steps, none twice and none missing."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    limit = max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM)
    twice = np.flatnonzero(steps <= limit)
    if twice.size:
        pairs = [f"{names[n]} and {names[n + 1]} at {along[n]:.2f} mm" for n in twice[:SHOWN]]
        raise GeometryError(
            f"{twice.size + 1} or more slices share a position: {', '.join(pairs)}",
            source=source,
            hint="remove the duplicates, or separate the series",
        )
    gaps = np.flatnonzero(steps > 1.5 * usual)
    if gaps.size:
        places = [f"{steps[n]:.2f} mm from {along[n]:.2f} to {along[n + 1]:.2f} mm" for n in gaps[:SHOWN]]
        raise GeometryError(
            f"slices are missing: steps of {', '.join(places)}, where {usual:.2f} mm is usual",
            source=source,
            hint="export the series whole",
        )
    return bool(np.abs(steps - usual).max() <= limit)


def _evened(positions: Vector, normal: Vector, source: Path) -> tuple[Vector, Vector, tuple[str, ...]]:
    """Positions that some writer rounded, brought to the even stack that fits them best.

    Returns:
        The positions with the first moved to where the stack begins, its step, and what is said of it.

    Raises:
        GeometryError: a slice lies further than a tenth of the step from that stack.
    """
    middle = positions.mean(axis=0)
    centred = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = centred @ (positions - middle) / (centred @ centred)
    even = middle + centred[:, None] * step
    step_mm = float(step @ normal)
    off, limit = float(np.abs((positions - even) @ normal).max()), ROUNDED_TOLERANCE * step_mm
    if off > limit:
        steps = np.diff(positions @ normal)
        raise GeometryError(
            f"the slice spacing varies from {steps.min():.3f} to {steps.max():.3f} mm; slices lie up to "
            f"{off:.3f} mm off an even stack (limit {limit:.3f})",
            source=source,
            hint="resample the series to even spacing first",
        )
    said = (
        f"The slices lie up to {off:.3f} mm off even steps of {step_mm:.3f} mm, as if their positions were "
        f"rounded; they were read as even (limit {limit:.3f} mm)."
    )
    return np.vstack([even[:1], positions[1:]]), step, (said,)


def _require_straight(positions: Vector, step: Vector, normal: Vector, source: Path) -> None:
    """No gantry tilt: the slices lie on top of each other, not beside."""
    sideways = float(np.linalg.norm(step - normal * (step @ normal)))
    tilt = float(np.degrees(np.arctan2(sideways, step @ normal)))
    if tilt > LARGEST_SHEAR_DEGREES:
        raise GeometryError(
            f"the gantry was tilted by {tilt:.2f} degrees (limit {LARGEST_SHEAR_DEGREES})",
            source=source,
            hint="resample it to a rectangular grid with dcm2niix",
        )
    line = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.linalg.norm(positions - line, axis=1).max())
    limit = max(0.1 * float(np.linalg.norm(step)), 0.1)
    if off > limit:
        raise GeometryError(
            f"slices lie up to {off:.2f} mm off a straight line (limit {limit:.2f})",
            source=source,
            hint="resample the series to even spacing first",
        )


def _text(values: Vector) -> str:
    return "\\".join(f"{v:.5g}" for v in values)
