"""What the keywords of several verbs become. Private."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from medseg.core.structures import StructureSet, from_labels

Structures: TypeAlias = StructureSet | Mapping[int, str] | str | Path | None
"""What label values mean: a set, names by value, or a JSON file that says so; None for what the files say."""


def silent(_: object) -> None:
    """For callers who want no sentences."""


def structures_of(structures: Structures) -> StructureSet | Path | None:
    """The structures, or the file that says what they are.

    >>> structures_of({1: "liver"}).names
    ('liver',)
    """
    if isinstance(structures, Mapping):
        return from_labels(dict(structures))
    return Path(structures) if isinstance(structures, str) else structures
