"""Checks of a scan before segmentation: its grid, its units and its voxel size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medseg.core import affine as aff
from medseg.core.errors import GeometryError, listed
from medseg.core.numbers import millilitres
from medseg.core.volume import Grid, Volume
from medseg.findings.finding import Finding, Least, Trained, sentence

TILTED_DEGREES = 10.0
"""Angle between the scan's axes and the patient's from which a page says that they differ."""

SHEARED_DEGREES = 0.1
"""Departure of the axes from a right angle from which a page says that its slices are not square, and a
measurement that its distances take them for it. Files with more than half a degree are not read at all."""

SIDES = ("shortest", "middle", "longest")

DOUBT_SPACING, REFUSE_SPACING = 2.0, 5.0
"""How many times outside the spacings met in training a scan is doubted, and refused."""

HOUNSFIELD_LOW, HOUNSFIELD_AIR, AIR_SHARE = -200.0, -500.0, 0.15
"""A scan with values below the first, and this share of them below the second, is in Hounsfield units."""

MR_CHANNELS = ("MR", "MRI")

NO_ORIENTATION = (
    "The file does not state where the patient's right and left are. Slices are shown as stored, "
    "without letters and positions."
)


def check_grid(grid: Grid, *, orientation_known: bool = True) -> Iterator[Finding]:
    """Findings about the orientation of the grid, which affect how slices are shown.

    Args:
        grid: of the scan.
        orientation_known: whether the file said where the patient's right is.
    """
    tilt, shear = aff.tilt_degrees(grid.affine), aff.shear_degrees(grid.affine)
    if not orientation_known:
        yield Finding("no_orientation", "note", NO_ORIENTATION)
    elif tilt > TILTED_DEGREES:
        yield Finding(
            "tilted",
            "note",
            f"The scan is tilted by up to {tilt:.0f}° against the patient's axes. Slices follow the scan; "
            "letters name the nearest direction.",
            limit=TILTED_DEGREES,
            evidence={"tilt_degrees": round(tilt, 2)},
        )
    if shear > SHEARED_DEGREES:
        yield Finding(
            "sheared",
            "note",
            f"The scan's axes are {shear:.1f}° off a right angle. The slices are shown as if square.",
            limit=SHEARED_DEGREES,
            evidence={"shear_degrees": round(shear, 2)},
        )


def check_scan(volume: Volume, spec: Trained, spatial_dims: int = 3) -> Iterator[Finding]:
    """Findings that make this scan unsuitable for this model.

    Args:
        volume: the scan.
        spec: the model.
        spatial_dims: 3 for a network that looks at volumes, 2 for one that looks at slices.
    """
    yield from _units(volume, spec)
    yield from _field(volume.grid, spec.evidence.volumes_ml or {})
    if 1 in volume.grid.shape and spatial_dims == 3:
        yield Finding(
            "single_slice", "doubt", f"{spec.name} is a 3D network, and the scan is a single slice."
        )
    yield from _spacing(volume.grid.spacing_mm, spec)


def _units(volume: Volume, spec: Trained) -> Iterator[Finding]:
    if spec.channels[0] not in MR_CHANNELS or len(spec.channels) > 1:
        return
    low = float(volume.array.min())
    air = float(np.less(volume.array, HOUNSFIELD_AIR).mean()) if low < HOUNSFIELD_LOW else 0.0
    if air > AIR_SHARE:
        yield Finding(
            "hounsfield_units",
            "doubt",
            f"The intensities look like a CT in Hounsfield units (lowest {low:.0f}, {100 * air:.0f} % below "
            f"{HOUNSFIELD_AIR:.0f}), and {spec.name} was trained on MR.",
            limit=AIR_SHARE,
            evidence={"lowest": round(low, 1), "share_of_air": round(air, 4)},
        )


def _field(grid: Grid, ranges: Mapping[str, Least]) -> Iterator[Finding]:
    least = sum(r.min for r in ranges.values())
    shown = grid.volume_ml(grid.voxels)
    if shown < least:
        yield Finding(
            "small_field",
            "doubt",
            f"The scan shows {millilitres(shown)} ml, and all structures together are "
            f"{millilitres(least)} ml or more, so it cannot show them whole.",
            limit=round(least, 3),
            evidence={"scan_ml": round(shown, 3)},
        )


def require_spacing(grid: Grid, specs: Iterable[Trained]) -> None:
    """Refuse a voxel size too far outside the training range for any useful result.

    Raises:
        GeometryError: for which model.
    """
    for spec in specs:
        if sides := _sides(grid.spacing_mm, spec, REFUSE_SPACING):
            raise GeometryError(_message(sides, spec), hint="resample the scan")


def _spacing(spacing_mm: Sequence[float], spec: Trained) -> Iterator[Finding]:
    """The voxel sizes outside the training range, in one finding."""
    if sides := _sides(spacing_mm, spec, DOUBT_SPACING):
        yield Finding(
            "voxel_size",
            "doubt",
            sentence(_message(sides, spec)),
            limit=DOUBT_SPACING,
            evidence={
                "side_mm": {side.name: round(side.mm, 4) for side in sides},
                "training_mm": {side.name: [side.low, side.high] for side in sides},
            },
        )


class _Side(NamedTuple):
    """A side of a voxel, and the range of it in training."""

    name: str
    mm: float
    low: float
    high: float


def _sides(spacing_mm: Sequence[float], spec: Trained, limit: float) -> list[_Side]:
    """The sides of a voxel that lie more than `limit` times outside the training's."""
    ranges = spec.evidence.spacing_mm
    if ranges is None:
        return []
    every = map(_Side, SIDES, sorted(spacing_mm), ranges.min, ranges.max)
    return [side for side in every if max(side.mm / side.high, side.low / side.mm) > limit]


def _message(sides: Sequence[_Side], spec: Trained) -> str:
    names, verb = listed([side.name for side in sides]), "is" if len(sides) == 1 else "are"
    mm = listed([f"{side.mm:.3g}" for side in sides])
    trained = listed([f"{side.low:.3g} to {side.high:.3g}" for side in sides])
    return f"the {names} side of a voxel {verb} {mm} mm; {spec.name} was trained on {trained} mm"
