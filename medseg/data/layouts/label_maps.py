"""Label maps alone, from which scans are made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import InputError, UsageError
from medseg.data.layouts.case import CaseFiles, DatasetFiles, require_distinct
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import ENDING, About, NewCase, opened
from medseg.io import stem_and_suffix, write_labels
from medseg.io.names import lists_file


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """A folder of label maps, NIfTI, without images: each file a case.

    Raises:
        InputError: there is no label map, or two have the same name.
    """
    paths = sorted(p for p in folder.glob("*.nii*") if lists_file(p))
    if not paths:
        raise InputError("contains no label map (.nii, .nii.gz)", source=folder)
    names = [stem_and_suffix(path)[0] for path in paths]
    cases = tuple(CaseFiles(n, path, path, group=n) for n, path in zip(names, paths, strict=True))
    require_distinct(cases, folder)
    return DatasetFiles(cases, (), {})


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write the labels of the cases, and nothing else.

    Raises:
        UsageError: a file exists, or a case has no labels.
    """
    opened(folder)
    for case in cases:
        if case.labels is None:
            raise UsageError(f"the case {case.case_id} of {about.name} has no labels")
        write_labels(folder / (case.case_id + ENDING), case.labels, overwrite=overwrite)
    return 0


LAYOUT = Layout(read, targets={"label_maps": Target(write)})
