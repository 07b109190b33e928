"""Phantoms of bodies that touch: ellipsoids, and bowls, which are brighter and hollow on one side.

Six in ten bodies are put against an earlier one. No two of one kind can be told apart by their brightness, so
that a label map joins those that touch; where a bowl holds another body, no cut at a neck parts them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.phantom.making import Floats, Mask, Triple

SHAPE: Triple = (48, 48, 48)
"""Of 1 mm."""

STRUCTURES: StructureSet = from_labels({1: "ellipsoid", 2: "bowl"})
AROUND, BRIGHTNESS, NOISE = 1.0, (1.6, 2.2), 0.25
BODIES, RADII_MM, TOUCHING, TRIES = (4, 10), (3.0, 7.0), 0.6, 200
"""How many there are (up to, not including), their half axes, how many touch, and tries to place one."""

LEAST_LEFT = 0.9
"""Share of a body that no earlier one covers."""

NEAREST = 0.95
"""Distance of two bodies that touch, in sums of their radii."""


class Body(NamedTuple):
    """Where one lies, and how large it is."""

    centre: Floats
    radii: Floats


def touching_case(rng: np.random.Generator, shape: Triple = SHAPE) -> tuple[Volume, LabelMap]:
    """A box of bodies.

    Args:
        rng: where all randomness comes from.
        shape: of the box, 24 voxels or more along each axis.

    Returns:
        The scan (1, I, J, K) float32, and labels uint8 (1 ellipsoids, 2 bowls) with the number of each body.
    """
    points = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
    numbers = np.zeros(shape, np.uint8)
    labels = np.zeros(shape, np.uint8)
    bodies: list[Body] = []
    wanted = int(rng.integers(*BODIES))
    for _ in range(TRIES):
        if len(bodies) == wanted:
            break
        body = _placed(rng, bodies, shape)
        kind = int(rng.integers(2))
        mask = _solid(points, body) if kind == 0 else _bowl(rng, points, body)
        free = mask & (numbers == 0)
        if not mask.any() or free.sum() < LEAST_LEFT * mask.sum():
            continue
        bodies.append(body)
        numbers[free], labels[free] = len(bodies), kind + 1
    image = np.choose(labels, (AROUND, *BRIGHTNESS)) + NOISE * rng.standard_normal(shape)
    grid = Grid(shape, np.eye(4))
    volume = Volume(image[None].astype(np.float32), grid, ("image",))
    return volume, LabelMap(labels, grid, numbers=numbers)


def _placed(rng: np.random.Generator, bodies: list[Body], shape: Triple) -> Body:
    """A body that lies within the box, perhaps against another."""
    radii = rng.uniform(*RADII_MM, 3)
    low, high = radii + 1, np.array(shape) - 2 - radii
    if not bodies or rng.random() > TOUCHING:
        return Body(rng.uniform(low, high), radii)
    other = bodies[int(rng.integers(len(bodies)))]
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    apart = sum(1 / np.linalg.norm(way / one) for one in (radii, other.radii))
    return Body(np.clip(other.centre + NEAREST * apart * way, low, high), radii)


def _solid(points: Floats, body: Body) -> Mask:
    return np.asarray((((points - body.centre) / body.radii) ** 2).sum(-1) < 1)


def _bowl(rng: np.random.Generator, points: Floats, body: Body) -> Mask:
    """An ellipsoid without a smaller one that is moved to one side."""
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    hollow = Body(body.centre + 0.6 * body.radii * way, 0.75 * body.radii)
    return _solid(points, body) & ~_solid(points, hollow)
