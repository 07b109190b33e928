"""How data sets lie on disk: from a folder to cases, and back. One layout a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from medseg.errors import InputError
from medseg.layouts import (
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
from medseg.layouts.case import CaseFiles, DatasetFiles
from medseg.layouts.writing import About, NewCase, Writer

LayoutName = Literal[
    "decathlon", "label_maps", "brats", "promise12", "prostatex", "nnunet", "images", "masks", "dicom"
]

LAYOUTS = {
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

FITS: Mapping[LayoutName, Callable[[Path], bool]] = MappingProxyType(
    {
        "decathlon": decathlon.fits,
        "nnunet": nnunet.fits,
        "prostatex": prostatex.fits,
        "images": images.fits,
        "masks": masks.fits,
        "promise12": promise12.fits,
        "brats": brats.fits,
        "dicom": dicom.fits,
    }
)
"""Whether a folder looks like one of a layout, in the order they are asked."""


def detect(folder: Path) -> LayoutName | None:
    """The layout of a folder, by the names of its files alone; None where it may be any, or none.

    A folder of label maps looks like one of scans, and is never told.
    """
    for name, fits in FITS.items():
        try:
            if fits(folder):
                return name
        except InputError:  # a link out of the folder, or two files of one name
            continue
    return None


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
]
