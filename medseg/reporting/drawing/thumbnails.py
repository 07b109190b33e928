"""A small picture of a case, to tell cases apart at a glance."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.reporting.drawing.figures import AMBER, BACKGROUND, GREYS, outlines
from medseg.reporting.drawing.planes import planes
from medseg.reporting.drawing.style import BANNER, STYLE, png
from medseg.reporting.drawing.views import centre_views, window_of

Image = NDArray[Any]

SIDE_IN, FOOT_IN = 1.5, 0.24
DOTS = (120,)


def thumbnail_png(
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    image: Image | None = None,
    reference: Image | None = None,
    orientation_known: bool = True,
    window: tuple[float, float] | None = None,
) -> bytes:
    """The first plane of a case through its structures, close up where they are small, with outlines.

    Args:
        labels: label values of the prediction, (I, J, K).
        grid: where the voxels are.
        structures: names and colours of the labels.
        image: intensities, (I, J, K); without one the outlines stand on a dark ground.
        reference: label values of the reference, (I, J, K); dashed and paler.
        orientation_known: False shows the array as stored.
        window: intensities shown black and white; `window_of(image)` when None.

    Returns:
        A PNG of 180 by 209 pixels; the same input gives the same bytes.
    """
    shown = np.zeros(grid.shape, np.uint8) if image is None else image
    low, high = (0.0, 1.0) if image is None else window or window_of(image)
    view = centre_views(shown, labels, reference, grid, structures, closeup=True)[-1]
    plane = planes(view.grid, orientation_known=orientation_known)[0]
    mm_high, mm_wide = plane.size_mm(view.grid.shape)
    scale = SIDE_IN / max(mm_high, mm_wide)
    wide, tall, height = mm_wide * scale, mm_high * scale, SIDE_IN + FOOT_IN
    at = ((SIDE_IN - wide) / 2, FOOT_IN + (SIDE_IN - tall) / 2)
    index = view.point[plane.axis]
    with matplotlib.rc_context(dict(STYLE)):
        figure = Figure(figsize=(SIDE_IN, height), facecolor=BACKGROUND)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((at[0] / SIDE_IN, at[1] / height, wide / SIDE_IN, tall / height))
        axes.set_axis_off()
        axes.imshow(
            np.ma.masked_invalid(plane.cut(view.image, index).astype(np.float64)),
            cmap=GREYS,
            vmin=low,
            vmax=high,
            extent=(0, mm_wide, mm_high, 0),
            aspect="auto",
        )
        outlines(axes, plane.cut(view.labels, index), plane, structures, dashed=False)
        if view.reference is not None:
            outlines(axes, plane.cut(view.reference, index), plane, structures, dashed=True)
        axes.set_xlim(0, mm_wide)
        axes.set_ylim(mm_high, 0)
        first, second = BANNER[: BANNER.rindex(". ") + 1], BANNER[BANNER.rindex(". ") + 2 :]
        for line, y in ((first, 0.16), (second, 0.07)):
            figure.text(0.5, y / height, line, size=4.6, color=AMBER, ha="center", va="center")
        return png(figure, DOTS)
