"""Which cases are of one person, where a file `groups.csv` with the columns file and group states it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from medseg.core.errors import InputError

GROUPS = "groups.csv"


def stated_groups(folder: Path, images: Mapping[str, Path]) -> dict[str, str]:
    """The group of every case, if there is such a file; else nothing.

    Args:
        folder: of the dataset.
        images: of each case; the table names them by file or by case.

    Raises:
        InputError: the file is no such table, lists what is not there, or leaves a case out.
    """
    path = folder / GROUPS
    if not path.is_file():
        return {}
    cases = {image.name: name for name, image in images.items()} | {name: name for name in images}
    groups: dict[str, str] = {}
    for file, group in _rows(path):
        if file not in cases:
            raise InputError(
                f"lists {file!r} in the group {group!r}, and no image or case is called so",
                source=path,
                hint=f"name a file such as {next(iter(images.values())).name}",
            )
        if not group:
            raise InputError(f"lists {file!r} in no group", source=path, hint="name a group in its line")
        if (other := groups.setdefault(cases[file], group)) != group:
            raise InputError(
                f"lists {file!r} in two groups, {other!r} and {group!r}", source=path, hint="keep one"
            )
    missing = sorted(images.keys() - groups.keys())
    if missing:
        raise InputError(f"does not list {missing[0]!r}", source=path, hint="add a line for it")
    return groups


def _rows(path: Path) -> list[tuple[str, str]]:
    """File and group of every line that is not empty.

    Raises:
        InputError: it cannot be read, or lacks one of the two columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, restval="")
            rows, header = list(table), table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InputError(f"is not a table ({fault})", source=path, hint="save it as CSV in UTF-8") from None
    if not {"file", "group"} <= {*header}:
        raise InputError(
            f"has the columns {', '.join(header) or '(none)'}; it needs file and group",
            source=path,
            hint="begin it with the line: file,group",
        )
    return [(row["file"].strip(), row["group"].strip()) for row in rows]
