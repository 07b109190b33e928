"""Building blocks of phantoms: body coordinates, uneven ellipsoids, noise, receiver noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and radii in the unit of the points; x to the right, y anterior, z superior."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


def depth(points: Floats, part: Ellipsoid) -> Floats:
    """1 at the centre of an ellipsoid, 0 on its surface, negative outside; points are (..., 3)."""
    scaled = (points - np.asarray(part.centre)) / np.asarray(part.radii)
    return np.asarray(1.0 - np.sqrt((scaled**2).sum(axis=-1)))


def uneven(rng: np.random.Generator, points: Floats, part: Ellipsoid, unrest: float) -> Floats:
    """The depth in a part whose place, radii and surface vary by the share `unrest`."""
    centre = np.asarray(part.centre) + rng.uniform(-1.0, 1.0, 3) * unrest / 2
    radii = np.asarray(part.radii) * (1.0 + rng.uniform(-1.0, 1.0, 3) * unrest)
    distance = np.sqrt((((points - centre) / radii) ** 2).sum(axis=-1))
    found: Floats = 1.0 - distance + unrest * smooth_noise(rng, points.shape[:3], 4.0)
    return found


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], sigma_voxels: float | Sequence[float]
) -> Floats:
    """Gaussian noise of mean 0 and standard deviation 1 that varies over `sigma_voxels`."""
    field: Floats = gaussian_filter(rng.standard_normal(tuple(shape)), sigma_voxels, mode="nearest")
    centred: Floats = (field - field.mean()) / field.std()
    return centred


def broad_noise(rng: np.random.Generator, shape: Sequence[int], sigma_voxels: float | Floats) -> Floats:
    """As `smooth_noise`, made on every n-th voxel where it varies slowly, and interpolated between."""
    sigma = np.broadcast_to(np.asarray(sigma_voxels, dtype=float), len(shape))
    steps = np.maximum(1, np.floor(sigma / 2)).astype(int)
    lattice = [max(2, -(-n // step) + 1) for n, step in zip(shape, steps, strict=True)]
    coarse = smooth_noise(rng, lattice, tuple(sigma / steps))
    fine: Floats = zoom(coarse, np.asarray(shape) / lattice, order=1, mode="nearest")
    return fine


def received(rng: np.random.Generator, image: Floats, noise: float) -> Floats:
    """The magnitude of a signal with complex noise of a standard deviation (Rician)."""
    parts = noise * rng.standard_normal((2, *image.shape))
    magnitude: Floats = np.hypot(image + parts[0], parts[1])
    return magnitude
