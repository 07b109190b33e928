"""Which model a DICOM series is for, by what its headers say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from medseg.core.errors import UsageError
from medseg.model.file import load_model

CONDITION = re.compile(r"\s*(?P<key>\w+)\s*(?P<sign>!?[=~])\s*(?P<value>.+?)\s*")
BETWEEN = re.compile(r",(?=\s*\w+\s*!?[=~])")
"""The commas that divide conditions; others are of a value."""
NO_TEXT = ("SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "AT")
"""Value representations whose values are no text (PS3.5, 6.2)."""
WRITTEN = 'write KEYWORD=VALUE or KEYWORD~PATTERN, divided by commas, then "-> MODEL"'


@dataclass(frozen=True)
class Condition:
    """What an attribute of a series must be; the case of letters does not count.

    Attributes:
        key: keyword of the attribute.
        value: its text, or a regular expression that occurs in it.
        is_pattern: whether it is one.
        is_negated: whether the attribute must be something else; one that a series lacks is.
    """

    key: str
    value: str
    is_pattern: bool
    is_negated: bool

    @classmethod
    def of(cls, text: str, route: str) -> Condition:
        """A condition as it is written, such as `SeriesDescription!~localizer`.

        Raises:
            UsageError: it is written otherwise, names no attribute, or its pattern is not one.
        """
        found = CONDITION.fullmatch(text)
        if found is None:
            raise UsageError(f"the route {route!r} has the condition {text.strip()!r}", hint=WRITTEN)
        key, sign, value = found["key"], found["sign"], found["value"]
        tag = tag_for_keyword(key)
        if tag is None:
            raise UsageError(
                f"{key!r} in the route {route!r} is not a keyword of DICOM",
                hint="give one such as Modality, SeriesDescription or BodyPartExamined",
            )
        if dictionary_VR(tag) in NO_TEXT:
            raise UsageError(f"{key} in the route {route!r} holds no text", hint="compare another attribute")
        if "~" in sign:
            try:
                re.compile(value)
            except re.error as fault:
                raise UsageError(
                    f"{value!r} in the route {route!r} is not a regular expression ({fault})",
                    hint="write another pattern",
                ) from None
        return cls(key, value, "~" in sign, "!" in sign)

    def holds(self, header: Any) -> bool:
        """Whether it holds of a series, by the header of an instance."""
        text = text_of(header.get(self.key))
        if self.is_pattern:
            return (re.search(self.value, text, re.IGNORECASE) is not None) != self.is_negated
        return (text.casefold() == self.value.casefold()) != self.is_negated


@dataclass(frozen=True)
class Route:
    """A model, and what must hold of the series that it is for."""

    conditions: tuple[Condition, ...]
    model: str

    @classmethod
    def of(cls, text: str, models: Mapping[str, str]) -> Route:
        """A route as it is written, such as `Modality=MR,SeriesDescription~T1 -> brain`.

        Args:
            text: of the route.
            models: their files by name.

        Raises:
            UsageError: it is written otherwise, the model is not offered, or takes more than one series.
            ModelError: the model cannot be read.
        """
        written, arrow, model = (part.strip() for part in text.rpartition("->"))
        if not arrow or not written or not model:
            raise UsageError(f"{text!r} is not a route", hint=WRITTEN)
        if model not in models:
            raise UsageError(
                f"the route {text!r} names the model {model!r}, which is not offered",
                hint=f"choose from {', '.join(models)}, or offer it with --models",
            )
        channels = load_model(models[model]).spec.channels
        if len(channels) > 1:
            raise UsageError(
                f"the model {model!r} of the route {text!r} takes {len(channels)} channels "
                f"({', '.join(channels)}), and a series has one",
                hint="choose a model of one channel",
            )
        return cls(tuple(Condition.of(part, text) for part in BETWEEN.split(written)), model)

    def takes(self, header: Any) -> bool:
        """Whether a series goes this way."""
        return all(condition.holds(header) for condition in self.conditions)


def text_of(value: Any) -> str:
    r"""The value of an attribute as text; several are divided by backslashes, as in DICOM.

    >>> text_of(["ORIGINAL", "PRIMARY"]), text_of(None)
    ('ORIGINAL\\PRIMARY', '')
    """
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\\".join(map(str, value))
    return str(value)
