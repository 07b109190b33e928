"""Settings as frozen dataclasses: read from TOML or JSON with unknown keys refused, written as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from medseg.core.errors import MedsegError, UsageError, did_you_mean

T = TypeVar("T")

LEFT_OUT = "left out"
"""Key in the metadata of a field that is not written while it has its default."""


def left_out(default: Any = None) -> Any:
    """A field of a dataclass that is not written while it has its default, which stands for: not known."""
    return dataclasses.field(default=default, metadata={LEFT_OUT: True})


def written(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are written, by name.

    >>> @dataclasses.dataclass
    ... class Of:
    ...     a: int = left_out(0)
    ...     b: int = 0
    >>> written(Of()), written(Of(1))
    ({'b': 0}, {'a': 1, 'b': 0})
    """
    held = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
    return {f.name: inner for f, inner in held if not (f.metadata.get(LEFT_OUT) and inner == f.default)}


def from_mapping(
    cls: type[T], data: Mapping[str, Any], *, source: str, error: type[MedsegError] = UsageError
) -> T:
    """Build the dataclass `cls` from plain values, checking names and types at every depth.

    A list serves as a tuple and a whole number as a float; "1" and true are no numbers.

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
        return TypeAdapter(cls).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as fault:
        raise _message(fault, data, source, error) from None


def to_mapping(spec: Any) -> dict[str, Any]:
    """The plain JSON-able values of a dataclass, the inverse of `from_mapping`."""
    mapping: dict[str, Any] = _without_left_out(spec, TypeAdapter(type(spec)).dump_python(spec, mode="json"))
    return mapping


def to_toml(spec: Any) -> str:
    """The settings of a dataclass that are not its defaults, as TOML that `from_mapping` takes.

    >>> from medseg.core.structures import Structure
    >>> print(to_toml(Structure(1, "liver")), end="")
    value = 1
    name = "liver"
    """
    import tomli_w

    return tomli_w.dumps(_stated(spec))


def _stated(value: Any) -> Any:
    """A value as TOML has it; of a dataclass, the fields that are not their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _stated(held) for f, held in fields if held is not None and held != _default(f)}
    if isinstance(value, Mapping):
        return {str(key): _stated(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_stated(held) for held in value]
    return value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _without_left_out(value: Any, plain: Any) -> Any:
    """The plain form of a value, at every depth without the fields that are `LEFT_OUT`."""
    if dataclasses.is_dataclass(value):
        return {name: _without_left_out(inner, plain[name]) for name, inner in written(value).items()}
    if isinstance(value, Mapping):
        pairs = zip(value.values(), plain.items(), strict=True)
        return {key: _without_left_out(inner, item) for inner, (key, item) in pairs}
    if isinstance(value, list | tuple):
        return [_without_left_out(inner, item) for inner, item in zip(value, plain, strict=True)]
    return plain


def _message(fault: ValidationError, data: Any, source: str, error: type[MedsegError]) -> MedsegError:
    """The first thing that is wrong: where, what was given, what is wanted."""
    first = fault.errors()[0]
    kind, given = first["type"], first["input"]
    if kind == "missing":
        return error(f"{_joined(first['loc'])} is missing", source=source)
    place = _joined(_within(data, first["loc"]))
    if kind == "literal_error" and isinstance(given, str):
        known = re.findall("'([^']*)'", first["ctx"]["expected"])
        named = f"{place} = {reprlib.repr(given)} is not an allowed value"
        return error(named, source=source, hint=did_you_mean(given, known))
    what = first["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return error(f"{place}: {what}" if place else what, source=source)
    return error(f"{place or 'everything'} = {reprlib.repr(given)}: {what}", source=source)


def _within(data: Any, path: Sequence[str | int]) -> Sequence[str | int]:
    """As much of a path as leads through `data`; tags of a union's members come after that."""
    for depth, part in enumerate(path):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return path[:depth]
    return path


def _joined(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))


def _refuse_unknown(hint: Any, data: Any, place: str, source: str, error: type[MedsegError]) -> None:
    """Refuse keys that the dataclasses in a type do not have, at every depth of the data."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(data, Mapping):
        hints = typing.get_type_hints(hint)
        names = [f.name for f in dataclasses.fields(hint)]
        for key, value in data.items():
            if key not in names:
                known = did_you_mean(str(key), names)
                raise error(f"{place}{key} is not a setting", source=source, hint=known)
            _refuse_unknown(hints[key], value, f"{place}{key}.", source, error)
    elif isinstance(hint, types.UnionType) or origin is typing.Union:
        for argument in arguments:
            _refuse_unknown(argument, data, place, source, error)
    elif origin in (tuple, list) and isinstance(data, list | tuple):
        for item in data:
            for argument in dict.fromkeys(arguments):
                _refuse_unknown(argument, item, place, source, error)
    elif origin is dict and isinstance(data, Mapping):
        for key, item in data.items():
            _refuse_unknown(arguments[1], item, f"{place}{key}.", source, error)
