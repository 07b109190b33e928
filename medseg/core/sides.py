"""Sides that the names of structures state."""

from __future__ import annotations

import re
from typing import Literal

Side = Literal["left", "right", "none"]

WORDS = (("left", "right"), ("lh", "rh"))
"""Words for the sides, wherever they stand in a name; lh and rh are the hemispheres of FreeSurfer."""

SHORT = (("l", "r"), ("lt", "rt"))
"""Words that are sides as the first or the last of a name, as in Kidney_L."""

MIRRORED = {
    style(here): style(there)
    for pair in (*WORDS, *SHORT)
    for here, there in (pair, pair[::-1])
    for style in (str.lower, str.capitalize, str.upper)
}

_LEFT = {left for left, _ in (*WORDS, *SHORT)}


def _pattern(columns: tuple[int, ...]) -> re.Pattern[str]:
    """Words of one side, or of both."""
    long = "|".join(pair[n] for pair in WORDS for n in columns)
    short = "|".join(pair[n] for pair in SHORT for n in columns)
    return re.compile(
        rf"(?i)(?<![^\W_])(?:(?:{long})(?![^\W_])|(?:{short})(?=[\W_]*\Z))|\A(?:{short})(?![^\W_])"
    )


_STATED = {"left": _pattern((0,)), "right": _pattern((1,)), "any": _pattern((0, 1))}


def side_of(name: str) -> tuple[Side, str | None]:
    """Side a name states (the first, if several), and its name with every side exchanged: the twin's.

    >>> side_of("Left-Thalamus")
    ('left', 'Right-Thalamus')
    >>> side_of("kidney_R")
    ('right', 'kidney_L')
    >>> side_of("brain-stem")
    ('none', None)
    """
    words = [word for word in _STATED["any"].findall(name) if word in MIRRORED]
    if not words:
        return "none", None
    side: Side = "left" if words[0].lower() in _LEFT else "right"
    return side, _STATED["any"].sub(lambda m: MIRRORED.get(m[0], m[0]), name)


def without_side(name: str, side: Side) -> str:
    """The name of a structure without its side, wherever the name states it.

    >>> without_side("left eye", "left"), without_side("Left-Thalamus", "left"), without_side("left", "left")
    ('eye', 'Thalamus', 'left')
    >>> without_side("kidney_R", "right"), without_side("lobe (right)", "right")
    ('kidney', 'lobe')
    """
    if side == "none":
        return name
    rest = re.sub(r"\(\0\)|\0[ _.,-]*", "", _STATED[side].sub("\0", name))
    return rest.strip(" _.,-") or name
