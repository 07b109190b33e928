"""Layouts of datasets on disk: reading and writing. One layout per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from medseg.core.errors import InputError
from medseg.data.layouts import (
    brats,
    decathlon,
    dicom,
    images,
    label_maps,
    masks,
    nnunet,
    promise12,
    prostatex,
)
from medseg.data.layouts.case import CaseFiles, DatasetFiles, require_folder
from medseg.data.layouts.writing import About, NewCase, Writer

LayoutName = Literal[
    "decathlon", "label_maps", "brats", "promise12", "prostatex", "nnunet", "images", "masks", "dicom"
]

LAYOUTS: Mapping[LayoutName, Callable[..., DatasetFiles]] = {
    "decathlon": decathlon.read,
    "label_maps": label_maps.read,
    "brats": brats.read,
    "promise12": promise12.read,
    "prostatex": prostatex.read,
    "nnunet": nnunet.read,
    "images": images.read,
    "masks": masks.read,
    "dicom": dicom.read,
}


class Sign(NamedTuple):
    """The file names by which a layout is recognised, and their description."""

    fits: Callable[[Path], bool]
    words: str


SIGNS: Mapping[LayoutName, Sign] = MappingProxyType(
    {
        "decathlon": Sign(decathlon.fits, "a dataset.json that lists training cases"),
        "nnunet": Sign(nnunet.fits, "a dataset.json as nnU-Net writes it"),
        "prostatex": Sign(prostatex.fits, "the folders of PROSTATEx"),
        "images": Sign(images.fits, "images (PNG, TIFF) with their masks"),
        "masks": Sign(masks.fits, "folders with a scan and segmentations/"),
        "promise12": Sign(promise12.fits, "MetaImage files with their segmentations"),
        "brats": Sign(brats.fits, "folders of patients with a file a modality"),
        "dicom": Sign(dicom.fits, "folders with a DICOM series and its structure set"),
    }
)
"""Of each layout that can be told, in the order they are asked."""


def detect(folder: Path) -> LayoutName | None:
    """The layout of a folder, by the names of its files alone; None where it may be any, or none.

    A folder of label maps looks like one of scans, and is never told.
    """
    return next((name for name, sign in SIGNS.items() if _tells(sign, folder)), None)


def read_layout(folder: Path, layout: LayoutName, *, complete: bool = True) -> DatasetFiles:
    """The dataset in a folder, in the layout of that name.

    Args:
        folder: of the dataset.
        layout: its name.
        complete: refuse what lacks a file, rather than leave that to its reader.

    Raises:
        InputError: there is no such folder, it has another layout, or is not as its layout says.
    """
    require_folder(folder)
    try:
        return LAYOUTS[layout](folder, complete=complete)
    except InputError:
        right = layout in SIGNS and _tells(SIGNS[layout], folder)
        other = None if right else detect(folder)
        if other is None:
            raise
    raise InputError(
        f"is not in the layout {layout}: it holds {SIGNS[other].words}, which is the layout {other}",
        source=folder,
        hint=f"name the layout {other}, or a card of it",
    )


def _tells(sign: Sign, folder: Path) -> bool:
    try:
        return sign.fits(folder)
    except InputError:  # a link out of the folder, or two files of one name
        return False


WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "decathlon": decathlon.write,
        "label_maps": label_maps.write,
        "brats": brats.writer(2020),
        "brats2013": brats.writer(2013),
        "brats2020": brats.writer(2020),
        "brats2023": brats.writer(2023),
        "promise12": promise12.write,
        "prostatex": prostatex.write,
        "nnunet": nnunet.write,
        "images": images.writer(),
        "masks": masks.write,
    }
)
"""By layout; BRATS by year too."""

__all__ = [
    "LAYOUTS",
    "WRITERS",
    "About",
    "CaseFiles",
    "DatasetFiles",
    "LayoutName",
    "NewCase",
    "Writer",
    "detect",
    "read_layout",
]
