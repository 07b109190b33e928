"""Head phantoms with a glioma in the manner of BRATS: four sequences, skull-stripped, background 0.

A tumour is a necrotic core in an enhancing rim, with a part that does not enhance, in oedema that spreads
along the white matter. Each sequence shows another share of it: oedema is bright in FLAIR and T2,
only the rim is bright in T1 after contrast agent, and so are the veins over the brain and the plexus in
its ventricles, as fluid is in T2. Values of the labels are those of 2013.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import LabelMap, Volume
from medseg.data.phantom.head import head_points, require_room, stored_as, upright_grid
from medseg.data.phantom.making import Ellipsoid, Floats, Mask, Triple, broad_noise, depth, received

SHAPE: Triple = (96, 112, 88)
STRUCTURES: StructureSet = from_labels(
    {1: "necrosis", 2: "oedema", 3: "non-enhancing tumour", 4: "enhancing tumour"}
)
MODALITIES = ("flair", "t1", "t1c", "t2")

FLUID, GREY, WHITE, NECROSIS, OEDEMA, SOLID, RIM, VEIN = range(1, 9)
BRIGHTNESS = {
    "flair": (0.12, 0.58, 0.48, 0.40, 0.92, 0.78, 0.72, 0.30),
    "t1": (0.14, 0.46, 0.66, 0.30, 0.46, 0.40, 0.46, 0.35),
    "t1c": (0.16, 0.48, 0.67, 0.26, 0.46, 0.42, 0.98, 1.00),
    "t2": (1.00, 0.56, 0.40, 0.88, 0.82, 0.74, 0.66, 0.30),
}
"""Of each tissue, in the order above."""


def tumour_case(rng: np.random.Generator, shape: Triple = SHAPE) -> tuple[Volume, LabelMap]:
    """One head with a tumour of random place, size, shape and share of enhancement.

    Args:
        rng: where all randomness comes from.
        shape: voxels of 1 mm to the left, posterior, superior.

    Returns:
        The scan (4, I, J, K) int16, of `MODALITIES`, exactly 0 outside the brain, and labels uint8
        1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing, on one LPS grid.

    Raises:
        UsageError: the box is too small for the structures.
    """
    require_room(shape)
    spacing = (1.0, 1.0, 1.0)
    grid = upright_grid(rng, shape, spacing)
    points = head_points(rng, shape, spacing)
    tissues, brain = _brain(rng, points)
    labels = _tumour(rng, points, brain & (tissues != FLUID))
    for value, tissue in ((1, NECROSIS), (2, OEDEMA), (3, SOLID), (4, RIM)):
        tissues[labels == value] = tissue
    channels = [_sequence(rng, tissues, brain, BRIGHTNESS[name]) for name in MODALITIES]
    case = Volume(np.stack(channels), grid, MODALITIES), LabelMap(labels, grid)
    return stored_as(case, "LPS")


def _brain(rng: np.random.Generator, points: Floats) -> tuple[NDArray[np.int64], Mask]:
    """Tissue of every voxel, and where there is any: folded grey matter around white, fluid within."""
    shape = points.shape[:3]
    size = min(shape) / 88
    folds = 0.05 * broad_noise(rng, shape, 2.2 * size + 0.6)
    surface = depth(points, Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))) + 0.3 * folds
    brain = surface > 0
    cleft = np.abs(points[..., 0]) < 0.02 + 0.02 * (points[..., 2] > 0.3)
    fluid = (surface + folds < 0.05) | (cleft & (points[..., 2] > 0.0) & (surface < 0.4))
    grey = surface + 1.6 * folds < 0.19
    tissues = np.select([fluid, grey], [FLUID, GREY], WHITE)
    for side in (-1.0, 1.0):
        tissues[depth(points, Ellipsoid((0.30 * side, 0.1, -0.05), (0.14, 0.22, 0.18))) > 0] = GREY
        ventricle = depth(points, Ellipsoid((0.13 * side, -0.05, 0.12), (0.10, 0.42, 0.17))) + folds
        tissues[ventricle > 0] = FLUID
        tissues[depth(points, Ellipsoid((0.16 * side, -0.28, 0.08), (0.04, 0.10, 0.05))) > 0] = VEIN
    tissues[cleft & brain & (surface < 0.1) & (points[..., 2] > 0.2)] = VEIN
    return np.where(brain, tissues, 0), brain


def _tumour(rng: np.random.Generator, points: Floats, allowed: Mask) -> NDArray[np.uint8]:
    """Labels of a tumour in one half of the brain."""
    shape = points.shape[:3]
    size = min(shape) / 88
    side = rng.choice([-1.0, 1.0])
    centre = np.array([side * rng.uniform(0.34, 0.52), rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.4)])
    radius = rng.uniform(0.24, 0.34)
    coarse = broad_noise(rng, shape, 5.0 * size + 0.5)
    fine = broad_noise(rng, shape, 2.0 * size + 0.4)
    distance = np.linalg.norm((points - centre) / rng.uniform(0.85, 1.2, 3), axis=-1) / radius
    core = distance + 0.14 * coarse + 0.06 * fine
    spread = distance + 0.30 * coarse
    rim_width = rng.uniform(0.20, 0.32) + 0.12 * broad_noise(rng, shape, 5.0 * size + 0.5)
    away = (points - centre) @ _direction(rng) / radius
    labels = np.zeros(shape, dtype=np.uint8)
    labels[(spread < rng.uniform(1.6, 2.1)) & allowed] = 2
    labels[(core < 1.0) & allowed] = 4
    labels[(core < 1.05) & (away > 0.45) & allowed] = 3
    labels[(core < 1.0 - rim_width) & (away < 0.5) & allowed] = 1
    return labels


def _direction(rng: np.random.Generator) -> Floats:
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def _sequence(
    rng: np.random.Generator, tissues: NDArray[np.int64], brain: Mask, brightness: tuple[float, ...]
) -> NDArray[np.int16]:
    """What one sequence shows of the tissues, int16: at least 1 in the brain, 0 outside."""
    levels = np.array([0.0, *brightness]) * rng.uniform(0.94, 1.06, len(brightness) + 1)
    image = gaussian_filter(levels[tissues], 0.6)
    image += 0.03 * broad_noise(rng, tissues.shape, 1.5)
    image *= np.exp(0.12 * broad_noise(rng, tissues.shape, min(tissues.shape) / 4))
    image = received(rng, image, 0.03) * rng.uniform(200.0, 1500.0)
    limited = np.clip(np.rint(image), 1, np.iinfo(np.int16).max)
    return np.where(brain, limited, 0).astype(np.int16)
