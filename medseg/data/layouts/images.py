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
from medseg.core.errors import UsageError
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.data.layouts import folder as folders
from medseg.data.layouts.case import DatasetFiles, require_folder
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.mask_folders import mask_names
from medseg.data.layouts.scans import files, scans_of
from medseg.data.layouts.writing import About, NewCase, Writer, opened, require_scan
from medseg.io import write_image, write_labels
from medseg.io.pictures.overlay import as_bytes
from medseg.preparation.orient import canonical

IMAGES, MASKS = "images", "masks"
FORM = FileForm(suffix=".png")
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The images of a folder, each a case, as any folder of scans and label files is read.

    Args:
        folder: of the dataset.
        complete: refuse a mask without an image, and images without any mask.

    Raises:
        InputError: see `folder.read`.
    """
    require_folder(folder)
    if complete or any(file.is_label for file in files(folder)):
        return folders.read(folder, complete=complete)
    return DatasetFiles(scans_of(folder), (), {})


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
        opened(folder, IMAGES, MASKS)
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
            write_labels(folder / MASKS / name, LabelMap(mask, grid, FORM), overwrite=overwrite)


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


LAYOUT = Layout(
    read,
    "images (PNG, TIFF) with their masks",
    targets={"images": Target(writer(), along=writer)},
    mask_names=mask_names,
)
