"""What the keywords of several verbs become. Private."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet, from_labels

Structures: TypeAlias = StructureSet | Mapping[int, str] | str | Path | None
"""What label values mean: a set, names by value, or a JSON file that says so; None for what the files say."""


STRUCTURES_HINT = 'give names by label value, {1: "liver"}, a StructureSet, or a JSON file'


def silent(_: object) -> None:
    """For callers who want no sentences."""


def structures_of(structures: Structures) -> StructureSet | Path | None:
    """The structures, or the file that says what they are.

    Raises:
        UsageError: they are no such thing, or names by value without a name or with other keys than values.

    >>> structures_of({1: "liver"}).names
    ('liver',)
    """
    if structures is None or isinstance(structures, StructureSet):
        return structures
    if isinstance(structures, str | Path):
        return Path(structures)
    if not isinstance(structures, Mapping):
        raise UsageError(f"structures= is {type(structures).__name__}", hint=STRUCTURES_HINT)
    if not structures:
        raise UsageError("structures= names no structure", hint=STRUCTURES_HINT)
    for value, name in structures.items():
        if not _is_named(value, name):
            raise UsageError(f"structures= says {value!r}: {name!r}", hint=STRUCTURES_HINT)
    return from_labels({int(value): name for value, name in structures.items()})


def _is_named(value: Any, name: Any) -> bool:
    """Whether they are a label value, of Python or NumPy, and a name."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and isinstance(name, str)
