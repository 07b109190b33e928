"""What every figure shares: the banner, a fixed style, colours that can be read, safe text."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from medseg.core.colours import COLOUR, rgb
from medseg.core.errors import printable

BANNER = "Research use only. Not a medical device. Not for diagnosis or treatment."

FONT = "DejaVu Sans"
STYLE: Mapping[str, Any] = MappingProxyType(
    {"font.family": FONT, "text.usetex": False, "path.simplify": True, "axes.unicode_minus": True}
)
"""Settings a user's own matplotlib file might change; the font comes with matplotlib."""

DOTS_PER_INCH = (150, 136, 122, 110, 96, 80, 64)
LARGEST_PNG_BYTES = 262_000
"""The resolution is lowered until the picture is smaller than this; base64 adds a third."""
PALETTE_GREYS = 64
"""Colours of a picture's palette that are grey, of 256."""
PALETTE_AREAS = 16
"""Entries of a palette for the commonest colours."""
LEAST_CHROMA = 8
"""Difference of the largest and the smallest of red, green and blue from which a pixel is coloured."""

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
    return "".join(c if _in_font(c) else "?" for c in line)


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
    return "".join(c if _in_font(c) else c.encode("unicode_escape").decode("ascii") for c in text)


@lru_cache(maxsize=4096)
def _in_font(char: str) -> bool:
    font = get_font(findfont(FontProperties(family=FONT)))
    return bool(font.get_char_index(ord(char)))


def nice_length(largest: float) -> float:
    """The greatest 1, 2 or 5 times a power of ten that is not above `largest`.

    >>> nice_length(37.0), nice_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(largest))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= largest * (1 + 1e-9))


def png(figure: Figure, dots_per_inch: Sequence[int] = DOTS_PER_INCH) -> bytes:
    """The figure as a PNG without a date or a software name, at the finest resolution that is small."""
    data = b""
    for dots in dots_per_inch:
        with io.BytesIO() as drawn, io.BytesIO() as file:
            figure.savefig(
                drawn,
                format="png",
                dpi=dots,
                facecolor=figure.get_facecolor(),
                pil_kwargs={"compress_level": 1},
            )
            indexed(Image.open(drawn).convert("RGB")).save(file, "PNG", optimize=True)
            data = file.getvalue()
        if len(data) <= LARGEST_PNG_BYTES:
            break
    return data


def indexed(image: Image.Image) -> Image.Image:
    """An RGB picture with a palette, a third of the bytes: even greys, and the rest for what is coloured.

    The commonest colours, those of areas, are exact.
    """
    pixels = np.asarray(image).reshape(-1, 3)
    is_coloured = np.ptp(pixels, axis=1) > LEAST_CHROMA
    places = np.rint(pixels.mean(axis=1) * ((PALETTE_GREYS - 1) / 255)).astype(np.uint8)
    palette = np.repeat(np.linspace(0, 255, PALETTE_GREYS).round().astype(np.uint8), 3).tolist()
    if is_coloured.any():
        colours, which, counts = np.unique(
            pixels[is_coloured], axis=0, return_inverse=True, return_counts=True
        )
        common = np.argsort(-counts, kind="stable")[:PALETTE_AREAS]
        room = 256 - PALETTE_GREYS - PALETTE_AREAS
        few = Image.fromarray(colours[None]).quantize(
            room, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        entries = np.asarray(few)[0] + np.uint8(PALETTE_GREYS + len(common))
        entries[common] = PALETTE_GREYS + np.arange(len(common))
        places[is_coloured] = entries[which.ravel()]
        palette += [*colours[common].ravel().tolist(), *(few.getpalette() or [])]
    made = Image.fromarray(places.reshape(image.height, image.width))
    made.putpalette(palette[: 3 * 256])
    return made
