"""What the plots of a cohort share: a small plot a structure, points, axes in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.drawing.plotting import STYLE
from medseg.reporting.drawing.style import (
    AMBER,
    BANNER,
    FAINT,
    GOLDEN,
    GRID,
    INK,
    drawable,
    readable_colour,
)

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

WIDTH_IN = 7.4
MOST_PANELS = 12
"""Structures that get a small plot of their own."""

MARKERS = "os^Dv<>phd*8"

COLUMNS = {1: 1, 2: 2, 4: 2}
"""How many plots stand side by side, by their number; three in all other cases."""
LEFT_IN, RIGHT_IN, TITLE_IN, GAP_IN, FOOT_IN = 0.62, 0.12, 0.28, 0.30, 0.46
PANEL_IN = {1: 2.8, 2: 2.5}
"""Height of a plot, by how many stand side by side; 1.85 for three."""
WIDEST_IN = 4.6
LETTER_IN = 0.066
"""Width of a letter of a title, on average."""
STEPS = (1, 2, 2.5, 5, 10)
"""Between ticks, times a power of ten."""


@dataclass(frozen=True)
class Look:
    """How a structure is drawn: its colour, and a marker for who cannot tell the colours apart."""

    colour: str
    marker: str


def looks(cohort: ReportCohort) -> dict[str, Look]:
    """The look of every structure, the same in all plots."""
    colours = cohort.colours.items()
    return {
        name: Look(readable_colour(colour), MARKERS[place % len(MARKERS)])
        for place, (name, colour) in enumerate(colours)
    }


@contextmanager
def sheet(width_in: float, height_in: float) -> Iterator[Figure]:
    """An empty figure with the banner at its foot, drawn in the house's style."""
    with matplotlib.rc_context(dict(STYLE)):
        figure = Figure(figsize=(width_in, height_in), facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.5, 0.12 / height_in, BANNER, size=7, color=AMBER, ha="center", va="center")
        yield figure


def place_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the lower left."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


@contextmanager
def panels(
    names: Sequence[str], known: dict[str, Look], *, across: str, up: str
) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """A figure with a small plot for each structure.

    Args:
        names: of the structures, at least one.
        known: their looks.
        across, up: what the axes show, written once.
    """
    columns = COLUMNS.get(len(names), 3)
    rows = -(-len(names) // columns)
    slot = WIDTH_IN / columns
    high = PANEL_IN.get(columns, 1.85)
    wide = min(WIDEST_IN, slot - LEFT_IN - RIGHT_IN)
    height = rows * (high + TITLE_IN + GAP_IN) + FOOT_IN
    with sheet(WIDTH_IN, height) as figure:
        found = {}
        for place, name in enumerate(names):
            row, column = divmod(place, columns)
            left = column * slot + LEFT_IN + (slot - LEFT_IN - RIGHT_IN - wide) / 2
            top = height - row * (high + TITLE_IN + GAP_IN) - TITLE_IN
            axes = place_axes(figure, left, top - high, wide, high)
            _title(axes, name, known[name], wide, longest=int((wide + LEFT_IN - 0.4) / LETTER_IN))
            frame(axes)
            found[name] = axes
        figure.text(0.5, 0.36 / height, across, size=8, color=FAINT, ha="center", va="center")
        middle = (height + FOOT_IN) / 2 / height
        first = LEFT_IN + (slot - LEFT_IN - RIGHT_IN - wide) / 2
        x = (first - LEFT_IN + 0.13) / WIDTH_IN
        figure.text(x, middle, up, size=8, color=FAINT, ha="center", va="center", rotation=90)
        yield figure, found


def _title(axes: Axes, name: str, look: Look, wide: float, *, longest: int) -> None:
    """The name of a structure after its marker."""
    axes.plot(
        [0.06 / wide], [1.0], look.marker, color=look.colour, markersize=5, markeredgecolor=INK,
        markeredgewidth=0.4, transform=_above(axes), clip_on=False,
    )  # fmt: skip
    axes.annotate(
        drawable(name, longest=longest), (0.06 / wide, 1.0), xytext=(7, 0),
        textcoords="offset points", xycoords=_above(axes), size=8, color=INK, va="center",
        annotation_clip=False, parse_math=False,
    )  # fmt: skip


def _above(axes: Axes) -> Any:
    """Coordinates of the axes, with 1 a little above their upper edge."""
    lifted = matplotlib.transforms.ScaledTranslation(0, 0.13, axes.figure.dpi_scale_trans)
    return axes.transAxes + lifted


def frame(axes: Axes) -> None:
    """Thin lines, small figures."""
    axes.tick_params(axis="both", labelsize=7, colors=FAINT, length=2.5, pad=2)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b5bcc4")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axis.set_major_formatter(FuncFormatter(plain))


def plain(value: float, _: object = None) -> str:
    """A tick's number without a power of ten and with a true minus.

    >>> plain(-0.25), plain(2000.0), plain(1e-17)
    ('−0.25', '2000', '0')
    """
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.10g}".replace("-", "−") if abs(value) >= 1e-4 else f"{value:.0e}"


def points(axes: Axes, x: Numbers, y: Numbers, look: Look, hollow: Mask | None = None) -> None:
    """A point a case; hollow where prediction or reference has none of the structure."""
    alone = np.zeros(x.shape, np.bool_) if hollow is None else hollow
    size = 17.0 if x.size <= 60 else 10.0 if x.size <= 300 else 5.0
    for chosen, face in ((~alone, look.colour), (alone, "white")):
        if chosen.any():
            axes.scatter(
                x[chosen], y[chosen], s=size, marker=look.marker, facecolors=face,
                edgecolors=INK if face != "white" else look.colour, zorder=3,
                linewidths=0.35 if face != "white" else 0.9, alpha=0.85, clip_on=False,
            )  # fmt: skip


def spread(count: int) -> Numbers:
    """Heights in [-1, 1] that keep points apart: multiples of the golden ratio, not random."""
    return np.asarray(2.0 * np.mod(np.arange(1, count + 1) * GOLDEN, 1.0) - 1.0)


def padded(values: Numbers, share: float = 0.07) -> tuple[float, float]:
    """Ends of an axis that holds all values with a margin.

    >>> padded(np.array([0.0, 10.0]), 0.1)
    (-1.0, 11.0)
    """
    low, high = float(values.min()), float(values.max())
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def logarithmic(axes: Axes, ends: tuple[float, float], which: str) -> None:
    """A logarithmic axis with plain numbers at its ticks.

    Args:
        axes: of the plot.
        ends: lowest and highest value, above 0.
        which: "x" or "y".
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale: Callable[[str], None] = axes.set_xscale if which == "x" else axes.set_yscale
    set_scale("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(*ends)
    axis.set_major_locator(FixedLocator(log_ticks(*ends)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(plain))


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two, few enough to be read.

    >>> log_ticks(0.9, 12.0), log_ticks(0.01, 1000.0), log_ticks(1.1, 2.3)
    ([1.0, 2.0, 5.0, 10.0], [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0], [1.25, 1.5, 1.75, 2.0, 2.25])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) <= most:
            break
    if len(ticks) >= 3:
        return [float(f"{tick:.3g}") for tick in ticks[:: -(-len(ticks) // most)]]
    return [float(t) for t in MaxNLocator(most - 1, steps=STEPS).tick_values(low, high) if low <= t <= high]
