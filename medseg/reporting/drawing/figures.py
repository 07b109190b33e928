"""Slices with outlines, as one PNG: radiological display, letters, scale bars, physical aspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from medseg.core.boxes import bounding_box, cut_at
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.reporting.drawing.canvas import ROUND, Canvas, Line, Rectangle
from medseg.reporting.drawing.palette import smallest_png
from medseg.reporting.drawing.planes import Plane, planes, position, require_shape
from medseg.reporting.drawing.style import BANNER, drawable, nice_length, paler, readable_colour
from medseg.reporting.drawing.views import Place, View, centre_views, place_views, window_of

Image = NDArray[Any]

WIDTH_IN = 7.4
MARGIN_IN = 0.12
LETTER_IN = 0.17
TITLE_IN = 0.34
HEADING_IN = 0.26
BAR_IN = 0.18
FOOT_IN = 0.30
NARROWEST_IN = 1.6
"""Least width of a slice's place, so that its title fits."""
LEGEND_LINE_IN = 0.17
TALLEST_IN = {1: 4.6, 2: 3.4, 3: 2.7}
"""Largest height of a slice in the figure, by the number of rows."""

BESIDE_IN = 2 * LETTER_IN + 0.08
FRAME_IN = HEADING_IN + TITLE_IN + 2 * LETTER_IN + BAR_IN + 0.1
"""What stands beside a slice, and above and below it."""

LONGEST_HEADING = 96
RING_MM, RING_SHARE = 3.0, 0.06
"""Radius of the ring around a place: in mm, and at least this share of the slice's longer side."""

BACKGROUND, INK, FAINT, AMBER = "#0b0c0e", "#e8eaed", "#9aa0a6", "#e6c07b"
RING = "#ffffff"
KEY_POINTS, RING_POINTS = 1.4, 0.8
"""Width of the lines of legend and scale bar, and of a ring."""


def overlay_png(
    image: Image,
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    reference: Image | None = None,
    places: Sequence[Place] = (),
    orientation_known: bool = True,
    window: tuple[float, float] | None = None,
    closeup: bool = True,
    names: bool = True,
) -> bytes:
    """Axial, coronal and sagittal slices with the outlines of the structures, as a PNG.

    The first row passes through the centroid of all structures (through the slice with most of
    them where the centroid's holds few). A second row repeats it close up when the structures are
    small in the image. With a reference, a row shows each of the places; the prediction is solid, the
    reference dashed and paler.

    Args:
        image: intensities, (I, J, K).
        labels: label values, (I, J, K), on the same grid.
        grid: where the voxels are.
        structures: names and colours of the labels.
        reference: label values of a reference segmentation, (I, J, K).
        places: where the two differ, see `views.worst_places`.
        orientation_known: False leaves out letters and positions, and shows the array as stored.
        window: intensities shown black and white; `window_of(image)` when None.
        closeup: whether to add the close-up row.
        names: whether to list the structures' names under the slices.

    Returns:
        The PNG file. The same input gives the same bytes.

    Raises:
        GeometryError: an array is not of the grid's shape.
    """
    require_shape(grid, image=image, label=labels, reference=reference)
    views = centre_views(image, labels, reference, grid, structures, closeup=closeup)
    if reference is not None:
        views += place_views(image, labels, reference, grid, structures, places, closeup=closeup)
    return slices_png(
        views,
        structures,
        orientation_known=orientation_known,
        window=window or window_of(image),
        names=names,
    )


def slices_png(
    views: Sequence[View],
    structures: StructureSet,
    *,
    orientation_known: bool,
    window: tuple[float, float],
    names: bool = True,
) -> bytes:
    """A row a view, a column a plane, as a PNG; the same input gives the same bytes.

    Args:
        views: what to show, all of one scan.
        structures: names and colours of the labels.
        orientation_known: False leaves out letters and positions.
        window: intensities shown black and white.
        names: whether to list the structures' names under the slices.
    """
    shown = planes(views[0].grid, orientation_known=orientation_known)
    legend = _legend(structures, views) if names else []
    return smallest_png(partial(_draw, views, shown, structures, legend, window))


@dataclass(frozen=True)
class _Entry:
    """An item of the legend."""

    text: str
    colour: str
    dashed: bool = False
    ring: bool = False


