"""Plain values, as JSON and TOML have them, made into what a type hint says; anything else is refused."""

from __future__ import annotations

import dataclasses
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, Literal, NamedTuple

from medseg.core.errors import did_you_mean

ASIDE = ": "
"""Between a place and a sentence that has a subject of its own."""


class Misfit(ValueError):
    """A value that a type hint does not take.

    Args:
        told: what is wrong with it, as a sentence whose subject is its place.
        joint: between the place and that sentence.
        hint: what may have been meant.
    """

    def __init__(self, told: str, *, joint: str = " ", hint: str | None = None) -> None:
        super().__init__(told)
        self.told, self.joint, self.hint = told, joint, hint
        self.place: list[str] = []

    def within(self, part: object) -> Misfit:
        """The same, where `part` is the name or the number of what it was found in."""
        self.place.insert(0, str(part))
        return self

    @property
    def fault(self) -> str:
        """The place and what is wrong there."""
        if not self.place and self.joint == ASIDE:
            return self.told
        return f"{'.'.join(self.place) or 'everything'}{self.joint}{self.told}"

    def __str__(self) -> str:
        return self.fault if self.hint is None else f"{self.fault}; {self.hint}"


class _Taker(NamedTuple):
    """What a type hint takes.

    Attributes:
        words: it, as the object of a sentence.
        shape: types of the values that can be it.
        made: the value made into it, or a `Misfit`.
    """

    words: str
    shape: tuple[type, ...]
    made: Callable[[Any], Any]


def structured(hint: Any, value: Any, *, passing_over: bool = False) -> Any:
    """A plain value as its type hint says, names and types checked at every depth.

    A hint is a dataclass, a tuple, list or mapping, a choice of names (`Literal`), a union, `bool`, `int`,
    `float`, `str` or `Any`. A list serves as a tuple, a whole number as a float and a date as a text; "1" and
    true are no numbers. A name that a dataclass has not is a misfit; with `passing_over` it is passed over.

    >>> structured(tuple[float, str], [1, "mm"])
    (1.0, 'mm')
    >>> structured(dict[str, bool | int], {"a": 1, "b": "1"})
    Traceback (most recent call last):
    medseg.core.structuring.Misfit: b must be true or false or a whole number, not '1'

    Raises:
        Misfit: the value is something else; it says where.
        TypeError: the hint is none of these.
    """
    return _taker(hint, passing_over).made(value)


def _taker(hint: Any, passing_over: bool) -> _Taker:
    if hint in PLAIN:
        return PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        return _Taker("a table", (Mapping,), partial(_dataclass, hint, passing_over))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _one_of(arguments)
    if origin in (types.UnionType, typing.Union):
        return _any_of(arguments, passing_over)
    if origin in (dict, Mapping) and arguments[0] in KEYS:
        item = _taker(arguments[1], passing_over).made
        return _Taker("a table", (Mapping,), partial(_table, KEYS[arguments[0]], item))
    if origin is list or (origin is tuple and arguments[-1:] == (...,)):
        return _Taker("a list", LISTS, partial(_items, origin, _taker(arguments[0], passing_over).made))
    if origin is tuple:
        inner = tuple(_taker(argument, passing_over).made for argument in arguments)
        return _Taker(f"a list of {len(inner)}", LISTS, partial(_fixed, inner))
    raise TypeError(f"no plain value is made into {hint}")


@cache
def _fields(cls: Any, passing_over: bool) -> dict[str, tuple[Callable[[Any], Any], bool]]:
    """By name, what the fields of a dataclass are made with, and whether they must be given."""
    hints, none = typing.get_type_hints(cls), dataclasses.MISSING
    return {
        f.name: (_taker(hints[f.name], passing_over).made, f.default is none and f.default_factory is none)
        for f in dataclasses.fields(cls)
    }


