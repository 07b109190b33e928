"""What augmentation does to a scan, as one PNG: a column a draw, with the grid it bends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import contourpy
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from medseg.core.structures import StructureSet
from medseg.reporting.drawing.canvas import Canvas, Rectangle
from medseg.reporting.drawing.figures import (
    AMBER,
    BACKGROUND,
    FAINT,
    FOOT_IN,
    INK,
    LETTER_IN,
    MARGIN_IN,
    letters,
    outlines,
    placed,
)
from medseg.reporting.drawing.palette import smallest_png
from medseg.reporting.drawing.planes import Plane
from medseg.reporting.drawing.style import BANNER, drawable, nice_length

Image = NDArray[Any]

COLUMN_IN = 2.1
"""Width of a column, letters left out."""
TALLEST_IN = 2.3
"""Largest height of a slice."""
TITLE_IN, LINE_IN = 0.24, 0.15
NAME_IN = 0.20
LINES_ACROSS = 10
"""Lines of the grid along the longest side, about."""
GRID = "#46f0f0"


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice of one draw, turned as its plane says.

    Attributes:
        plane: the view.
        pixels: intensities (rows, columns).
        labels: label values (rows, columns).
        down_mm, along_mm: where in the scan each pixel was read, along the image's two axes.
    """

    plane: Plane
    pixels: Image
    labels: Image
    down_mm: Image
    along_mm: Image

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width, edge to edge."""
        rows, columns = self.pixels.shape
        return rows * self.plane.pixel_mm[0], columns * self.plane.pixel_mm[1]


@dataclass(frozen=True, eq=False)
class Column:
    """A draw: what it is called, a few words on it, and a panel a plane."""

    title: str
    lines: tuple[str, ...]
    panels: tuple[Panel, ...]


def panel_of(plane: Plane, index: int, image: Image, labels: Image, positions_voxels: Image) -> Panel:
    """Slice `index` of a draw.

    Args:
        plane: the view.
        index: of the slice.
        image: intensities (I, J, K).
        labels: label values (I, J, K).
        positions_voxels: which voxel of the scan each was read at, (3, I, J, K).
    """
    down, along = (
        plane.cut(positions_voxels[axis], index) * mm
        for axis, mm in zip((plane.row_axis, plane.column_axis), plane.pixel_mm, strict=True)
    )
    return Panel(plane, plane.cut(image, index), plane.cut(labels, index), down, along)


def draws_png(
    columns: Sequence[Column],
    structures: StructureSet,
    *,
    window: tuple[float, float],
    heading: str,
    dots_per_inch: int = 120,
) -> bytes:
    """A row a plane and a column a draw; a regular grid fixed to the scan shows where its voxels went.

    The same grid lies on every column, so the first, unchanged one shows it straight.

    Args:
        columns: the scan as it is, then the draws; with panels of the same planes.
        structures: names and colours of the labels.
        window: intensities shown black and white, in all columns.
        heading: what the picture shows.
        dots_per_inch: resolution; a column is some two inches wide.

    Returns:
        The PNG file. The same input gives the same bytes.
    """
    return smallest_png(partial(_draw, columns, structures, window, heading), (dots_per_inch,))


def _draw(
    columns: Sequence[Column], structures: StructureSet, window: tuple[float, float], heading: str, dots: int
) -> Picture:
    first = columns[0].panels
    sizes = [panel.size_mm for panel in first]
    scale = min(COLUMN_IN / max(wide for _, wide in sizes), TALLEST_IN / max(high for high, _ in sizes))
    slot = COLUMN_IN + 2 * LETTER_IN
    texts = max(len(column.lines) for column in columns) * LINE_IN
    heights = [NAME_IN + 2 * LETTER_IN + high * scale for high, _ in sizes]
    width = max(6.0, 2 * MARGIN_IN + slot * len(columns))
    height = MARGIN_IN + 2 * TITLE_IN + texts + sum(heights) + FOOT_IN
    canvas = Canvas(width, height, dots, BACKGROUND)
    top = height - MARGIN_IN - TITLE_IN
    canvas.text(MARGIN_IN, top + 0.12, drawable(heading, longest=90), size=9, colour=INK, bold=True)
    step = nice_length(max(max(size) for size in sizes) / LINES_ACROSS)
    for n, column in enumerate(columns):
        middle = width / 2 + slot * (n - (len(columns) - 1) / 2)
        _titles(canvas, column, middle, top)
        below = top - TITLE_IN - texts
        for panel, straight, tall in zip(column.panels, first, heights, strict=True):
            place = canvas.snapped(_place(panel, middle, below, scale))
            canvas.greys(panel.pixels, window, place)
            outlines(canvas, panel.labels, structures, place, dashed=False)
            _grid(canvas, panel, straight, step, place)
            if n == 0:
                _names(canvas, panel.plane, place, below)
            below -= tall
    canvas.text(width / 2, 0.13, BANNER, size=7, colour=AMBER, align="center")
    return canvas.picture


def _titles(canvas: Canvas, column: Column, middle: float, top: float) -> None:
    canvas.text(middle, top - 0.10, column.title, size=8, colour=INK, align="center", bold=True)
    for n, line in enumerate(column.lines):
        below = top - TITLE_IN - LINE_IN * (n + 0.3)
        canvas.text(middle, below, line, size=6.5, colour=FAINT, align="center")


def _place(panel: Panel, middle: float, top: float, scale: float) -> Rectangle:
    """Of a slice."""
    high, wide = (mm * scale for mm in panel.size_mm)
    return middle - wide / 2, top - NAME_IN - LETTER_IN - high, wide, high


def _names(canvas: Canvas, plane: Plane, place: Rectangle, top: float) -> None:
    """The plane's name, and what the edges face: of the first column alone, as a draw may be turned."""
    middle = place[0] + place[2] / 2
    canvas.text(middle, top - NAME_IN / 2, plane.name, size=7, colour=FAINT, align="center")
    letters(canvas, plane, place)


def _grid(canvas: Canvas, panel: Panel, straight: Panel, step: float, place: Rectangle) -> None:
    """Lines of equal position in the scan, the same positions in every column."""
    shape = panel.pixels.shape
    if min(shape) < 2:
        return
    down, along = panel.plane.pixel_mm
    for here, there, mm in (
        (panel.down_mm, straight.down_mm, down),
        (panel.along_mm, straight.along_mm, along),
    ):
        middle = float(there.mean())
        low, high = float(here.min()) + mm / 4, float(here.max()) - mm / 4
        count = int(max(abs(low - middle), abs(high - middle)) / step) + 1
        levels = [v for v in (middle + step * n for n in range(-count, count + 1)) if low < v < high]
        contours = contourpy.contour_generator(z=here)
        found: list[Any] = [line for level in levels for line in contours.lines(level)]
        drawn = [placed(line, shape, place) for line in found]
        canvas.lines(drawn, colour=GRID, width=0.6, opacity=0.7, within=place)
