"""A table of cases: a CSV or TSV file with a row a case.

    case,image,label,group                   paths from the folder of the table, or whole ones
    case,t1,flair,label,group                several channels, a column each
    case,prediction,label                    what `medseg evaluate` measures

`label` may be left empty, name a folder of one mask a structure, and be called mask or seg; `case` and
`group` may be left out. A column patient or subject is the group.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medseg.core.errors import InputError, listed
from medseg.data.layouts.case import CaseFiles, DatasetFiles, group_of, require_distinct, require_own_files
from medseg.data.layouts.folder import segments_of
from medseg.data.layouts.layout import Layout
from medseg.data.layouts.mask_folders import mask_names
from medseg.io import stem_and_suffix
from medseg.io.names import BROKEN_LINK, is_broken_link

CASE, LABEL, GROUP, IMAGE, PREDICTION = "case", "label", "group", "image", "prediction"
_ALSO_CALLED = {
    "case_id": CASE, "id": CASE, "name": CASE,
    "labels": LABEL, "mask": LABEL, "seg": LABEL, "segmentation": LABEL,
    "patient": GROUP, "subject": GROUP, "person": GROUP,
    "scan": IMAGE,
    "pred": PREDICTION, "predicted": PREDICTION, "predictions": PREDICTION,
}  # fmt: skip
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SPELT = {";": "semicolons", "\t": "tabs", ",": "commas"}


def fits(path: Path) -> bool:
    """Whether it is a file of that kind."""
    return path.is_file() and path.suffix.lower() in SEPARATORS


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases of a table.

    Args:
        folder: path of the table.
        complete: refuse a file that does not exist and a case without labels.

    Raises:
        InputError: it is no such table, it lists no case, or a case or an image twice, or with `complete` a
            file is missing.
    """
    header, rows = _rows(folder)
    channels = tuple(name for name in header if name not in (CASE, LABEL, GROUP))
    _require_separator(folder, header)
    if not channels or (complete and LABEL not in header):
        raise InputError(
            f"has the columns {', '.join(header)}; it needs label and image, or label and several channels",
            source=folder,
            hint="begin it with the line: case,image,label",
        )
    rows = [{LABEL: "", **row} for row in rows]
    cases = tuple(_case(folder, number, row, channels, complete) for number, row in enumerate(rows, start=2))
    if not cases:
        raise InputError("lists no case", source=folder, hint="add a line for each case")
    require_distinct(cases, folder)
    require_own_files(cases, folder)
    names = channels if len(channels) > 1 else ()
    return DatasetFiles(cases, names, segments_of(cases))


def lists_predictions(path: Path) -> bool:
    """Whether it is a table of predictions, which is none of a dataset."""
    return fits(path) and PREDICTION in _rows(path)[0]


def read_pairs(path: Path) -> list[tuple[str, Path, Path | None]]:
    """The cases of a table of predictions, each with its label file and its prediction, if it has one.

    Raises:
        InputError: it is no such table, it lists no case or one twice, or a file is missing.
    """
    header, rows = _rows(path)
    _require_separator(path, header)
    if lacking := [name for name in (PREDICTION, LABEL) if name not in header]:
        raise InputError(
            f"has the columns {', '.join(header)}, and not {listed(lacking)}",
            source=path,
            hint="begin it with the line: case,prediction,label",
        )
    found: dict[str, tuple[str, Path, Path | None]] = {}
    for number, row in enumerate(rows, start=2):
        if not row[LABEL]:
            raise InputError(f"has no label in line {number}", source=path, hint="add the file")
        label = path.parent / row[LABEL]
        prediction = path.parent / row[PREDICTION] if row[PREDICTION] else None
        _require_there(path, number, [label, prediction])
        name = row.get(CASE) or stem_and_suffix(label)[0]
        if name in found:
            raise InputError(f"lists {name!r} more than once", source=path, hint="name each case once")
        found[name] = (name, label, prediction)
    if not found:
        raise InputError("lists no case", source=path, hint="add a line for each case")
    return list(found.values())


def _require_there(table: Path, number: int, files: Iterable[Path | None]) -> None:
    """Refuse a file of a line that is not there."""
    absent = [path for path in files if path is not None and not path.exists()]
    if absent:
        fault = BROKEN_LINK if is_broken_link(absent[0]) else "does not exist"
        raise InputError(
            f"lists {absent[0]} in line {number}, which {fault}",
            source=table,
            hint=f"give paths from {table.parent}, or whole ones",
        )


def _require_separator(path: Path, header: Sequence[str]) -> None:
    """Refuse a table whose one column has other separators in its name, as some spreadsheets write it."""
    wanted = SEPARATORS.get(path.suffix.lower(), ",")
    other = next((name for mark, name in SPELT.items() if mark != wanted and mark in header[0]), "")
    if len(header) == 1 and other:
        raise InputError(
            f"separates its columns with {other}, and a {path.suffix.lower()} file has {SPELT[wanted]}",
            source=path,
            hint=f"save it with {SPELT[wanted]} between the columns",
        )


def _rows(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The names of the columns, and the rows that are not empty."""
    if not path.is_file():
        raise InputError("does not exist", source=path, hint="check the path")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, delimiter=SEPARATORS.get(path.suffix.lower(), ","), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InputError(f"is not a table ({fault})", source=path, hint="save it as CSV in UTF-8") from None
    if not lines:
        raise InputError("the file is empty", source=path, hint="begin it with the line: case,image,label")
    header = tuple(_column(name) for name in lines[0])
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"has two columns for {twice[0]!r}", source=path, hint="keep one")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        if len(line) != len(header):
            raise InputError(
                f"has {len(line)} values in line {number}, and {len(header)} columns", source=path
            )
        rows.append({name: value.strip() for name, value in zip(header, line, strict=True)})
    return header, rows


def _column(name: str) -> str:
    name = name.strip()
    return _ALSO_CALLED.get(
        name.lower(), name.lower() if name.lower() in (CASE, LABEL, GROUP, IMAGE, PREDICTION) else name
    )


def _case(
    table: Path, number: int, row: Mapping[str, str], channels: Sequence[str], complete: bool
) -> CaseFiles:
    files = {name: table.parent / row[name] for name in channels if row[name]}
    label = table.parent / row[LABEL] if row[LABEL] else None
    lacking = [name for name in (*channels, LABEL) if not row[name]]
    if lacking and (complete or not files):
        raise InputError(f"has no {lacking[0]} in line {number}", source=table, hint="add the file")
    if complete:
        _require_there(table, number, [*files.values(), label])
    first = next(iter(files.values()))
    name = row.get(CASE) or stem_and_suffix(first)[0]
    return CaseFiles(name, first, label, row.get(GROUP) or group_of(name), files if len(channels) > 1 else {})


LAYOUT = Layout(
    read, "a table with the columns case, image and label", fits, mask_names=mask_names, of_file=True
)
