"""Colours of structures: the palette, how a colour is written, and its parts."""

from __future__ import annotations

import re

PALETTE = (
    "#56b4e9", "#d55e00", "#f0e442", "#cc79a7", "#0072b2", "#e69f00", "#009e73", "#cce6cc",
    "#99ffff", "#996680", "#ccb380", "#8080ff", "#4d804d", "#b3b3b3", "#b3ff99", "#e600b3",
)  # fmt: skip
"""Colours that differ for people with any kind of colour vision: the seven of Okabe and Ito 2008, "Color
universal design", in the order in which the first few differ most, then those furthest from the others in
CIEDE2000 under the model of Machado et al. 2009, doi:10.1109/TVCG.2009.113."""

COLOUR = re.compile("#[0-9a-fA-F]{6}")
"""What a colour looks like in a file: `#rrggbb`, in hexadecimal digits."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`, each in [0, 255].

    >>> rgb("#0080ff")
    (0, 128, 255)
    """
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
