"""One mask a structure: TotalSegmentator's dataset (Wasserthal et al. 2023, doi:10.1148/ryai.230024).

ID/image.nii.gz (or ct.nii.gz, mri.nii.gz)      the scan
ID/segmentations/NAME.nii.gz                    where the structure lies
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medseg.core.errors import InputError, UsageError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.data.layouts.case import (
    INCOMPLETE,
    CaseFiles,
    DatasetFiles,
    entries,
    files_in,
    folders_in,
    group_of,
    require_no_broken_links,
)
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.mask_folders import mask_names
from medseg.data.layouts.writing import ENDING, About, NewCase, file_name, opened, write_scan
from medseg.io import write_labels
from medseg.io.formats import NIFTI_SUFFIXES

SCANS = ("image", "ct", "mri")
MASKS = "segmentations"


def fits(folder: Path) -> bool:
    """Whether any folder in it has masks beside a scan."""
    return any(
        (place / MASKS).is_dir() and any(stem in SCANS for stem in files_in(place, NIFTI_SUFFIXES))
        for place in folders_in(folder)
    )


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases of a folder, whose labels are a folder of masks.

    Args:
        folder: with a folder per case.
        complete: refuse a case without masks, rather than leave that to the reader.

    Raises:
        InputError: there is no case, one has two scans, or with `complete` one has no scan or no mask.
    """
    cases = []
    require_no_broken_links(entries(folder))
    for place in folders_in(folder):
        require_no_broken_links(entries(place))
        scans = [path for stem, path in files_in(place, NIFTI_SUFFIXES).items() if stem in SCANS]
        masks = files_in(place / MASKS, NIFTI_SUFFIXES)
        if len(scans) > 1:
            raise InputError(
                f"contains both {scans[0].name} and {scans[1].name}", source=place, hint="keep one"
            )
        if complete and not (scans and masks):
            what = "mask in segmentations/" if scans else f"scan ({', '.join(SCANS)}{ENDING})"
            raise InputError(f"contains no {what}", source=place, hint=INCOMPLETE)
        if scans:
            labels = place / MASKS if masks else None
            cases.append(CaseFiles(place.name, scans[0], labels, group_of(place.name)))
    if not cases:
        raise InputError(
            "contains no case folder",
            source=folder,
            hint="give the folder that contains ID/image.nii.gz",
        )
    return DatasetFiles(tuple(cases), (), {})


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases with a mask for each structure, of ones, empty where the case lacks it.

    Raises:
        UsageError: a file exists, a case is a label map without a scan, or structures would share a file.
    """
    names = _names(about.structures)
    copied = 0
    for case in cases:
        place = folder / case.case_id
        opened(place)
        copied += write_scan(place / f"{SCANS[0]}{ENDING}", case, overwrite=overwrite)
        if case.labels is None:
            continue
        opened(place, MASKS)
        for structure in about.structures:
            if not set(structure.label_values).isdisjoint(case.labels.unlabelled):
                continue  # an empty mask would say that there is none
            mask = about.structures.mask(case.labels.array, structure).astype(np.uint8)
            labels = LabelMap(mask, case.labels.grid, case.labels.form)
            write_labels(place / MASKS / (names[structure.name] + ENDING), labels, overwrite=overwrite)
    return copied


def _names(structures: StructureSet) -> dict[str, str]:
    names = {name: file_name(name) for name in structures.names}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise UsageError(
            f"two structures would be written to the same file {twice[0]}{ENDING}", hint="rename one of them"
        )
    return names


LAYOUT = Layout(
    read,
    "folders with a scan and segmentations/",
    fits,
    {"masks": Target(write)},
    mask_names=mask_names,
)
