"""What augmentation does to a scan, as one PNG: a column a draw, with the grid it bends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.reporting.drawing.figures import (
    AMBER,
    BACKGROUND,
    FAINT,
    FOOT_IN,
    GREYS,
    INK,
    LETTER_IN,
    MARGIN_IN,
    letters,
    outlines,
    put_text,
)
from medseg.reporting.drawing.planes import Plane
from medseg.reporting.drawing.style import BANNER, STYLE, drawable, nice_length, png

Image = NDArray[Any]
Place = tuple[float, float, float, float]

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
    with matplotlib.rc_context(dict(STYLE)):
        return png(_draw(columns, structures, window, heading), (dots_per_inch,))


def _draw(
    columns: Sequence[Column], structures: StructureSet, window: tuple[float, float], heading: str
) -> Figure:
    first = columns[0].panels
    sizes = [panel.size_mm for panel in first]
    scale = min(COLUMN_IN / max(wide for _, wide in sizes), TALLEST_IN / max(high for high, _ in sizes))
    slot = COLUMN_IN + 2 * LETTER_IN
    texts = max(len(column.lines) for column in columns) * LINE_IN
    heights = [NAME_IN + 2 * LETTER_IN + high * scale for high, _ in sizes]
    width = max(6.0, 2 * MARGIN_IN + slot * len(columns))
    height = MARGIN_IN + 2 * TITLE_IN + texts + sum(heights) + FOOT_IN
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    top = height - MARGIN_IN - TITLE_IN
    put_text(figure, MARGIN_IN, top + 0.12, drawable(heading, longest=90), size=9, colour=INK, weight="bold")
    step = nice_length(max(max(size) for size in sizes) / LINES_ACROSS)
    for n, column in enumerate(columns):
        middle = width / 2 + slot * (n - (len(columns) - 1) / 2)
        _titles(figure, column, middle, top)
        below = top - TITLE_IN - texts
        for panel, straight, tall in zip(column.panels, first, heights, strict=True):
            place = _place(panel, middle, below, scale)
            axes = _image(figure, panel, place, structures, window)
            _grid(axes, panel, straight, step)
            _names(figure, panel.plane, place, below, lettered=n == 0)
            below -= tall
    put_text(figure, width / 2, 0.13, BANNER, size=7, colour=AMBER, align="center")
    return figure


def _titles(figure: Figure, column: Column, middle: float, top: float) -> None:
    put_text(figure, middle, top - 0.10, column.title, size=8, colour=INK, align="center", weight="bold")
    for n, line in enumerate(column.lines):
        below = top - TITLE_IN - LINE_IN * (n + 0.3)
        put_text(figure, middle, below, line, size=6.5, colour=FAINT, align="center")


def _place(panel: Panel, middle: float, top: float, scale: float) -> Place:
    """Left, lower edge, width and height of a slice, in inches."""
    high, wide = (mm * scale for mm in panel.size_mm)
    return middle - wide / 2, top - NAME_IN - LETTER_IN - high, wide, high


def _names(figure: Figure, plane: Plane, place: Place, top: float, *, lettered: bool) -> None:
    """The plane's name over the first column, and what the edges face: a draw may be turned or mirrored."""
    if not lettered:
        return
    middle = place[0] + place[2] / 2
    put_text(figure, middle, top - NAME_IN / 2, plane.name, size=7, colour=FAINT, align="center")
    letters(figure, plane, place)


def _image(
    figure: Figure, panel: Panel, place: Place, structures: StructureSet, window: tuple[float, float]
) -> Axes:
    total = figure.get_size_inches()
    x, y, wide, high = place
    axes = figure.add_axes((x / total[0], y / total[1], wide / total[0], high / total[1]))
    axes.set_axis_off()
    mm_high, mm_wide = panel.size_mm
    axes.imshow(
        panel.pixels,
        cmap=GREYS,
        vmin=window[0],
        vmax=window[1],
        extent=(0, mm_wide, mm_high, 0),
        aspect="auto",
        interpolation="bilinear" if min(panel.pixels.shape) > 1 else "nearest",
    )
    outlines(axes, panel.labels, panel.plane, structures, dashed=False)
    axes.set_xlim(0, mm_wide)
    axes.set_ylim(mm_high, 0)
    return axes


def _grid(axes: Axes, panel: Panel, straight: Panel, step: float) -> None:
    """Lines of equal position in the scan, the same positions in every column."""
    rows, columns = panel.pixels.shape
    if min(rows, columns) < 2:
        return
    down, along = panel.plane.pixel_mm
    x, y = (np.arange(columns) + 0.5) * along, (np.arange(rows) + 0.5) * down
    for here, there, mm in (
        (panel.down_mm, straight.down_mm, down),
        (panel.along_mm, straight.along_mm, along),
    ):
        middle = float(there.mean())
        low, high = float(here.min()) + mm / 4, float(here.max()) - mm / 4
        count = int(max(abs(low - middle), abs(high - middle)) / step) + 1
        levels = [v for v in (middle + step * n for n in range(-count, count + 1)) if low < v < high]
        if levels:
            axes.contour(x, y, here, levels=levels, colors=[GRID], linewidths=0.6, alpha=0.7)
