"""A small picture of a case, to tell cases apart at a glance."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.reporting.drawing.canvas import Canvas
from medseg.reporting.drawing.figures import AMBER, BACKGROUND, outlines
from medseg.reporting.drawing.palette import smallest_png
from medseg.reporting.drawing.planes import Plane, planes
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.drawing.views import View, centre_views, window_of

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
    limits = (0.0, 1.0) if image is None else window or window_of(image)
    view = centre_views(shown, labels, reference, grid, structures, closeup=True)[-1]
    plane = planes(view.grid, orientation_known=orientation_known)[0]
    return smallest_png(partial(_draw, view, plane, structures, limits), DOTS)


def _draw(
    view: View, plane: Plane, structures: StructureSet, window: tuple[float, float], dots: int
) -> Picture:
    mm_high, mm_wide = plane.size_mm(view.grid.shape)
    scale = SIDE_IN / max(mm_high, mm_wide)
    wide, tall = mm_wide * scale, mm_high * scale
    index = view.point[plane.axis]
    canvas = Canvas(SIDE_IN, SIDE_IN + FOOT_IN, dots, BACKGROUND)
    place = canvas.snapped(((SIDE_IN - wide) / 2, FOOT_IN + (SIDE_IN - tall) / 2, wide, tall))
    canvas.greys(plane.cut(view.image, index), window, place)
    outlines(canvas, plane.cut(view.labels, index), structures, place, dashed=False)
    if view.reference is not None:
        outlines(canvas, plane.cut(view.reference, index), structures, place, dashed=True)
    first, second = BANNER[: BANNER.rindex(". ") + 1], BANNER[BANNER.rindex(". ") + 2 :]
    for line, y in ((first, 0.16), (second, 0.07)):
        canvas.text(SIDE_IN / 2, y, line, size=4.6, colour=AMBER, align="center")
    return canvas.picture
