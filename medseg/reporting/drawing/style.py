"""What every figure shares: the banner, colours that can be read, safe text."""

from __future__ import annotations

import math

from medseg.core.colours import COLOUR, rgb
from medseg.core.errors import printable
from medseg.reporting.drawing.fonts import in_font

BANNER = "Research use only. Not a medical device. Not for diagnosis or treatment."

CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), 0x00AD, 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F),
                 *range(0x2060, 0x2070), 0xFEFF)
}  # fmt: skip
"""Characters a file's name may hold that are no text or turn text round, and what is shown for them."""

INK, FAINT, RULE, GRID, AMBER = "#1f2328", "#59636e", "#d8dde3", "#e3e6ea", "#7a5a00"
"""Text, lines and what is to be noticed on white paper, as in `style.css`."""
NEUTRAL = "#b0b0b0"
GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, spread points evenly however many they are."""
DARKEST = 0.16
"""Least relative luminance of an outline on a dark image."""


def readable_colour(colour: str) -> str:
    """`#rrggbb` bright enough to be seen on a dark image; grey when it is not a colour.

    >>> readable_colour("#46f0f0"), readable_colour("red; }"), readable_colour("#800000")
    ('#46f0f0', '#b0b0b0', '#b36666')
    """
    if not COLOUR.fullmatch(colour):
        return NEUTRAL
    shade = colour.lower()
    share = 0.0
    while _luminance(shade) < DARKEST:
        share += 0.1
        shade = _towards_white(colour, share)
    return shade


def paler(colour: str) -> str:
    """The colour of the reference's outline, for a structure of this colour.

    >>> paler("#000000")
    '#8c8c8c'
    """
    return _towards_white(colour, 0.55)


def _towards_white(colour: str, share: float) -> str:
    mixed = (round(c + (255 - c) * share) for c in rgb(colour))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2: linear light weighted for the eye."""
    linear = (
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb(colour)
    )
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def drawable(text: str, *, longest: int = 40) -> str:
    """`text` on one line, cut to `longest` characters, without those the font has no shape for.

    >>> drawable("left\\nkidney"), drawable("x" * 50, longest=5)
    ('left\\\\nkidney', 'xxxx…')
    """
    line = printable(text)
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return "".join(c if in_font(c) else "?" for c in line)


def visible(text: str) -> str:
    """`text` with what cannot be seen spelt out.

    >>> visible("a\\nb")
    'a\\\\x0ab'
    """
    return text.translate(CONTROLS)


def font_only(text: str) -> str:
    """`text` with the characters the font has no shape for spelt out.

    >>> font_only("\u809d and ö")
    '\\\\u809d and ö'
    """
    return "".join(c if in_font(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def nice_length(largest: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is not above `largest`.

    >>> nice_length(37.0), nice_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(largest))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= largest * (1 + 1e-9))
