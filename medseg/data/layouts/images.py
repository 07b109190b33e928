"""2D images and their masks: PNG or TIFF, in two folders or side by side.

    images/NAME.png and masks/NAME.png (or labels/NAME.png)
    NAME.png and NAME_mask.png (or NAME_seg.png)

Images of one person must stay together when a dataset is split. They do where `groups.csv`, with the
columns file and group, says so; else where their names begin alike, up to the first `__`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import cut_at
from medseg.core.errors import InputError, UsageError
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.data.layouts.case import INCOMPLETE, CaseFiles, DatasetFiles, files_in, group_of, without_results
from medseg.data.layouts.groups import stated_groups
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import About, NewCase, Writer, opened, require_scan
from medseg.io import write_image, write_labels
from medseg.io.formats import PICTURE_SUFFIXES
from medseg.io.pictures.overlay import as_bytes
from medseg.preparation.orient import canonical

IMAGES, MASKS = "images", ("masks", "labels")
MARKS = ("_mask", "_seg")
FORM = FileForm(suffix=".png")
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def fits(folder: Path) -> bool:
    """Whether there are images in a folder beside one of masks, or a mask beside its image."""
    if (folder / IMAGES).is_dir():
        return any((folder / name).is_dir() for name in MASKS) and bool(_pictures(folder / IMAGES))
    images, masks = _side_by_side(folder)
    return not images.keys().isdisjoint(masks)


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The images of a folder, each a case.

    Args:
        folder: of the dataset.
        complete: refuse an image without a mask and a mask without an image.

    Raises:
        InputError: there is no image, two have one name, `groups.csv` leaves one out or names what is not
            there, or with `complete` an image has no mask.
    """
    images, masks = _two_folders(folder) if (folder / IMAGES).is_dir() else _side_by_side(folder)
    if not images:
        raise InputError(
            f"contains no image ({', '.join(PICTURE_SUFFIXES)})",
            source=folder,
            hint="give the folder that contains images/ and masks/, or NAME.png and NAME_mask.png",
        )
    single = sorted(images.keys() ^ masks.keys())
    if complete and single:
        what = "mask" if single[0] in images else "image"
        raise InputError(f"has no {what} for {single[0]!r}", source=folder, hint=INCOMPLETE)
    groups = stated_groups(folder, images)
    cases = tuple(
        CaseFiles(name, path, masks.get(name), groups.get(name, group_of(name)))
        for name, path in images.items()
    )
    return DatasetFiles(cases, (), {})


def _pictures(folder: Path) -> dict[str, Path]:
    return files_in(folder, PICTURE_SUFFIXES)


def _two_folders(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    there = [folder / name for name in MASKS if (folder / name).is_dir()]
    if len(there) > 1:
        raise InputError(
            f"contains both {there[0].name}/ and {there[1].name}/", source=folder, hint="keep one"
        )
    scans, labels = _pictures(folder / IMAGES), _pictures(there[0]) if there else {}
    return without_results(scans), without_results(labels)


def _side_by_side(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for stem, path in without_results(_pictures(folder), marks=MARKS).items():
        mark = next((mark for mark in MARKS if stem.endswith(mark) and stem != mark), "")
        if not mark:
            images[stem] = path
        elif masks.setdefault(stem.removesuffix(mark), path) != path:
            raise InputError(
                f"contains two masks of {stem.removesuffix(mark)!r}", source=folder, hint="keep one"
            )
    return images, masks


def writer(axis: str = "axial") -> Writer:
    """The writer of volumes as slices along an axis of the patient, 8-bit PNG; a 2D image stays one.

    Every slice is written, with the canonical axes (to the right, anterior, superior) as columns and
    rows in their order: nothing is mirrored for display. Names begin with the patient's.

    Args:
        axis: sagittal, coronal or axial.
    """

    def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
        if len(about.channels) not in (1, 3):
            raise UsageError(
                f"an image has 1 or 3 channels, not {len(about.channels)}: {', '.join(about.channels)}",
                hint="choose channels with --channels",
            )
        opened(folder, IMAGES, MASKS[0])
        for case in cases:
            _write_slices(folder, case, axis, overwrite)
        return 0

    return write


def _write_slices(folder: Path, case: NewCase, axis: str, overwrite: bool) -> None:
    volume = require_scan(case)
    turn = canonical(volume.grid)
    scan = turn.forward(windowed(volume))
    labels = None if case.labels is None else turn.forward(case.labels.array)
    count = scan.shape[1 + AXES[axis]]
    for number in range(count):
        name = f"{case.case_id}.png" if count == 1 else slice_name(case.case_id, axis, number)
        image = cut_at(scan, number, 1 + AXES[axis])[..., None]
        grid = Grid(image.shape[1:], np.eye(4))
        write_image(folder / IMAGES / name, image, grid, form=FORM, overwrite=overwrite)
        if labels is not None:
            mask = cut_at(labels, number, AXES[axis])[..., None]
            write_labels(folder / MASKS[0] / name, LabelMap(mask, grid, FORM), overwrite=overwrite)


def slice_name(case_id: str, axis: str, number: int) -> str:
    """File of a slice, which begins with the group of its case.

    >>> slice_name("anna", "axial", 7), slice_name("anna__2", "axial", 7)
    ('anna__axial007.png', 'anna__2_axial007.png')
    """
    return f"{case_id}{'_' if '__' in case_id else '__'}{axis}{number:03d}.png"


def windowed(volume: Volume) -> NDArray[np.uint8]:
    """Each channel as bytes, from the 0.5th percentile of the volume (0) to the 99.5th (255).

    Bytes of a 2D image stay what they are.
    """
    if volume.array.dtype == np.uint8 and 1 in volume.grid.shape:
        return volume.array.astype(np.uint8, copy=False)
    return np.stack([as_bytes(channel) for channel in volume.array])


LAYOUT = Layout(read, "images (PNG, TIFF) with their masks", fits, {"images": Target(writer(), along=writer)})
