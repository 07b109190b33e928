"""The layout of PROMISE12 (Litjens et al. 2014, doi:10.1016/j.media.2013.12.002): MetaImage, flat.

CaseNN.mhd and CaseNN_segmentation.mhd, with their voxels in .raw or .zraw, in one folder or in folders
of it. Cases of the challenge's test set have no segmentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.errors import InputError, UsageError
from medseg.io import files_of, write_image, write_labels
from medseg.layouts.case import CaseFiles, DatasetFiles, files_in, group_of, require_distinct
from medseg.layouts.writing import About, NewCase, opened, require_channels, require_scan

SUFFIX = ".mhd"
MARK = "_segmentation"


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases that have a segmentation; all of a folder where none has.

    Args:
        folder: of the data set.
        complete: refuse segmentations without an image, files without voxels, and a folder without
            segmentations, rather than leave that to the reader.

    Raises:
        InputError: there is no case, two have one name, or with `complete` one is not whole.
    """
    inner = sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith("."))
    cases = [case for place in (folder, *inner) for case in _cases(place, complete)]
    if not cases:
        raise InputError(
            "holds no .mhd file",
            source=folder,
            mend="give the folder with CaseNN.mhd, CaseNN_segmentation.mhd",
        )
    labelled = [case for case in cases if case.label is not None]
    if complete and not labelled:
        raise InputError("holds no segmentation (*_segmentation.mhd)", source=folder)
    found = labelled or cases
    require_distinct(found, folder)
    return DatasetFiles(tuple(found), (), {})


def _cases(folder: Path, complete: bool) -> list[CaseFiles]:
    files = files_in(folder, (SUFFIX,))
    labels = {stem.removesuffix(MARK): path for stem, path in files.items() if stem.endswith(MARK)}
    images = {stem: path for stem, path in files.items() if not stem.endswith(MARK)}
    if complete:
        for name, path in labels.items():
            if name not in images:
                raise InputError(
                    f"has no image {name}{SUFFIX} beside it", source=path, mend="copy the dataset again"
                )
            files_of(images[name]), files_of(path)
    return [CaseFiles(name, path, labels.get(name), group_of(name)) for name, path in images.items()]


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases as MetaImage.

    Raises:
        UsageError: a file exists, there are several channels, or a case is a label map alone.
    """
    require_channels(about, 1, "promise12")
    opened(folder)
    for case in cases:
        if case.case_id.endswith(MARK):
            raise UsageError(f"the case {case.case_id} is named like a segmentation", mend="use --anonymous")
        scan = require_scan(case)
        write_image(
            folder / (case.case_id + SUFFIX), scan.array[0], scan.grid, form=scan.form, overwrite=overwrite
        )
        if case.labels is not None:
            write_labels(folder / (case.case_id + MARK + SUFFIX), case.labels, overwrite=overwrite)
    return 0
