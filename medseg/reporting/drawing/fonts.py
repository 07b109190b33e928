"""The font of every picture and page, DejaVu Sans, which comes with matplotlib and is found without it."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

FONT = "DejaVu Sans"
FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
"""The file of the regular and of the bold font."""
NO_CHARACTER = "\uffff"
"""No font has a shape for it, so that it is drawn as any other that is missing."""


@lru_cache(maxsize=2)
def font_file(*, bold: bool = False) -> Path:
    """Where the font lies: in matplotlib's folder, or where the one who packed matplotlib put it."""
    package = find_spec("matplotlib")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / FILES[bold]
        if path.is_file():
            return path
    from matplotlib.font_manager import FontProperties, findfont  # slow to import

    return Path(findfont(FontProperties(family=FONT, weight="bold" if bold else "normal")))


@lru_cache(maxsize=64)
def font(size: float, *, bold: bool = False, plain: bool = True) -> ImageFont.FreeTypeFont:
    """The font with an em of so many pixels.

    Args:
        size: of the em.
        bold: whether the strokes are.
        plain: whether the text is ASCII, which is laid out the same on every machine; other scripts are
            shaped and turned as they are read where the machine can do it.
    """
    engine = ImageFont.Layout.BASIC if plain else None
    return ImageFont.truetype(str(font_file(bold=bold)), size, layout_engine=engine)


@lru_cache(maxsize=4096)
def in_font(character: str) -> bool:
    """Whether the font has a shape for a character.

    >>> in_font("ö"), in_font("\u809d")
    (True, False)
    """
    return _shape(character) != _shape(NO_CHARACTER)


def _shape(character: str) -> tuple[tuple[int, int], bytes]:
    mask = font(24).getmask(character)
    return mask.size, bytes(mask)
