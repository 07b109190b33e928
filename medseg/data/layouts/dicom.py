"""A folder per case with a DICOM series and the structure set (RTSTRUCT) or segmentation (SEG) of it.

ID/*.dcm, or in one folder more (ID/CT/*.dcm)       the series
ID/*.dcm, or in one folder more (ID/RTSTRUCT/*.dcm) structure set or segmentation
"""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import (
    CaseFiles,
    DatasetFiles,
    entries,
    folders_in,
    group_of,
    plain,
    require_no_broken_links,
)
from medseg.data.layouts.layout import Layout
from medseg.io import is_dicom_folder, read_segments
from medseg.io.dicom.series import holds_labels


def fits(folder: Path) -> bool:
    """Whether any folder in it has a structure set beside a series."""
    return any(_series(place) and _structure_sets(place) for place in folders_in(folder))


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases of a folder; structures of one name are one, numbered as they first appear.

    Args:
        folder: with a folder per case.
        complete: refuse a case without structure set, rather than leave that to the reader.

    Raises:
        InputError: there is no case, one has two series' folders or structure sets, or with `complete` none;
            a structure set is damaged.
    """
    cases = []
    names: dict[str, str] = {}
    require_no_broken_links(entries(folder))
    for place in folders_in(folder):
        for inner in _places(place):
            require_no_broken_links(entries(inner))
        series, sets = _series(place), _structure_sets(place)
        for found in (series, sets):
            if len(found) > 1:
                raise InputError(
                    f"contains both {found[0].name} and {found[1].name}", source=place, hint="keep one"
                )
        if complete and not (series and sets):
            what = "structure set" if series else "DICOM series"
            raise InputError(f"contains no {what}", source=place, hint=f"add the {what}")
        if not series:
            continue
        cases.append(CaseFiles(place.name, series[0], sets[0] if sets else None, group_of(place.name)))
        for name in read_segments(sets[0]).names if sets else ():
            names.setdefault(plain(name), name)
    if not cases:
        itself = ", but is a DICOM series itself" if is_dicom_folder(folder) else ""
        raise InputError(
            f"contains no case folder{itself}",
            source=folder,
            hint="give the folder that contains one folder per case",
        )
    return DatasetFiles(tuple(cases), (), dict(enumerate(names.values(), start=1)))


def _places(case: Path) -> list[Path]:
    return [case, *folders_in(case)]


def _series(case: Path) -> list[Path]:
    return [place for place in _places(case) if is_dicom_folder(place)]


def _structure_sets(case: Path) -> list[Path]:
    files = (path for place in _places(case) for path in sorted(place.iterdir()))
    return [path for path in files if path.name[:1] != "." and holds_labels(path)]


LAYOUT = Layout(read, "folders with a DICOM series and its structure set", fits)