def _legend(structures: StructureSet, views: Sequence[View]) -> list[_Entry]:
    """Line styles where there are two, and the structures that a slice of these shows."""
    entries = []
    if any(view.reference is not None for view in views):
        entries = [_Entry("prediction", INK), _Entry("reference (paler)", INK, dashed=True)]
    if any(view.marked for view in views):
        entries.append(_Entry("largest distance", RING, ring=True))
    present: set[int] = set()
    for view in views:
        for array in (view.labels, view.reference):
            if array is not None:
                for axis, index in enumerate(view.point):
                    present |= set(np.unique(cut_at(array, index, axis)).tolist())
    shown = [s for s in structures if present & set(s.label_values)]
    names = {s.name: s for s in shown}
    for s in shown:
        twin = names.get(s.twin or "")
        if twin is None or twin.colour != s.colour:
            entries.append(_Entry(drawable(s.name, longest=30), readable_colour(s.colour)))
        elif s.side == "left":
            entries.append(
                _Entry(drawable(structures.unsided(s.name), longest=30), readable_colour(s.colour))
            )
    return entries


def _legend_columns(entries: list[_Entry]) -> tuple[int, float]:
    """How many entries stand side by side, and the width of each, by a generous width a letter."""
    width = max((0.42 + 0.06 * len(entry.text) for entry in entries), default=1.0)
    return max(1, min(len(entries), int((WIDTH_IN - 2 * MARGIN_IN) / width))), width


