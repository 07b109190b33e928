"""The layout of PROMISE12 (Litjens et al. 2014, doi:10.1016/j.media.2013.12.002): MetaImage, flat.

CaseNN.mhd and CaseNN_segmentation.mhd, with their voxels in .raw or .zraw, in one folder or in folders
of it. Cases of the challenge's test set have no segmentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medseg.core.errors import InputError, UsageError
from medseg.core.structures import StructureSet
from medseg.data.layouts.case import (
    INCOMPLETE,
    CaseFiles,
    DatasetFiles,
    entries,
    files_in,
    folders_in,
    group_of,
    require_distinct,
    require_no_broken_links,
    without_results,
)
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import About, NewCase, opened, require_channels, require_scan, revalued
from medseg.io import files_of, write_image, write_labels

NAME = re.compile(r"Case\d+")
SUFFIX = ".mhd"
MARK = "_segmentation"


def fits(folder: Path) -> bool:
    """Whether there is a segmentation, in the folder or in one of it."""
    places = (folder, *folders_in(folder))
    return any(_scan_of(stem) for place in places for stem in files_in(place, (SUFFIX,)))


def _scan_of(stem: str) -> str:
    """The scan whose segmentation is called so; none of another file.

    >>> _scan_of("Case00_Segmentation"), _scan_of("Case00")
    ('Case00', '')
    """
    return stem[: -len(MARK)] if stem.lower().endswith(MARK) else ""


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases that have a segmentation; all of a folder where none has.

    Args:
        folder: of the dataset.
        complete: refuse segmentations without an image, files without voxels, and a folder without
            segmentations, rather than leave that to the reader.

    Raises:
        InputError: there is no case, two have one name, or with `complete` one is not whole.
    """
    require_no_broken_links(entries(folder))
    cases = [case for place in (folder, *folders_in(folder)) for case in _cases(place, complete)]
    if not cases:
        raise InputError(
            "contains no .mhd file",
            source=folder,
            hint="give the folder that contains CaseNN.mhd, CaseNN_segmentation.mhd",
        )
    labelled = [case for case in cases if case.label is not None]
    if complete and not labelled:
        raise InputError("contains no segmentation (*_segmentation.mhd)", source=folder)
    found = labelled or cases
    require_distinct(found, folder)
    return DatasetFiles(tuple(found), (), {})


def _cases(folder: Path, complete: bool) -> list[CaseFiles]:
    files = without_results(files_in(folder, (SUFFIX,)))
    labels = {_scan_of(stem): path for stem, path in files.items() if _scan_of(stem)}
    images = {stem: path for stem, path in files.items() if not _scan_of(stem)}
    if complete:
        for name, path in labels.items():
            if name not in images:
                raise InputError(f"has no image {name}{SUFFIX} beside it", source=path, hint=INCOMPLETE)
            files_of(images[name]), files_of(path)
    return [CaseFiles(name, path, labels.get(name), group_of(name)) for name, path in images.items()]


def require_one(structures: StructureSet) -> None:
    """Refuse what the layout cannot store.

    Raises:
        UsageError: there are several structures.
    """
    if len(structures) > 1:
        raise UsageError(
            f"the layout promise12 can store one structure, not {len(structures)}: "
            f"{', '.join(structures.names)}",
            hint="choose another layout, such as nnunet or decathlon",
        )


def ones(structures: StructureSet) -> dict[int, int]:
    """What becomes of the label values: the one structure is 1."""
    return dict.fromkeys(structures.label_values, 1)


def numbered(names: Sequence[str]) -> dict[str, str]:
    """Cases by number, from Case00; those that are all so called already keep their names.

    >>> numbered(["a", "b"]), numbered(["Case07"])
    ({'a': 'Case00', 'b': 'Case01'}, {'Case07': 'Case07'})
    """
    if all(NAME.fullmatch(name) for name in names):
        return {name: name for name in names}
    return {name: f"Case{number:02d}" for number, name in enumerate(names)}


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases as MetaImage.

    Raises:
        UsageError: a file exists, there are several channels or structures, or a case has no scan.
    """
    require_channels(about, 1, "promise12")
    require_one(about.structures)
    opened(folder)
    for case in cases:
        if _scan_of(case.case_id):
            raise UsageError(
                f"the case {case.case_id} has the name of a segmentation", hint="use --anonymous"
            )
        scan = require_scan(case)
        write_image(
            folder / (case.case_id + SUFFIX), scan.array[0], scan.grid, form=scan.form, overwrite=overwrite
        )
        if case.labels is not None:
            labels = revalued(case.labels, ones(about.structures))
            write_labels(folder / (case.case_id + MARK + SUFFIX), labels, overwrite=overwrite)
    return 0


def _names(names: Mapping[str, str]) -> dict[str, str]:
    return numbered(list(names))


LAYOUT = Layout(
    read,
    "MetaImage files with their segmentations",
    fits,
    {"promise12": Target(write, tells_groups=False, require=require_one, values=ones, names=_names)},
    card="promise12",
)
