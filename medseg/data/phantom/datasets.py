"""Datasets of phantoms in every layout, and single scans, in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.core.errors import UsageError, did_you_mean
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.layouts import About, NewCase, targets
from medseg.data.phantom import brain, head, lesions, prostate, touching, tumour
from medseg.data.phantom.head import SHAPE, SPACING_MM, phantom_case, stored_as
from medseg.data.phantom.making import Spacing, Triple
from medseg.io import write_image, write_labels

ORDERS = ("RAS", "LPS", "PIR", "LAS", "SAL", "ASR")
"""Axis orders that the cases of a dataset are stored in, in turn."""

DATASET_STREAM, SCAN_STREAM, PROSTATE_STREAM, TUMOUR_STREAM, BRAIN_STREAM = range(5)
BODIES_STREAM, LESIONS_STREAM = 5, 6
SLICES_PER_HEAD = 6

HEADS = About(
    "Phantom", "Made-up heads with two lobes and a core", ("image",), head.STRUCTURES, licence="CC0-1.0"
)
PELVES = About("Prostate phantom", "Made-up pelves", ("t2",), prostate.STRUCTURES, licence="CC0-1.0")
TUMOURS = About("Tumour phantom", "Made-up gliomas", tumour.MODALITIES, tumour.STRUCTURES, licence="CC0-1.0")
BODIES = About(
    "Phantom of bodies", "Made-up bodies that touch", ("image",), touching.STRUCTURES, licence="CC0-1.0"
)
LESIONS = About("Phantom of lesions", "Made-up lesions", ("image",), lesions.STRUCTURES, licence="CC0-1.0")
MAPS = About("Brain phantom", "Made-up label maps", (), StructureSet(), licence="CC0-1.0")

Made = tuple[Volume | None, LabelMap]


@dataclass(frozen=True)
class Kind:
    """What is made for a layout.

    Attributes:
        about: the dataset.
        stream: of random numbers, together with the seed and the number of a case.
        make: from randomness, a case's number and the shape asked for to a case.
        names: of the cases, by number.
        first: number of the first case in its name.
        layout: that is written, where it is not that of the name.
    """

    about: About
    stream: int
    make: Callable[[np.random.Generator, int, Triple | None], Made]
    names: str
    first: int = 0
    layout: str = ""


def _head(rng: np.random.Generator, number: int, shape: Triple | None) -> Made:
    return stored_as(phantom_case(rng, shape or SHAPE), ORDERS[number % len(ORDERS)])


def _slices(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    """Some slices of the middle of a head, as a volume of their own."""
    volume, labels = phantom_case(rng, shape or SHAPE)
    depth = volume.grid.shape[2]
    taken = np.unique(np.linspace(depth // 4, depth - depth // 4 - 1, SLICES_PER_HEAD).astype(int))
    grid = Grid((*volume.grid.shape[:2], taken.size), volume.grid.affine)
    return Volume(volume.array[..., taken], grid, volume.channels), LabelMap(labels.array[..., taken], grid)


def _pelvis(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    return prostate.prostate_case(rng, shape)


def _tumour(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    return tumour.tumour_case(rng, shape or tumour.SHAPE)


def _map(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    return None, brain.brain_map(rng, shape or brain.SHAPE)


def _bodies(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    return touching.touching_case(rng, shape or touching.SHAPE)


def _lesions(rng: np.random.Generator, _number: int, shape: Triple | None) -> Made:
    return lesions.lesion_case(rng, shape or lesions.SHAPE)


KINDS = {
    "decathlon": Kind(HEADS, DATASET_STREAM, _head, "phantom_{:03d}"),
    "nnunet": Kind(HEADS, DATASET_STREAM, _head, "phantom_{:03d}"),
    "masks": Kind(HEADS, DATASET_STREAM, _head, "phantom_{:03d}"),
    "images": Kind(HEADS, DATASET_STREAM, _slices, "phantom_{:03d}"),
    "promise12": Kind(PELVES, PROSTATE_STREAM, _pelvis, "Case{:02d}"),
    "prostatex": Kind(PELVES, PROSTATE_STREAM, _pelvis, "ProstateX-{:04d}"),
    "brats": Kind(TUMOURS, TUMOUR_STREAM, _tumour, "BraTS20_Training_{:03d}", 1),
    "brats2013": Kind(TUMOURS, TUMOUR_STREAM, _tumour, "brats_2013_pat{:04d}_1", 1),
    "brats2020": Kind(TUMOURS, TUMOUR_STREAM, _tumour, "BraTS20_Training_{:03d}", 1),
    "brats2023": Kind(TUMOURS, TUMOUR_STREAM, _tumour, "BraTS-GLI-{:05d}-000"),
    "label_maps": Kind(MAPS, BRAIN_STREAM, _map, "phantom_{:03d}"),
    "touching": Kind(BODIES, BODIES_STREAM, _bodies, "bodies_{:03d}", layout="nnunet"),
    "lesions": Kind(LESIONS, LESIONS_STREAM, _lesions, "lesions_{:03d}", layout="nnunet"),
}
"""By layout; BRATS by year too."""


def write_phantoms(
    folder: Path,
    layout: str,
    cases: int = 16,
    seed: int = 0,
    shape: Triple | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """A dataset of phantoms in a layout: heads, pelves, tumours or label maps, as the layout's usual cases.

    Case n depends on the seed and n only.

    Args:
        folder: to write to; created if needed.
        layout: a layout's name; of BRATS also `brats2013`, `brats2020`, `brats2023`, and `brats` is 2020.
            `touching` are bodies and `lesions` lesions in the layout of nnU-Net, with a map of instances
            beside each label.
        cases: how many; of `images` how many patients, with six slices each.
        seed: the same one gives the same voxels.
        shape: voxels of a case; None for the usual ones.
        overwrite: whether files of that name may be replaced.

    Raises:
        UsageError: the layout has no phantoms, `cases` is 0, the shape is too small, or a file exists.
    """
    if layout not in KINDS:
        raise UsageError(
            f"phantoms cannot be written in the layout {layout!r}", hint=did_you_mean(layout, KINDS)
        )
    if cases < 1:
        raise UsageError(f"a dataset needs at least one case, not {cases}")
    kind = KINDS[layout]
    target = targets()[kind.layout or layout]
    target.write(folder, _made(kind, cases, seed, shape), kind.about, overwrite=overwrite)


def _made(kind: Kind, cases: int, seed: int, shape: Triple | None) -> Iterator[NewCase]:
    for number in range(cases):
        volume, labels = kind.make(np.random.default_rng([kind.stream, seed, number]), number, shape)
        yield NewCase(kind.names.format(kind.first + number), volume, labels)


def write_phantom_dataset(
    folder: Path, cases: int = 16, seed: int = 0, shape: Triple = SHAPE, *, overwrite: bool = False
) -> Path:
    """A dataset of heads in the layout of the Medical Segmentation Decathlon; see `write_phantoms`.

    The files' axis orders vary (see `ORDERS`).

    Returns:
        The path of `dataset.json`, which is written last.
    """
    write_phantoms(folder, "decathlon", cases, seed, shape, overwrite=overwrite)
    return folder / "dataset.json"


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
    volume, labels = stored_as(case, order)
    write_image(path, volume.array[0], volume.grid, form=volume.form, overwrite=overwrite)
    if labels_path is not None:
        write_labels(labels_path, labels, overwrite=overwrite)
    return labels