def _draw(
    views: Sequence[View],
    shown: tuple[Plane, ...],
    structures: StructureSet,
    legend: list[_Entry],
    window: tuple[float, float],
    dots: int,
) -> Picture:
    scales = [_scale(view, shown, len(views)) for view in views]
    heights = [
        FRAME_IN + s * max(p.size_mm(v.grid.shape)[0] for p in shown)
        for v, s in zip(views, scales, strict=True)
    ]
    lines = -(-len(legend) // _legend_columns(legend)[0])
    height = MARGIN_IN + sum(heights) + LEGEND_LINE_IN * lines + FOOT_IN
    canvas = Canvas(WIDTH_IN, height, dots, BACKGROUND)
    top = height - MARGIN_IN
    for view, scale, tall in zip(views, scales, heights, strict=True):
        heading = drawable(view.heading, longest=LONGEST_HEADING)
        canvas.text(MARGIN_IN, top - 0.13, heading, size=8.5, colour=INK, bold=True)
        left = MARGIN_IN
        for plane, slot in zip(shown, _slots(view, shown, scale), strict=True):
            _panel(canvas, view, plane, structures, window, (left, top, slot, tall), scale)
            left += slot
        top -= tall
    _draw_legend(canvas, legend, top)
    canvas.text(WIDTH_IN / 2, 0.13, BANNER, size=7, colour=AMBER, align="center")
    return canvas.picture


def _scale(view: View, shown: tuple[Plane, ...], rows: int) -> float:
    """Inches a millimetre: one scale for the whole row, so that sizes can be compared."""
    sizes = [p.size_mm(view.grid.shape) for p in shown]
    across = WIDTH_IN - 2 * MARGIN_IN
    scale = TALLEST_IN.get(rows, 2.4) / max(high for high, _ in sizes)
    scale = min(scale, (across - len(shown) * BESIDE_IN) / sum(wide for _, wide in sizes))
    while sum(max(NARROWEST_IN, wide * scale + BESIDE_IN) for _, wide in sizes) > across + 1e-9:
        scale *= 0.98
    return scale


def _slots(view: View, shown: tuple[Plane, ...], scale: float) -> list[float]:
    """Width of each slice's place; what is left over is shared equally."""
    widths = [max(NARROWEST_IN, p.size_mm(view.grid.shape)[1] * scale + BESIDE_IN) for p in shown]
    spare = (WIDTH_IN - 2 * MARGIN_IN - sum(widths)) / len(widths)
    return [width + spare for width in widths]


def _panel(
    canvas: Canvas,
    view: View,
    plane: Plane,
    structures: StructureSet,
    window: tuple[float, float],
    slot: Rectangle,
    scale: float,
) -> None:
    """One slice with its title, outlines, letters and scale bar, in a slot whose upper left is given."""
    left, top, across, tall = slot
    mm_high, mm_wide = plane.size_mm(view.grid.shape)
    wide, high = mm_wide * scale, mm_high * scale
    room = tall - FRAME_IN
    x = left + (across - wide) / 2
    y = top - HEADING_IN - TITLE_IN - LETTER_IN - (room + high) / 2
    index = view.point[plane.axis]
    place = canvas.snapped((x, y, wide, high))
    canvas.greys(plane.cut(view.image, index), window, place)
    outlines(canvas, plane.cut(view.labels, index), structures, place, dashed=False)
    if view.reference is not None:
        outlines(canvas, plane.cut(view.reference, index), structures, place, dashed=True)
    if view.marked:
        _ring(canvas, view, plane, place)
    number = f"slice {index + view.start[plane.axis] + 1} of {view.full_shape[plane.axis]}"
    where = position(view.grid, plane, view.point)
    middle, title = left + across / 2, top - HEADING_IN
    name = plane.name[:1].upper() + plane.name[1:]
    canvas.text(middle, title - 0.10, name, size=8, colour=INK, align="center")
    detail = f"{number}, {where}" if where else number
    canvas.text(middle, title - 0.24, detail, size=7, colour=FAINT, align="center")
    letters(canvas, plane, (x, y, wide, high))
    _scale_bar(canvas, nice_length(0.6 / scale), scale, (middle, y - LETTER_IN - BAR_IN / 2))


def _ring(canvas: Canvas, view: View, plane: Plane, place: Rectangle) -> None:
    """A ring around the view's point, wide enough to leave what it rings free."""
    axes, flips = (plane.row_axis, plane.column_axis), (plane.flip_rows, plane.flip_columns)
    at = [
        view.grid.shape[axis] - 1 - view.point[axis] if flip else view.point[axis]
        for axis, flip in zip(axes, flips, strict=True)
    ]
    size_mm = plane.size_mm(view.grid.shape)
    radius = max(RING_MM, RING_SHARE * max(size_mm)) * place[2] / size_mm[1]
    middle = placed(np.array([at[::-1]], float), [view.grid.shape[axis] for axis in axes], place)
    canvas.lines([middle + radius * ROUND], colour=RING, width=RING_POINTS, within=place)


def outlines(canvas: Canvas, cut: Image, structures: StructureSet, place: Rectangle, *, dashed: bool) -> None:
    """The border of each structure in a slice (rows, columns) that fills a place.

    A mask is padded, so that the outline of one at the edge of the scan closes.
    """
    present = set(np.unique(cut).tolist())
    for structure in structures:
        if not present & set(structure.label_values):
            continue
        mask = structures.mask(cut, structure)
        rows, columns = bounding_box(mask) or ()
        around = np.pad(mask[rows, columns], 1).astype(np.float64)
        found: Any = contourpy.contour_generator(z=around).lines(0.5)
        start = columns.start - 1, rows.start - 1
        colour = readable_colour(structure.colour)
        canvas.lines(
            [placed(line + start, cut.shape, place) for line in found],
            colour=paler(colour) if dashed else colour,
            width=0.9 if dashed else 1.1,
            dashed=dashed,
            within=place,
        )


def placed(points: Line, shape: Sequence[int], place: Rectangle) -> Line:
    """Where points of a slice, column and row of a pixel, lie on a canvas whose place the slice fills."""
    x, y, wide, high = place
    rows, columns = shape
    share = (points + 0.5) / (columns, rows)
    return np.asarray((x, y + high) + share * (wide, -high))


def letters(canvas: Canvas, plane: Plane, place: Rectangle) -> None:
    """What the four edges of a slice face; nothing where unknown."""
    if plane.letters is None:
        return
    x, y, wide, high = place
    half = LETTER_IN / 2
    middle, level = x + wide / 2, y + high / 2
    places = (x - half, level), (x + wide + half, level), (middle, y + high + half), (middle, y - half)
    for text, at in zip(plane.letters, places, strict=True):
        canvas.text(*at, text, size=8, colour=INK, align="center", bold=True)


def _scale_bar(canvas: Canvas, length_mm: float, scale: float, at: tuple[float, float]) -> None:
    label = f"{length_mm:g} mm"
    x, y = at[0] - (length_mm * scale + 0.05 + 0.055 * len(label)) / 2, at[1]
    end = x + length_mm * scale
    canvas.lines([np.array([(x, y), (end, y)])], colour=INK, width=KEY_POINTS)
    canvas.text(end + 0.05, y, label, size=6.5, colour=FAINT)


def _draw_legend(canvas: Canvas, entries: list[_Entry], top: float) -> None:
    columns, width = _legend_columns(entries)
    left = (WIDTH_IN - columns * width) / 2
    for n, entry in enumerate(entries):
        x = left + width * (n % columns)
        y = top - LEGEND_LINE_IN * (n // columns + 0.5)
        line, thick = np.array([(x, y), (x + 0.2, y)]), KEY_POINTS
        if entry.ring:
            line, thick = (x + 0.1, y) + 0.055 * ROUND, RING_POINTS
        canvas.lines([line], colour=entry.colour, width=thick, dashed=entry.dashed)
        canvas.text(x + 0.26, y, entry.text, size=7, colour=FAINT)
