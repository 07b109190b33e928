"""Phantoms of lesions: balls among vessels as bright, so that the shape alone tells them apart."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.phantom.making import Floats, Mask, Triple, smooth_noise

SHAPE: Triple = (64, 64, 64)
"""Of 1 mm."""

STRUCTURES: StructureSet = from_labels({1: "lesion"})
AROUND, BRIGHT, UNREST, NOISE, BLUR_MM = 1.0, 1.8, 0.15, 0.25, 0.7
"""Brightness of tissue, and of vessels and lesions; how the former varies, noise, and how sharp edges are."""

LESIONS, RADII_MM, TRIES = (0, 5), (1.5, 4.0), 200
"""How many there are (up to, not including), their radii, and tries to place one."""

VESSELS, VESSEL_RADII_MM, BENT_MM = 5, (1.0, 2.0), 12.0
"""How many, their radii, and how far the middle of one lies off the straight line."""

APART_MM = 1.5
"""Between a lesion and what else is bright, at least."""


def lesion_case(
    rng: np.random.Generator,
    shape: Triple = SHAPE,
    *,
    lesions: int | None = None,
    radius_mm: float | None = None,
) -> tuple[Volume, LabelMap]:
    """A box of tissue with vessels and lesions.

    Args:
        rng: where all randomness comes from.
        shape: of the box, 24 voxels or more along each axis.
        lesions: how many; None for 0 to 4.
        radius_mm: of each; None for 1.5 to 4.

    Returns:
        The scan (1, I, J, K) float32, and labels uint8 with the number of each lesion.
    """
    vessels = _vessels(rng, shape)
    bright = vessels.copy()
    numbers = np.zeros(shape, np.uint8)
    wanted = int(rng.integers(*LESIONS)) if lesions is None else lesions
    points = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
    for _ in range(TRIES):
        if numbers.max() == wanted:
            break
        radius = float(rng.uniform(*RADII_MM)) if radius_mm is None else radius_mm
        centre = rng.uniform(radius + 1, np.array(shape) - 2 - radius)
        away = ((points - centre) ** 2).sum(-1)
        if bright[away < (radius + APART_MM) ** 2].any():
            continue
        ball = away < radius**2
        numbers[ball] = numbers.max() + 1
        bright |= ball
    image = np.where(bright, BRIGHT, AROUND + UNREST * smooth_noise(rng, shape, 6.0))
    image = gaussian_filter(image, BLUR_MM) + NOISE * rng.standard_normal(shape)
    grid = Grid(shape, np.eye(4))
    volume = Volume(image[None].astype(np.float32), grid, ("image",))
    return volume, LabelMap((numbers > 0).astype(np.uint8), grid, numbers=numbers)


def _vessels(rng: np.random.Generator, shape: Triple) -> Mask:
    """Bent tubes from one face of the box to the opposite one."""
    inside = np.zeros(shape, bool)
    for _ in range(VESSELS):
        axis = int(rng.integers(3))
        first, last = rng.uniform(0, np.array(shape) - 1, (2, 3))
        first[axis], last[axis] = 0, shape[axis] - 1
        middle = (first + last) / 2 + rng.normal(0, BENT_MM / 2, 3)
        line = _curve(first, middle, last, 4 * max(shape))
        drawn = np.ones(shape, bool)
        drawn[tuple(np.clip(line.round().astype(int), 0, np.array(shape) - 1).T)] = False
        inside |= distance_transform_edt(drawn) <= rng.uniform(*VESSEL_RADII_MM)
    return inside


def _curve(first: Floats, middle: Floats, last: Floats, count: int) -> Floats:
    """Points (count, 3) of the parabola from the first to the last point, which `middle` draws to itself."""
    t = np.linspace(0, 1, count)[:, None]
    points: Floats = (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last
    return points
