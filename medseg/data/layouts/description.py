"""Reading `dataset.json`, in the forms of Decathlon and nnU-Net."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError
from medseg.core.structures import Structure
from medseg.data.layouts.case import plain
from medseg.io.names import require_regular

LISTER = "dataset.json"

IGNORE = "ignore"
"""What nnU-Net calls the label of unlabelled voxels."""

TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


@dataclass(frozen=True)
class StatedLabels:
    """The meaning of label values.

    Attributes:
        labels: names by value; empty where there are regions.
        regions: where a name stands for several values.
        ignore: value of unlabelled voxels, if there is one.
    """

    labels: dict[int, str]
    regions: tuple[Structure, ...]
    ignore: int | None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, with or without commas behind the last of its values.

    Raises:
        OSError: the file cannot be read.
        InputError: it is not a JSON object; the line is named where that is known.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(TRAILING_COMMA.sub(lambda m: m[1] or "", text), object_pairs_hook=_once_each)
    except json.JSONDecodeError as fault:
        raise InputError(
            f"is not JSON: {fault.msg} in line {fault.lineno}, column {fault.colno}",
            source=path,
            hint="correct that line",
        ) from None
    except (ValueError, RecursionError) as fault:
        raise InputError(f"is not JSON ({fault})", source=path) from None
    if not isinstance(found, dict):
        raise InputError(
            "is not a JSON object", source=path, hint='write {"labels": {"1": "name", ...}, ...}'
        )
    return found


def description_of(folder: Path) -> Mapping[str, Any]:
    """The content of the `dataset.json` of a folder; empty if none can be read."""
    if not (folder / LISTER).is_file():  # a pipe may never end
        return {}
    try:
        return read_json(folder / LISTER)
    except (OSError, InputError):
        return {}


def required_description(folder: Path) -> dict[str, Any]:
    """The content of the `dataset.json` of a folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / LISTER
    require_regular(path)
    if not path.is_file():
        raise InputError(
            f"contains no {LISTER}",
            source=folder,
            hint=f"give the folder that contains {LISTER} and imagesTr",
        )
    try:
        return read_json(path)
    except OSError as fault:
        raise InputError.unreadable(fault, path) from None


def channel_names(data: Mapping[str, Any]) -> dict[int, str]:
    """The names of channels by number, as nnU-Net states them.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: the content has another form.
    """
    return {int(number): str(name) for number, name in data["channel_names"].items()}


def labels_beside(folder: Path) -> StatedLabels:
    """What a `dataset.json` with no more than labels says of them; nothing where there is none.

    Raises:
        InputError: it says it in no known form.
    """
    data = description_of(folder)
    if not data.get("labels"):
        return StatedLabels({}, (), None)
    try:
        return stated_labels(data, numbered=True)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(
            f"does not define the labels: {form_fault(fault)}", source=folder / LISTER, hint="correct it"
        ) from None


def stated_labels(data: Mapping[str, Any], *, numbered: bool = False) -> StatedLabels:
    """The labels of a `dataset.json`: `{"1": "liver"}` (Decathlon) or `{"liver": 1}` (nnU-Net).

    A list of values makes a region; the values that regions write are those of `regions_class_order`. Value 0
    is the background, whatever it is called, and left out.

    Args:
        data: the content of the file.
        numbered: let regions without that order write 1, 2 and so on.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: the content has another form.
    """
    named = [_named(str(key), value) for key, value in data["labels"].items()]
    ignored = [values[0] for name, values in named if plain(name) == IGNORE]
    kept = [(name, values) for name, values in named if values != (0,) and plain(name) != IGNORE]
    ignore = ignored[0] if ignored else None
    _require_different(kept)
    if all(len(values) == 1 for _, values in kept):
        return StatedLabels({values[0]: name for name, values in kept}, (), ignore)
    count = range(1, len(kept) + 1)
    written = data.get("regions_class_order", count) if numbered else data["regions_class_order"]
    order = [_whole(value) for value in written]
    if len(order) != len(kept):
        raise ValueError(f"regions_class_order has {len(order)} values for {len(kept)} regions")
    triples = zip(order, kept, strict=True)
    return StatedLabels({}, tuple(Structure(v, name, members=m) for v, (name, m) in triples), ignore)


def _require_different(named: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Refuse a name or values that stand there twice: one of the two would be lost.

    Raises:
        ValueError: with both of them.
    """
    names: dict[str, tuple[int, ...]] = {}
    values: dict[tuple[int, ...], str] = {}
    for name, held in named:
        what = (
            f"the value {held[0]} has" if len(held) == 1 else f"the values {', '.join(map(str, held))} have"
        )
        if (other := values.setdefault(held, name)) != name:
            raise ValueError(f"{what} two names, {other!r} and {name!r}")
        if names.setdefault(name, held) != held:
            raise ValueError(f"the name {name!r} has several values, {names[name][0]} and {held[0]}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key stands twice: the first would be lost."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} occurs twice")
        found[key] = value
    return found


def form_fault(fault: Exception) -> str:
    """What a `dataset.json` lacks or has in another form, in words.

    >>> form_fault(KeyError("labels"))
    "it lacks 'labels'"
    """
    return f"it lacks {fault.args[0]!r}" if isinstance(fault, KeyError) else str(fault)


def _named(key: str, value: object) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, list):
        return key, tuple(map(_whole, value))
    return (key, (value,)) if isinstance(value, int) else (str(value), (_whole(key),))


def _whole(value: object) -> int:
    """A label value, which may stand there as 3, 3.0 or "3".

    >>> _whole("3")
    3

    Raises:
        ValueError: it is no whole number.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise ValueError(f"{value!r} is not a label value")
    return int(number)
