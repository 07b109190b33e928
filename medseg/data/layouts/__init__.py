"""Layouts of datasets on disk: reading and writing. One layout per file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medseg.core.errors import InputError
from medseg.core.registry import Registry
from medseg.data.layouts.case import CaseFiles, DatasetFiles, require_folder
from medseg.data.layouts.description import LISTER, required_description
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import About, NewCase, Writer
from medseg.io.names import require_regular

LAYOUTS = Registry[Layout](
    "layout",
    "medseg.layouts",
    {
        "decathlon": "medseg.data.layouts.decathlon:LAYOUT",
        "nnunet": "medseg.data.layouts.nnunet:LAYOUT",
        "prostatex": "medseg.data.layouts.prostatex:LAYOUT",
        "voc": "medseg.data.layouts.voc:LAYOUT",
        "coco": "medseg.data.layouts.coco:LAYOUT",
        "cityscapes": "medseg.data.layouts.cityscapes:LAYOUT",
        "images": "medseg.data.layouts.images:LAYOUT",
        "masks": "medseg.data.layouts.masks:LAYOUT",
        "monailabel": "medseg.data.layouts.monailabel:LAYOUT",
        "promise12": "medseg.data.layouts.promise12:LAYOUT",
        "brats": "medseg.data.layouts.brats:LAYOUT",
        "dicom": "medseg.data.layouts.dicom:LAYOUT",
        "label_maps": "medseg.data.layouts.label_maps:LAYOUT",
        "table": "medseg.data.layouts.table:LAYOUT",
        "folder": "medseg.data.layouts.folder:LAYOUT",
    },
    lambda found: isinstance(found, Layout),
)
"""One line a layout, in the order that a folder is asked for its layout (see docs/extending.md)."""


def targets() -> Mapping[str, Target]:
    """What our layouts are written as, by name; BRATS by year too."""
    return {name: target for layout in LAYOUTS.values() for name, target in layout.targets.items()}


def target(name: str) -> Target | None:
    """What is written under a name, ours or that of a layout of another package; None where nothing is."""
    ours = targets()
    if name in ours or not LAYOUTS.knows(name):
        return ours.get(name)
    return LAYOUTS.find(name).targets.get(name)


def detect(folder: Path) -> str | None:
    """The layout of a folder, by the names of its files alone; None where it may be any, or none.

    A folder of label maps looks like one of scans, and is never told; nor is a layout of another package.
    """
    return next((name for name, layout in LAYOUTS.items() if _tells(layout, folder)), None)


def layout_of(source: Path) -> str:
    """The layout of a folder or table: what its names tell, else `folder`, which reads any usual names.

    Raises:
        InputError: there is nothing, a file that is no table, or a `dataset.json` of neither known form or
            that is no regular file.
    """
    require_regular(source / LISTER)
    if found := detect(source):
        return found
    require_folder(source)
    if (source / LISTER).is_file() and not (stated := required_description(source)).get("labels"):
        raise InputError(
            f"has neither 'training' (Decathlon) nor 'file_ending' (nnU-Net), but {sorted(stated)}",
            source=source / LISTER,
            hint="complete it, or describe the dataset with --card",
        )
    return "folder"


def read_layout(folder: Path, layout: str, *, complete: bool = True) -> DatasetFiles:
    """The data set in a folder, in the layout of that name.

    Args:
        folder: of the dataset.
        layout: its name.
        complete: refuse what lacks a file, rather than leave that to its reader.

    Raises:
        InputError: there is no such folder, it has another layout, or is not as its layout requires.
        UsageError: there is no such layout.
    """
    found = LAYOUTS.find(layout)
    if not found.of_file:
        require_folder(folder)
    try:
        return found.read(folder, complete=complete)
    except InputError:
        other = None if _tells(found, folder) else detect(folder)
        if other is None:
            raise
    raise InputError(
        f"is not in the layout {layout}: it contains {LAYOUTS[other].sign}, as in the layout {other}",
        source=folder,
        hint=f"give the layout {other}, or a card with this layout",
    )


def _tells(layout: Layout, folder: Path) -> bool:
    try:
        return layout.fits is not None and layout.fits(folder)
    except InputError:  # two files of one name
        return False


__all__ = [
    "LAYOUTS",
    "About",
    "CaseFiles",
    "DatasetFiles",
    "Layout",
    "NewCase",
    "Target",
    "Writer",
    "detect",
    "layout_of",
    "read_layout",
    "target",
    "targets",
]
