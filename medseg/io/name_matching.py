"""Which structure a name in a file stands for: capitals, blanks and signs do not count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.errors import InputError, UsageError, listed
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import LabelMap
from medseg.io.values import smallest_dtype


def renamed(labels: LabelMap, there: StructureSet, wanted: StructureSet, source: Path) -> LabelMap:
    """Labels whose structures have names, in the values that others have for these names.

    Where not one segment has a known name, the values stay, and a warning says so.

    Args:
        labels: in the values of `there`.
        there: the structures of the file.
        wanted: the structures whose values are wanted.
        source: the file, for the message.

    Raises:
        InputError: some names are known, and some that have voxels are not.
        UsageError: two names are the same but for capitals, blanks and signs.
    """
    table = names_by_key({s.name: s.value for s in wanted})
    present = [s for s in there if s.value in value_counts(labels.array)]
    strange = [s.name for s in present if name_key(s.name) not in table]
    if strange and not any(name_key(s.name) in table for s in there):
        said = f"No segment has the name of a structure ({listed(strange)}); its label values were taken."
        return replace(labels, warnings=(*labels.warnings, said))
    if strange:
        raise InputError(
            f"contains segments that are not known structures: {listed(strange)}",
            source=source,
            hint=f"rename them in 3D Slicer; the known structures are {listed(wanted.names)}",
        )
    changes = {s.value: wanted[table[name_key(s.name)]].value for s in present}
    out = np.zeros_like(labels.array, dtype=smallest_dtype(np.array([0, *changes.values()]), source))
    for value, becomes in changes.items():
        out[labels.array == value] = becomes
    values = {s.value: wanted[table[name_key(s.name)]].value for s in there if name_key(s.name) in table}
    lacking = tuple((values[value], text) for value, text in labels.lacking if value in values)
    return replace(labels, array=out, lacking=lacking)


def names_by_key(names: Mapping[str, int]) -> dict[str, str]:
    """The names by their keys."""
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(name_key(name), name)
        if other != name:
            raise UsageError(
                f"the structures {other!r} and {name!r} cannot be distinguished by their file names"
            )
    return found


def name_key(name: str) -> str:
    """A name without capitals, blanks and signs.

    >>> name_key("Kidney-Left") == name_key("kidney_left") == name_key("kidney left")
    True
    """
    return re.sub(r"[\W_]+", "", name.casefold())
