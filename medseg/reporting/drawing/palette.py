"""Pictures as small PNG files: with a palette, and as fine as their size allows."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

DOTS_PER_INCH = (150, 136, 122, 110, 96, 80, 64)
LARGEST_PNG_BYTES = 262_000
"""The resolution is lowered until the picture is smaller than this; base64 adds a third."""
COMPRESSION = 7
"""Of zlib: a hundredth larger than with 9, in a third of the time."""
PALETTE_GREYS = 64
"""Colours of a picture's palette that are grey, of 256."""
PALETTE_AREAS = 16
"""Entries of a palette for the commonest colours."""
LEAST_CHROMA = 8
"""Difference of the largest and the smallest of red, green and blue from which a pixel is coloured."""


def smallest_png(draw: Callable[[int], Image.Image], dots_per_inch: Sequence[int] = DOTS_PER_INCH) -> bytes:
    """A picture as a PNG without a date or a software name, at the finest resolution that is small.

    Args:
        draw: the picture, in red, green and blue, at so many dots per inch.
        dots_per_inch: which are tried, the finest first.
    """
    data = b""
    for dots in dots_per_inch:
        with io.BytesIO() as file:
            indexed(draw(dots)).save(file, "PNG", compress_level=COMPRESSION)
            data = file.getvalue()
        if len(data) <= LARGEST_PNG_BYTES:
            break
    return data


def indexed(image: Image.Image) -> Image.Image:
    """An RGB picture with a palette, a third of the bytes: even greys, and the rest for what is coloured.

    The commonest colours, those of areas, are exact.
    """
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    is_coloured = most - least > LEAST_CHROMA
    grey_of = np.rint(np.arange(3 * 255 + 1) * ((PALETTE_GREYS - 1) / 255 / 3)).astype(np.uint8)
    places = grey_of[red.astype(np.uint16) + green + blue]
    palette = np.repeat(np.linspace(0, 255, PALETTE_GREYS).round().astype(np.uint8), 3).tolist()
    if is_coloured.any():
        bits = [channel[is_coloured].astype(np.uint32) << shift for channel, shift in ((red, 16), (green, 8))]
        numbers, which, counts = np.unique(
            bits[0] | bits[1] | blue[is_coloured], return_inverse=True, return_counts=True
        )
        colours = np.stack([numbers >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
        common = np.argsort(-counts, kind="stable")[:PALETTE_AREAS]
        room = 256 - PALETTE_GREYS - PALETTE_AREAS
        few = Image.fromarray(colours[None]).quantize(
            room, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        entries = np.asarray(few)[0] + np.uint8(PALETTE_GREYS + len(common))
        entries[common] = PALETTE_GREYS + np.arange(len(common))
        places[is_coloured] = entries[which]
        palette += [*colours[common].ravel().tolist(), *(few.getpalette() or [])]
    made = Image.fromarray(places)
    made.putpalette(palette[: 3 * 256])
    return made
