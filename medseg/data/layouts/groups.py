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
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [(row["file"], row["group"]) for row in csv.DictReader(stream)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as fault:
        raise InputError(f"is not a table with the columns file and group ({fault!r})", source=path) from None
    for file, group in rows:
        if file not in cases or not group:
            raise InputError(
                f"lists {file!r} in the group {group!r}, but one of them does not exist", source=path
            )
        if groups.setdefault(cases[file], group) != group:
            raise InputError(f"lists {file!r} in two groups", source=path)
    missing = sorted(images.keys() - groups.keys())
    if missing:
        raise InputError(f"does not list {missing[0]!r}", source=path, hint="add a line for it")
    return groups