def _dataclass(cls: Any, passing_over: bool, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _must_be("a table", value)
    known = _fields(cls, passing_over)
    if not passing_over and not value.keys() <= known.keys():
        name = next(name for name in value if name not in known)
        hint = did_you_mean(str(name), known)
        if "options" in known and hint.startswith("choose"):
            hint = f"write it in options = {{ ... }}, or {hint}"
        raise Misfit("is not a setting", hint=hint).within(name)
    given = {}
    for name, (made, needed) in known.items():
        if name in value:
            try:
                given[name] = made(value[name])
            except Misfit as fault:
                raise fault.within(name) from None
        elif needed:
            raise Misfit("is missing").within(name)
    try:
        return cls(**given)
    except ValueError as fault:
        raise Misfit(str(fault), joint=ASIDE) from None


def _table(key: Callable[[Any], Any], item: Callable[[Any], Any], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _must_be("a table", value)
    done = {}
    for name, inner in value.items():
        try:
            done[key(name)] = item(inner)
        except Misfit as fault:
            raise fault.within(name) from None
    return done


def _items(kind: type, item: Callable[[Any], Any], value: Any) -> Any:
    if not isinstance(value, LISTS):
        raise _must_be("a list", value)
    done: list[Any] = []
    try:
        for inner in value:
            done.append(item(inner))
    except Misfit as fault:
        raise fault.within(len(done)) from None
    return kind(done)


def _fixed(items: tuple[Callable[[Any], Any], ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, LISTS) or len(value) != len(items):
        raise _must_be(f"a list of {len(items)}", value)
    done: list[Any] = []
    try:
        for item, inner in zip(items, value, strict=True):
            done.append(item(inner))
    except Misfit as fault:
        raise fault.within(len(done)) from None
    return tuple(done)


def _any_of(hints: Iterable[Any], passing_over: bool) -> _Taker:
    """A union: the choices of all its literals are one, and an integer stays one where it may be either."""
    rest = [hint for hint in hints if hint is not types.NoneType and typing.get_origin(hint) is not Literal]
    takers = [_taker(hint, passing_over) for hint in rest]
    choices = [v for hint in hints if typing.get_origin(hint) is Literal for v in typing.get_args(hint)]
    takers += [_one_of(choices)] if choices else []
    words = _either(dict.fromkeys(taker.words for taker in takers))
    takers.sort(key=lambda taker: taker.made is _number)
    shape = tuple(kind for taker in takers for kind in taker.shape)
    made = partial(_first, takers, words) if len(takers) > 1 else takers[0].made
    if types.NoneType not in hints:
        return _Taker(words, shape, made)
    return _Taker(words, (*shape, types.NoneType), partial(_if_any, made))


def _if_any(made: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else made(value)


def _first(takers: list[_Taker], words: str, value: Any) -> Any:
    fitting = [taker for taker in takers if isinstance(value, taker.shape)]
    for taker in fitting:
        try:
            return taker.made(value)
        except Misfit:
            if len(fitting) == 1:
                raise
    raise _must_be(words, value)


def _one_of(choices: Iterable[Any]) -> _Taker:
    known = {choice: choice for choice in choices}
    words = _either(map(repr, known))
    return _Taker(words, tuple({type(choice) for choice in known}), partial(_choice, known, words))


def _choice(known: dict[Any, Any], words: str, value: Any) -> Any:
    if isinstance(value, str | int | float) and not isinstance(value, bool) and value in known:
        return known[value]
    names = [choice for choice in known if choice and isinstance(choice, str)]
    if names and isinstance(value, str):
        told, hint = f"{reprlib.repr(value)} is not an allowed value", did_you_mean(value, names)
        raise Misfit(told, joint=" = ", hint=hint)
    raise _must_be(words, value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _must_be("true or false", value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _must_be("a whole number", value)


def _number(value: Any) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _must_be("a number", value)


def _text(value: Any) -> str:
    """A text that can be written as UTF-8, or a date or a time as TOML has them."""
    if hasattr(value, "isoformat"):
        return str(value)
    if isinstance(value, str) and (value.isascii() or value == value.encode(errors="ignore").decode()):
        return value
    raise _must_be("text", value)


def _whole_name(value: Any) -> int:
    """A whole number that is a name, and therefore a text in JSON."""
    try:
        return int(value) if isinstance(value, str) else _whole(value)
    except ValueError:
        raise _must_be("a whole number", value) from None


def _as_it_is(value: Any) -> Any:
    return value


def _must_be(words: str, value: Any) -> Misfit:
    return Misfit(f"must be {words}, not {reprlib.repr(value)}")


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


LISTS = (list, tuple)
PLAIN: dict[Any, _Taker] = {
    bool: _Taker("true or false", (bool,), _truth),
    int: _Taker("a whole number", (int,), _whole),
    float: _Taker("a number", (float, int), _number),
    str: _Taker("text", (str,), _text),
    Any: _Taker("anything", (object,), _as_it_is),
}
KEYS: dict[Any, Callable[[Any], Any]] = {str: _text, int: _whole_name}
