"""Synthetic label maps of whole heads, with values of the `brain` card: 53 tissues, twins left and right.

Shells of skin, bone and fluid, a cortex around white matter, and ellipsoids for what lies inside. Such
a map has no images: scans are made from it (`medseg.augment.synthesis`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.core.volume import LabelMap
from medseg.data.phantom.head import head_points, require_room, upright_grid
from medseg.data.phantom.making import Ellipsoid, Floats, Triple, depth, smooth_noise

SHAPE: Triple = (64, 64, 64)

SHELLS = ((511, 1.00), (507, 0.97), (515, 0.93), (516, 0.91), (515, 0.89), (530, 0.87), (24, 0.85))
"""Value and outer radius, from the skin inwards; the brain lies in the last."""

MIDLINE = (
    (16, (0.0, -0.16, -0.42), (0.11, 0.11, 0.22)),
    (15, (0.0, -0.28, -0.40), (0.06, 0.06, 0.09)),
    (14, (0.0, 0.00, -0.02), (0.035, 0.16, 0.10)),
    (85, (0.0, 0.20, -0.24), (0.09, 0.05, 0.04)),
    (72, (0.0, 0.08, 0.20), (0.05, 0.08, 0.05)),
)
"""Value, centre and radii, in units of the head's; none of them has a side."""

PAIRED = (
    ((7, 46), (0.26, -0.50, -0.44), (0.15, 0.14, 0.10)),
    ((4, 43), (0.11, 0.00, 0.16), (0.07, 0.36, 0.09)),
    ((136, 163), (0.11, -0.14, 0.13), (0.05, 0.10, 0.05)),
    ((10, 49), (0.13, -0.06, 0.00), (0.09, 0.13, 0.10)),
    ((11, 50), (0.18, 0.22, 0.12), (0.06, 0.13, 0.09)),
    ((12, 51), (0.30, 0.12, -0.02), (0.07, 0.16, 0.11)),
    ((13, 52), (0.22, 0.09, -0.03), (0.05, 0.09, 0.07)),
    ((26, 58), (0.13, 0.30, -0.08), (0.08, 0.08, 0.07)),
    ((28, 60), (0.10, -0.06, -0.18), (0.06, 0.08, 0.06)),
    ((17, 53), (0.34, -0.12, -0.24), (0.07, 0.16, 0.06)),
    ((18, 54), (0.32, 0.08, -0.26), (0.07, 0.07, 0.07)),
    ((5, 44), (0.42, -0.12, -0.24), (0.07, 0.18, 0.06)),
    ((137, 164), (0.42, -0.12, -0.24), (0.05, 0.09, 0.03)),
    ((30, 62), (0.26, 0.05, -0.14), (0.05, 0.05, 0.05)),
    ((25, 57), (0.36, -0.30, 0.30), (0.06, 0.07, 0.06)),
)
"""Values left and right, and centre and radii on the right."""

OUTSIDE = (
    (506, (0.30, 0.80, -0.34), (0.10, 0.10, 0.10)),
    (506, (-0.30, 0.80, -0.34), (0.10, 0.10, 0.10)),
    (502, (0.0, 0.78, -0.50), (0.12, 0.14, 0.12)),
    (508, (0.0, 0.62, -0.66), (0.30, 0.22, 0.14)),
    (509, (0.45, 0.40, -0.70), (0.12, 0.16, 0.12)),
    (509, (-0.45, 0.40, -0.70), (0.12, 0.16, 0.12)),
    (512, (0.0, 0.30, -0.86), (0.24, 0.20, 0.08)),
    (514, (0.0, -0.62, -0.70), (0.30, 0.16, 0.12)),
)
"""What lies in face and neck."""

CEREBELLUM = Ellipsoid((0.0, -0.48, -0.45), (0.50, 0.26, 0.20))


def brain_map(rng: np.random.Generator, shape: Triple = SHAPE) -> LabelMap:
    """The label map of one head, of random pose, sizes and folds: int16, RAS+, voxels of 1 mm.

    Raises:
        UsageError: the box is too small for the tissues.
    """
    require_room(shape)
    spacing = (1.0, 1.0, 1.0)
    grid = upright_grid(rng, shape, spacing)
    points = head_points(rng, shape, spacing)
    points = points + 0.015 * np.stack([smooth_noise(rng, shape, 4.0) for _ in range(3)], axis=-1)
    values = _shells(points)
    for value, centre, radii in OUTSIDE:
        inner = depth(points, Ellipsoid(centre, radii)) > 0
        values[inner & (values != 0) & (values != 24)] = value
    _paint_brain(rng, points, values)
    return LabelMap(values, grid)


def _shells(points: Floats) -> NDArray[np.int16]:
    radius = np.linalg.norm(points, axis=-1)
    values = np.zeros(radius.shape, dtype=np.int16)
    for value, outer in SHELLS:
        values[radius < outer] = value
    return values


def _paint_brain(rng: np.random.Generator, points: Floats, values: NDArray[np.int16]) -> None:
    """Cortex, white matter and all that lies in it, into the map."""
    right = points[..., 0] > 0
    folds = 0.04 * smooth_noise(rng, values.shape, 2.0)
    surface = 0.80 - np.linalg.norm(points, axis=-1) + folds
    cleft = (np.abs(points[..., 0]) < 0.015) & (points[..., 2] > 0.25)
    cerebrum = (surface > 0) & (points[..., 2] > -0.5) & ~cleft
    white = cerebrum & (surface > 0.13 - folds)
    values[cerebrum] = np.where(right, 42, 3)[cerebrum]
    values[white] = np.where(right, 41, 2)[white]
    hind = depth(points, CEREBELLUM) > 0
    values[hind] = np.where(right, 47, 8)[hind]
    mirrored = points * np.array([-1.0, 1.0, 1.0])
    for (left_value, right_value), centre, radii in PAIRED:
        part = Ellipsoid(centre, radii)
        values[(depth(mirrored, part) > 0) & ~right] = left_value
        values[(depth(points, part) > 0) & right] = right_value
    for value, centre, radii in MIDLINE:
        values[depth(points, Ellipsoid(centre, radii)) > 0] = value
