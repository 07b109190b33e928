"""4x4 affine maths: voxel indices (I, J, K) to RAS+ world millimetres, as small pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import UsageError

Affine = NDArray[np.float64]

TIE_DECIMALS = 5
"""Direction cosines equal to this many decimals tie: a header rounds them to about 1e-7."""
SHORTEST_MM, LONGEST_MM = 1e-9, 1e9
"""A voxel is no shorter and no longer; the squares of such lengths are far from the limits of a float."""
SPACING_HINT = "give the distance between voxel centres in mm, one for each axis of the array"
LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world of DICOM and ITK to ours, and back."""
WORLD_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Letters at the low and the high end of each world axis; RAS+: x grows to the patient's right."""


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """Distance between neighbouring voxel centres along I, J, K.

    >>> spacing_mm(np.diag([1.0, 2.0, 3.0, 1.0]))
    (1.0, 2.0, 3.0)
    """
    i, j, k = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return float(i), float(j), float(k)


def checked_spacing(given_mm: Sequence[float], *axes: int) -> tuple[float, ...]:
    """The distance between voxel centres along each axis, as a caller gives it.

    Args:
        given_mm: one length for each axis.
        axes: how many there may be; without any, three.

    Raises:
        UsageError: it is not one length in mm for each axis, or a length is not between 1e-9 and 1e9.

    >>> checked_spacing((1, 1, 2.5))
    (1.0, 1.0, 2.5)
    """
    try:
        lengths = tuple(map(float, given_mm))
    except (TypeError, ValueError):
        lengths = ()
    if len(lengths) not in (axes or (3,)):
        wanted = " or ".join(map(str, axes or (3,)))
        raise UsageError(f"spacing_mm is {given_mm!r}, and it must be {wanted} lengths", hint=SPACING_HINT)
    if not all(SHORTEST_MM <= length <= LONGEST_MM for length in lengths):
        raise UsageError(
            f"spacing_mm is {given_mm!r}, and lengths must be {SHORTEST_MM:g} to {LONGEST_MM:g}",
            hint=SPACING_HINT,
        )
    return lengths


def voxel_volume_mm3(affine: Affine) -> float:
    """|det| of the linear part: right for oblique and sheared grids too."""
    return float(abs(np.linalg.det(affine[:3, :3])))


def apply(affine: Affine, points: ArrayLike) -> NDArray[np.float64]:
    """Map points (..., 3) through the affine."""
    return np.asarray(points, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]


def corner_centres_mm(affine: Affine, shape: Sequence[int]) -> NDArray[np.float64]:
    """World positions (8, 3) of the centres of the eight corner voxels."""
    corners = list(itertools.product(*((0, n - 1) for n in shape)))
    return apply(affine, corners)


def shear_degrees(affine: Affine) -> float:
    """Largest departure of two axes from a right angle.

    >>> shear_degrees(np.eye(4))
    0.0
    """
    unit = affine[:3, :3] / np.asarray(spacing_mm(affine))
    cosines = unit.T @ unit
    largest = max(abs(float(cosines[pair])) for pair in ((0, 1), (0, 2), (1, 2)))
    return math.degrees(math.asin(min(1.0, largest)))


def axis_order(affine: Affine) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which world axis each array axis runs along, and in which direction.

    The assignment maximises the summed |direction cosines|. Ties (a 45 degree grid) go to the
    order whose axes, once all of them grow towards R, A and S, have the lexicographically largest
    directions, so the answer depends on where the voxels lie and not on how the file stores them.

    Returns:
        `(world_axis, sign)`, each of three integers, indexed by array axis.

    >>> axis_order(np.diag([-1.0, 1.0, 1.0, 1.0]))
    ((0, 1, 2), (-1, 1, 1))
    """
    cosines = affine[:3, :3] / np.asarray(spacing_mm(affine))
    perm = max(itertools.permutations(range(3)), key=lambda perm: _rank(cosines, perm))
    signs = tuple(1 if cosines[w, a] >= 0 else -1 for a, w in enumerate(perm))
    return perm, signs  # type: ignore[return-value]


def tilt_degrees(affine: Affine) -> float:
    """Largest angle between an array axis and the world axis it is named after.

    >>> tilt_degrees(np.diag([1.0, -2.0, 3.0, 1.0]))
    0.0
    """
    world_of, _ = axis_order(affine)
    cosines = np.abs(affine[:3, :3] / np.asarray(spacing_mm(affine)))
    smallest = min(float(cosines[world, axis]) for axis, world in enumerate(world_of))
    return float(np.degrees(np.arccos(min(1.0, smallest))))


def _rank(cosines: NDArray[np.float64], perm: Sequence[int]) -> tuple[float, ...]:
    """Summed |direction cosines| of an assignment, then the directions it makes of the axes."""
    turned = np.empty((3, 3))
    for axis, world in enumerate(perm):
        turned[:, world] = np.copysign(1.0, cosines[world, axis]) * cosines[:, axis]
    return (round(float(np.trace(turned)), TIE_DECIMALS), *turned.round(TIE_DECIMALS).ravel().tolist())


def axis_codes(affine: Affine) -> str:
    """Orientation of the array axes, the letter each index grows towards.

    >>> axis_codes(np.diag([-1.0, -1.0, 1.0, 1.0]))
    'LPS'
    """
    return "".join(WORLD_LETTERS[w][s > 0] for w, s in zip(*axis_order(affine), strict=True))


def shifted(affine: Affine, start_voxels: Sequence[float]) -> Affine:
    """Affine of a crop whose voxel 0 is at `start_voxels` of this grid."""
    out = affine.copy()
    out[:3, 3] = apply(affine, start_voxels)
    return out


def rescaled(affine: Affine, shape: Sequence[int], new_shape: Sequence[int]) -> Affine:
    """Affine of `new_shape` voxels that fill the same box (voxel edges, not centres)."""
    factors = np.asarray(shape, dtype=np.float64) / np.asarray(new_shape, dtype=np.float64)
    out = affine.copy()
    out[:3, :3] = affine[:3, :3] * factors
    out[:3, 3] = apply(affine, (factors - 1.0) / 2.0)
    return out
