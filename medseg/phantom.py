"""Phantoms: made-up heads with known structures, for tests, demonstrations and people without data.

A head is an ellipsoid of textured tissue in a bright rim. In it lie two bright lobes, left and
right, alike in everything but their side, and a dark core below them. The rim is as bright as
the lobes and the outside as dark as the core, and a bias field, noise and a random gain lie over
all of it, so a threshold does not find them; a small 3D U-Net does within a minute.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from medseg.affine import WORLD_CODES
from medseg.errors import UsageError
from medseg.io import atomic, write_image, write_labels
from medseg.structures import StructureSet, from_labels
from medseg.volume import Grid, LabelMap, Volume

Floats = NDArray[np.float64]
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]

SHAPE: Triple = (40, 44, 36)
SPACING_MM: Spacing = (1.0, 1.0, 1.0)
STRUCTURES: StructureSet = from_labels({1: "left lobe", 2: "right lobe", 3: "core"})
ORDERS = ("RAS", "LPS", "PIR", "LAS", "SAL", "ASR")
"""Axis orders that the cases of a dataset are stored in, in turn."""

DATASET_STREAM, SCAN_STREAM = 0, 1
MIN_VOXELS = 16


@dataclass(frozen=True)
class _Ellipsoid:
    """Centre and radii as fractions of the head's radii; x to the right, y anterior, z superior."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


HEAD = _Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
BRAIN = _Ellipsoid((0.0, 0.0, 0.0), (0.86, 0.86, 0.86))
PARTS = (
    _Ellipsoid((-0.42, -0.05, 0.15), (0.28, 0.48, 0.38)),
    _Ellipsoid((0.42, -0.05, 0.15), (0.28, 0.48, 0.38)),
    _Ellipsoid((0.0, 0.05, -0.40), (0.30, 0.36, 0.28)),
)
"""The structures, in the order of `STRUCTURES`."""

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
        UsageError: the box is too small to hold the structures.
    """
    if min(shape) < MIN_VOXELS:
        raise UsageError(f"a phantom needs {MIN_VOXELS} voxels along every axis, not {shape}")
    grid = _grid(rng, shape, spacing_mm)
    points = _head_points(rng, shape, spacing_mm)
    head, brain = (_inside(rng, points, part, 0.0) > 0 for part in (HEAD, BRAIN))
    depths = np.stack([_inside(rng, points, part, 0.08) for part in PARTS])
    nearest = depths.argmax(axis=0)
    labels = np.where((depths.max(axis=0) > 0) & brain, nearest + 1, 0).astype(np.uint8)
    ideal = np.select([labels == 3, labels > 0, brain, head], [DARK, BRIGHT, TISSUE, BRIGHT], AIR)
    image = _acquired(rng, ideal, head)
    return Volume(image[None], grid, ("image",)), LabelMap(labels, grid)


def write_phantom_dataset(
    folder: Path,
    cases: int = 16,
    seed: int = 0,
    shape: Triple = SHAPE,
    spacing_mm: Spacing = SPACING_MM,
    *,
    overwrite: bool = False,
) -> Path:
    """A dataset of phantoms in the layout of the Medical Segmentation Decathlon.

    Case n depends on the seed and n only. The files' axis orders vary (see `ORDERS`).

    Args:
        folder: gets `dataset.json`, `imagesTr/phantom_000.nii.gz`, ... and `labelsTr/...`.
        cases: how many.
        seed: the same one gives the same voxels.
        shape: voxels to the right, anterior, superior.
        spacing_mm: their size.
        overwrite: whether files of that name may be replaced.

    Returns:
        The path of `dataset.json`, which is written last.

    Raises:
        UsageError: no case is asked for, the box is too small, or a file exists.
    """
    if cases < 1:
        raise UsageError(f"a dataset needs at least one case, not {cases}")
    description = folder / "dataset.json"
    atomic.refuse_existing(description, overwrite)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    training = []
    for index in range(cases):
        name = f"phantom_{index:03d}.nii.gz"
        case = phantom_case(np.random.default_rng([DATASET_STREAM, seed, index]), shape, spacing_mm)
        volume, labels = _stored_as(case, ORDERS[index % len(ORDERS)])
        _write_image(folder / "imagesTr" / name, volume, overwrite)
        write_labels(folder / "labelsTr" / name, labels, overwrite=overwrite)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    text = json.dumps(_description(training), indent=2)
    atomic.write_text(description, text + "\n", overwrite=overwrite)
    return description


def write_phantom_scan(
    path: Path,
    seed: int = 0,
    shape: Triple = SHAPE,
    spacing_mm: Spacing = SPACING_MM,
    *,
    order: str = "LPS",
    labels_path: Path | None = None,
    overwrite: bool = False,
) -> LabelMap:
    """A single scan that is in no dataset of phantoms, whatever their seeds.

    Args:
        path: where the image goes.
        seed: the same one gives the same voxels.
        shape: voxels to the right, anterior, superior.
        spacing_mm: their size.
        order: axis order of the file.
        labels_path: where the true labels go, if anywhere.
        overwrite: whether files of that name may be replaced.

    Returns:
        The true labels, on the file's grid.

    Raises:
        UsageError: the order is none, the box is too small, or a file exists.
    """
    case = phantom_case(np.random.default_rng([SCAN_STREAM, seed]), shape, spacing_mm)
    volume, labels = _stored_as(case, order)
    _write_image(path, volume, overwrite)
    if labels_path is not None:
        write_labels(labels_path, labels, overwrite=overwrite)
    return labels


def _grid(rng: np.random.Generator, shape: Triple, spacing_mm: Spacing) -> Grid:
    affine = np.diag([*spacing_mm, 1.0])
    centre = np.asarray(spacing_mm) * (np.asarray(shape) - 1) / 2
    affine[:3, 3] = np.round(rng.uniform(-20.0, 20.0, 3) - centre, 1)
    return Grid(shape, affine)


def _head_points(rng: np.random.Generator, shape: Triple, spacing_mm: Spacing) -> Floats:
    """Where each voxel (I, J, K) lies in the head's own frame (I, J, K, 3), its radii being 1."""
    box_mm = np.asarray(shape) * np.asarray(spacing_mm)
    radii_mm = box_mm * 0.44 * rng.uniform(0.86, 1.0) * rng.uniform(0.95, 1.05, 3)
    turn = Rotation.from_euler("xyz", rng.uniform(-12.0, 12.0, 3), degrees=True).as_matrix()
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    centred = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - rng.uniform(-0.03, 0.03, 3) * box_mm
    points: Floats = (centred @ turn) / radii_mm
    return points


