"""Head phantoms: two lobes and a core in textured tissue.

A head is an ellipsoid of textured tissue in a bright rim. In it lie two bright lobes, left and
right, alike in everything but their side, and a dark core below them. The rim is as bright as
the lobes and the outside as dark as the core, and a bias field, noise and a random gain lie over
all of it, so a threshold does not find them; a small 3D U-Net does within a minute.
"""

from __future__ import annotations

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from medseg.core.affine import WORLD_LETTERS
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.phantom.making import (
    Ellipsoid,
    Floats,
    Mask,
    Spacing,
    Triple,
    received,
    smooth_noise,
    uneven,
)

SHAPE: Triple = (40, 44, 36)
SPACING_MM: Spacing = (1.0, 1.0, 1.0)
STRUCTURES: StructureSet = from_labels({1: "left lobe", 2: "right lobe", 3: "core"})
MIN_VOXELS = 16

HEAD = Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
BRAIN = Ellipsoid((0.0, 0.0, 0.0), (0.86, 0.86, 0.86))
PARTS = (
    Ellipsoid((-0.42, -0.05, 0.15), (0.28, 0.48, 0.38)),
    Ellipsoid((0.42, -0.05, 0.15), (0.28, 0.48, 0.38)),
    Ellipsoid((0.0, 0.05, -0.40), (0.30, 0.36, 0.28)),
)
"""The structures, in the order of `STRUCTURES`; in units of the head's radii."""

AIR, TISSUE, BRIGHT, DARK = 0.05, 0.5, 0.8, 0.18


def phantom_case(
    rng: np.random.Generator, shape: Triple = SHAPE, spacing_mm: Spacing = SPACING_MM
) -> tuple[Volume, LabelMap]:
    """One head with random pose, sizes, surface, texture, bias, noise and gain.

    Args:
        rng: where all randomness comes from.
        shape: voxels to the right, anterior, superior; the head fills most of the box.
        spacing_mm: their size.

    Returns:
        The scan (1, I, J, K) float32, channel "image", and its labels uint8, on one RAS+ grid.

    Raises:
        UsageError: the box is too small for the structures.
    """
    require_room(shape)
    grid = upright_grid(rng, shape, spacing_mm)
    points = head_points(rng, shape, spacing_mm)
    head, brain = (uneven(rng, points, part, 0.0) > 0 for part in (HEAD, BRAIN))
    depths = np.stack([uneven(rng, points, part, 0.08) for part in PARTS])
    nearest = depths.argmax(axis=0)
    labels = np.where((depths.max(axis=0) > 0) & brain, nearest + 1, 0).astype(np.uint8)
    ideal = np.select([labels == 3, labels > 0, brain, head], [DARK, BRIGHT, TISSUE, BRIGHT], AIR)
    image = _acquired(rng, ideal, head)
    return Volume(image[None], grid, ("image",)), LabelMap(labels, grid)


def require_room(shape: Triple) -> None:
    """Refuse a box that is too small for the structures.

    Raises:
        UsageError: an axis has fewer than 16 voxels.
    """
    if min(shape) < MIN_VOXELS:
        raise UsageError(f"a phantom needs {MIN_VOXELS} voxels along every axis, not {shape}")


def upright_grid(rng: np.random.Generator, shape: Triple, spacing_mm: Spacing) -> Grid:
    """A RAS+ grid whose centre lies within 20 mm of the scanner's."""
    affine = np.diag([*spacing_mm, 1.0])
    centre = np.asarray(spacing_mm) * (np.asarray(shape) - 1) / 2
    affine[:3, 3] = np.round(rng.uniform(-20.0, 20.0, 3) - centre, 1)
    return Grid(shape, affine)


def head_points(rng: np.random.Generator, shape: Triple, spacing_mm: Spacing) -> Floats:
    """Coordinates (I, J, K, 3) of each voxel in the frame of the head, whose radii are 1."""
    box_mm = np.asarray(shape) * np.asarray(spacing_mm)
    radii_mm = box_mm * 0.44 * rng.uniform(0.86, 1.0) * rng.uniform(0.95, 1.05, 3)
    turn = Rotation.from_euler("xyz", rng.uniform(-12.0, 12.0, 3), degrees=True).as_matrix()
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    centred = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - rng.uniform(-0.03, 0.03, 3) * box_mm
    points: Floats = (centred @ turn) / radii_mm
    return points


def stored_as(case: tuple[Volume, LabelMap], codes: str) -> tuple[Volume, LabelMap]:
    """The same scan and labels with their axes in another order.

    Raises:
        UsageError: `codes` is no axis order.
    """
    if [sum(letter in ends for letter in codes) for ends in WORLD_LETTERS] != [1, 1, 1] or len(codes) != 3:
        raise UsageError(f"an axis order has three letters such as RAS or PIL, not {codes!r}")
    volume, labels = case
    ras, wanted = (orientations.axcodes2ornt(tuple(letters)) for letters in ("RAS", codes))
    turn = orientations.ornt_transform(ras, wanted)
    images = [orientations.apply_orientation(channel, turn) for channel in volume.array]
    mask = orientations.apply_orientation(labels.array, turn)
    grid = Grid(mask.shape, volume.grid.affine @ orientations.inv_ornt_aff(turn, volume.grid.shape))
    return Volume(np.stack(images), grid, volume.channels), LabelMap(mask, grid)


def _acquired(rng: np.random.Generator, ideal: Floats, head: Mask) -> NDArray[np.float32]:
    """What a scanner makes of the ideal image: partial volume, texture, bias, noise, gain."""
    image = gaussian_filter(ideal, 0.6)
    image += np.where(head, 0.07 * smooth_noise(rng, ideal.shape, 1.5), 0.0)
    image *= np.exp(0.2 * smooth_noise(rng, ideal.shape, 14.0))
    return np.asarray(received(rng, image, 0.04) * rng.uniform(200.0, 2000.0), dtype=np.float32)
