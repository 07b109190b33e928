"""Small pictures of single objects, each with its number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray
from PIL.Image import Image as Picture

from medseg.core.instances import Instance, InstanceMap
from medseg.core.structures import Structure, StructureSet
from medseg.reporting.drawing.canvas import Canvas
from medseg.reporting.drawing.figures import AMBER, BACKGROUND, FAINT, INK, outlines
from medseg.reporting.drawing.palette import smallest_png
from medseg.reporting.drawing.planes import Plane, planes
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.drawing.views import View, closeup_view

Image = NDArray[Any]

COLUMNS, SIDE_IN, TITLE_IN, GAP_IN, FOOT_IN = 6, 1.12, 0.2, 0.06, 0.24
"""Pictures in a row, and inches: of a picture's side, above it, between two, and at the foot."""


def instances_png(
    image: Image,
    instances: InstanceMap,
    shown: Sequence[Instance],
    structures: StructureSet,
    *,
    window: tuple[float, float],
    orientation_known: bool = True,
) -> bytes:
    """The first plane through the middle of each instance, close up, with its number above.

    Args:
        image: intensities, (I, J, K).
        instances: on the same grid; the others that lie in a picture are outlined in grey.
        shown: those that get a picture, one or more.
        structures: names and colours.
        window: intensities shown black and white.
        orientation_known: False shows the array as stored.

    Returns:
        A PNG; the same input gives the same bytes.
    """
    numbers, grid = instances.labels.array, instances.labels.grid
    whole = View("", image, numbers, None, grid, (0, 0, 0), (0, 0, 0), grid.shape)
    views = [closeup_view(whole, one.box.slices, one.middle) for one in shown]
    colours = {s.name: s.colour for s in structures}
    outlined = [
        StructureSet(
            tuple(
                Structure(n.number, str(n.number), colour=colours[n.structure] if n == one else FAINT)
                for n in instances.items
            )
        )
        for one in shown
    ]
    return smallest_png(partial(_draw, views, shown, outlined, window, orientation_known))


def _draw(
    views: Sequence[View],
    shown: Sequence[Instance],
    outlined: Sequence[StructureSet],
    window: tuple[float, float],
    orientation_known: bool,
    dots: int,
) -> Picture:
    rows = -(-len(views) // COLUMNS)
    wide = COLUMNS * (SIDE_IN + GAP_IN) + GAP_IN
    high = rows * (SIDE_IN + TITLE_IN + GAP_IN) + FOOT_IN
    canvas = Canvas(wide, high, dots, BACKGROUND)
    for at, (view, one, structures) in enumerate(zip(views, shown, outlined, strict=True)):
        row, column = divmod(at, COLUMNS)
        left = GAP_IN + column * (SIDE_IN + GAP_IN)
        top = high - row * (SIDE_IN + TITLE_IN + GAP_IN)
        middle = left + SIDE_IN / 2, top - TITLE_IN / 2
        canvas.text(*middle, str(one.number), size=8, colour=INK, align="center")
        plane = planes(view.grid, orientation_known=orientation_known)[0]
        _show(canvas, view, plane, structures, window, (left, top - TITLE_IN - SIDE_IN))
    canvas.text(wide / 2, FOOT_IN / 2, BANNER, size=5.5, colour=AMBER, align="center")
    return canvas.picture


def _show(
    canvas: Canvas,
    view: View,
    plane: Plane,
    structures: StructureSet,
    window: tuple[float, float],
    corner: tuple[float, float],
) -> None:
    """One plane in the middle of a square whose lower left corner is given."""
    mm_high, mm_wide = plane.size_mm(view.grid.shape)
    scale = SIDE_IN / max(mm_high, mm_wide)
    wide, tall = mm_wide * scale, mm_high * scale
    place = canvas.snapped((corner[0] + (SIDE_IN - wide) / 2, corner[1] + (SIDE_IN - tall) / 2, wide, tall))
    index = view.point[plane.axis]
    canvas.greys(plane.cut(view.image, index), window, place)
    outlines(canvas, plane.cut(view.labels, index), structures, place, dashed=False)
