"""Settings as frozen dataclasses: read from TOML or JSON with unknown keys refused, written as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from medseg.errors import MedsegError, UsageError

T = TypeVar("T")


def from_mapping(
    cls: type[T], data: Mapping[str, Any], *, source: str, error: type[MedsegError] = UsageError
) -> T:
    """Build the dataclass `cls` from plain values, checking names and types at every depth.

    Args:
        cls: a dataclass whose fields are plain values or dataclasses.
        data: what a TOML or JSON file held.
        source: the file, for the message.
        error: the kind of fault to raise.

    Raises:
        MedsegError: of kind `error`, naming the setting, what it was given and what it takes.
    """
    _refuse_unknown(cls, data, "", source, error)
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise error(f"{place} = {first['input']!r}: {first['msg']}", source=source) from None


def to_mapping(spec: Any) -> dict[str, Any]:
    """The plain JSON-able values of a dataclass, the inverse of `from_mapping`."""
    mapping: dict[str, Any] = TypeAdapter(type(spec)).dump_python(spec, mode="json")
    return mapping


def _refuse_unknown(cls: type, data: Any, place: str, source: str, error: type[MedsegError]) -> None:
    if not isinstance(data, Mapping):
        return
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key, value in data.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
            raise error(f"{place}{key} is not a setting", source=source, mend=mend)
        for inner in _dataclasses_in(hints[key]):
            for item in value if isinstance(value, list | tuple) else [value]:
                _refuse_unknown(inner, item, f"{place}{key}.", source, error)


def _dataclasses_in(hint: Any) -> list[type]:
    if dataclasses.is_dataclass(hint):
        return [hint] if isinstance(hint, type) else []
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) in (typing.Union, tuple, list):
        return [inner for arg in typing.get_args(hint) for inner in _dataclasses_in(arg)]
    return []
