"""What every plot shares that matplotlib draws: a fixed style, and how it becomes a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from medseg.reporting.drawing.fonts import FONT
from medseg.reporting.drawing.palette import DOTS_PER_INCH, smallest_png

STYLE: Mapping[str, Any] = MappingProxyType(
    {"font.family": FONT, "text.usetex": False, "path.simplify": True, "axes.unicode_minus": True}
)
"""Settings a user's own matplotlib file might change; the font comes with matplotlib."""


def png(figure: Figure, dots_per_inch: Sequence[int] = DOTS_PER_INCH) -> bytes:
    """The figure as a PNG, see `palette.smallest_png`."""

    def drawn(dots: int) -> Image.Image:
        with io.BytesIO() as file:
            figure.savefig(
                file,
                format="png",
                dpi=dots,
                facecolor=figure.get_facecolor(),
                pil_kwargs={"compress_level": 1},
            )
            return Image.open(file).convert("RGB")

    return smallest_png(drawn, dots_per_inch)
