"""Extension of griffe for `make docs`: docstrings of this package in the notation that mkdocstrings reads."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {5,}.*)*)$", re.MULTILINE)
SECTION = re.compile(r"^(?:Args|Attributes):\n(?: .*\n?)+", re.MULTILINE)
RETURNS = re.compile(r"^(Returns:\n {4})(?=.*:)", re.MULTILINE)
AXES = re.compile(r"`[^`]*`|(?<=[ (])\*(?=S\b)")
"""The asterisk of `*S`, or a piece of code, in which it stays as it is."""

OTHERS = "others"
"""In an `Args` section, the arguments that it does not name."""


class Docstrings(griffe.Extension):
    """Put fences around examples that begin with `>>>`, and give each argument an entry of its own.

    The spatial axes `*S` of a shape keep their asterisk, and a colon in a sentence about a result stays one.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        fenced = DOCTEST.sub(r"```pycon\n\g<0>\n```", AXES.sub(escaped, obj.docstring.value))
        arguments = parameters(obj)
        separated = SECTION.sub(lambda found: separate(found[0], arguments), fenced)
        if isinstance(obj, griffe.Function):  # what stands before a colon would be read as the type
            separated = RETURNS.sub(lambda found: f"{found[1]}{obj.returns}: ", separated)
        obj.docstring.value = separated


def escaped(found: re.Match[str]) -> str:
    """An asterisk that opens no emphasis; code unchanged."""
    return r"\*" if found[0] == "*" else found[0]


def parameters(obj: griffe.Object) -> list[str]:
    """The names of what a function, or the initialiser of a class, takes."""
    found = obj.members.get("__init__") if obj.is_class else obj
    if not isinstance(found, griffe.Function):
        return []
    return [parameter.name for parameter in found.parameters if parameter.name != "self"]


def separate(section: str, arguments: list[str]) -> str:
    """A section in which each name has a line, the names that `others` stands for included."""
    named = {name for entry in ENTRY.finditer(section) for name in entry["names"].split(", ")}
    rest = [] if OTHERS in arguments else [name for name in arguments if name not in named]

    def lines(entry: re.Match[str]) -> str:
        names = entry["names"].split(", ")
        names = rest if names == [OTHERS] and rest else names
        return "\n".join(f"    {name}: {entry['text']}" for name in names)

    return ENTRY.sub(lines, section)
