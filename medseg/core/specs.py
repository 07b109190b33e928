"""Settings as frozen dataclasses: read from TOML or JSON with unknown keys refused, written as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from medseg.core.errors import MedsegError, UsageError
from medseg.core.structuring import Misfit, structured

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
    """Build the dataclass `cls` from plain values, see `structured`.

    Args:
        cls: a dataclass whose fields are plain values or dataclasses.
        data: what a TOML or JSON file held.
        source: the file, for the message.
        error: the kind of fault to raise.

    Raises:
        MedsegError: of kind `error`, naming the setting, what it was given and what it takes.
    """
    try:
        spec: T = structured(cls, data)
    except Misfit as fault:
        raise error(fault.fault, source=source, hint=fault.hint) from None
    return spec


def to_mapping(spec: Any) -> dict[str, Any]:
    """The plain JSON-able values of a dataclass, the inverse of `from_mapping`."""
    return {name: _plain(value) for name, value in written(spec).items()}


def to_toml(spec: Any) -> str:
    """The settings of a dataclass that are not its defaults, as TOML that `from_mapping` takes.

    >>> from medseg.core.structures import Structure
    >>> print(to_toml(Structure(1, "liver")), end="")
    value = 1
    name = "liver"
    """
    import tomli_w

    return tomli_w.dumps(_stated(spec))


def _plain(value: Any) -> Any:
    """A value as JSON has it; of a dataclass, the fields that are written."""
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


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