def _inside(rng: np.random.Generator, points: Floats, part: _Ellipsoid, unrest: float) -> Floats:
    """Positive inside a part whose place, radii and surface vary by the share `unrest`."""
    centre = np.asarray(part.centre) + rng.uniform(-1.0, 1.0, 3) * unrest / 2
    radii = np.asarray(part.radii) * (1.0 + rng.uniform(-1.0, 1.0, 3) * unrest)
    distance = np.sqrt((((points - centre) / radii) ** 2).sum(axis=-1))
    depth: Floats = 1.0 - distance + unrest * _smooth_noise(rng, points.shape[:3], 4.0)
    return depth


def _acquired(rng: np.random.Generator, ideal: Floats, head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a scanner makes of the ideal image: partial volume, texture, bias, noise, gain."""
    image = gaussian_filter(ideal, 0.6)
    image += np.where(head, 0.07 * _smooth_noise(rng, ideal.shape, 1.5), 0.0)
    image *= np.exp(0.2 * _smooth_noise(rng, ideal.shape, 14.0))
    noise = 0.04 * rng.standard_normal((2, *ideal.shape))
    magnitude = np.hypot(image + noise[0], noise[1])
    return np.asarray(magnitude * rng.uniform(200.0, 2000.0), dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma_voxels: float) -> Floats:
    """Gaussian noise of mean 0 and standard deviation 1 that varies over `sigma_voxels`."""
    field: Floats = gaussian_filter(rng.standard_normal(tuple(shape)), sigma_voxels, mode="nearest")
    centred: Floats = (field - field.mean()) / field.std()
    return centred


def _stored_as(case: tuple[Volume, LabelMap], codes: str) -> tuple[Volume, LabelMap]:
    """The same scan and labels with their axes in another order."""
    if [sum(letter in ends for letter in codes) for ends in WORLD_CODES] != [1, 1, 1] or len(codes) != 3:
        raise UsageError(f"an axis order is three letters such as RAS or PIL, not {codes!r}")
    volume, labels = case
    ras, wanted = (orientations.axcodes2ornt(tuple(letters)) for letters in ("RAS", codes))
    turn = orientations.ornt_transform(ras, wanted)
    image, mask = (orientations.apply_orientation(a, turn) for a in (volume.array[0], labels.array))
    grid = Grid(mask.shape, volume.grid.affine @ orientations.inv_ornt_aff(turn, volume.grid.shape))
    return Volume(image[None], grid, volume.channels), LabelMap(mask, grid)


def _write_image(path: Path, volume: Volume, overwrite: bool) -> None:
    image = np.asarray(volume.array[0], dtype=np.float32)
    write_image(path, image, volume.grid, form=volume.form, overwrite=overwrite)


def _description(training: list[dict[str, str]]) -> dict[str, object]:
    labels = {"0": "background"} | {str(s.value): s.name for s in STRUCTURES}
    return {
        "name": "Phantom",
        "description": "Made-up heads with two lobes and a core",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "image"},
        "channel_names": {"0": "image"},
        "labels": labels,
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
