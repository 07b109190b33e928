"""MONAI Label's folder of scans and labels (Diaz-Pinto et al. 2024, doi:10.1016/j.media.2024.103207).

ID.nii.gz                       the scan
labels/final/ID.nii.gz          what somebody made of it
labels/original/ID.nii.gz       what a model said of it, which nobody looked at: not read
dataset.json                    names of channels and labels, as nnU-Net states them, if it is there

`medseg serve` keeps corrected cases so (`data.store`). A card of another layout reads such a folder too: it
is where cases of its dataset were corrected.
"""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import (
    CaseFiles,
    DatasetFiles,
    entries,
    files_in,
    group_of,
    require_no_broken_links,
)
from medseg.data.layouts.description import channel_names, description_of, labels_beside
from medseg.data.layouts.layout import Layout
from medseg.io.formats import NIFTI_SUFFIXES

FINAL, ORIGINAL, EARLIER = Path("labels/final"), Path("labels/original"), Path("labels/earlier")
"""Where labels lie that somebody made, those that nobody looked at, and those that were made before."""
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")


def fits(folder: Path) -> bool:
    """Whether labels that somebody made lie where MONAI Label keeps them."""
    return (folder / FINAL).is_dir()


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The scans that have labels that somebody made.

    Args:
        folder: with the scans.
        complete: of no matter: a scan without such labels is no case.

    Raises:
        InputError: none has.
    """
    require_no_broken_links(entries(folder))
    scans, labels = files_in(folder, SUFFIXES), files_in(folder / FINAL, SUFFIXES)
    cases = [
        CaseFiles(stem, scans[stem], labels[stem], group_of(stem)) for stem in sorted(scans.keys() & labels)
    ]
    if not cases:
        raise InputError(
            f"none of its {len(scans)} scans has labels in {FINAL}",
            source=folder,
            hint="correct some cases first",
        )
    stated, data = labels_beside(folder), description_of(folder)
    channels = tuple(channel_names(data).values()) if "channel_names" in data else ()
    return DatasetFiles(tuple(cases), channels, stated.labels, "", stated.regions, stated.ignore)


LAYOUT = Layout(read, "labels/final/", fits)
