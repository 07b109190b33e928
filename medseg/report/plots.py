"""Plots over a cohort: every case is a point, never a bar of means."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.report.content import ReportCohort
from medseg.report.drawing import BANNER, STYLE, drawable, png, readable_colour

WIDTH_IN = 7.4
ROW_IN = 0.34
BOX_FROM = 10
"""Least number of cases that get a box; below, the points and their median say all there is."""

INK, FAINT, GRID = "#1f2328", "#59636e", "#e3e6ea"


def dice_boxes(cohort: ReportCohort) -> bytes | None:
    """Dice of every case and structure as points, with boxes (quartiles, whiskers 1.5 IQR), as a PNG.

    Args:
        cohort: at least one of its structures has a Dice, or there is no plot.

    Returns:
        The PNG file, the same for the same cohort; None without a Dice.
    """
    scores = {name: cohort.dice_of(name) for name in cohort.colours}
    scores = {name: values for name, values in scores.items() if values}
    if not scores:
        return None
    with matplotlib.rc_context(dict(STYLE)):
        height = 0.95 + ROW_IN * len(scores)
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.27, 0.72 / height, 0.66, ROW_IN * len(scores) / height))
        colours = {name: readable_colour(colour) for name, colour in cohort.colours.items()}
        for place, (name, values) in enumerate(scores.items()):
            _row(axes, place, np.array(values), colours[name])
        _dress(axes, scores)
        figure.text(0.5, 0.12 / height, BANNER, size=7, color="#7a5a00", ha="center", va="center")
        return png(figure)


def _row(axes: Axes, place: int, values: NDArray[np.float64], colour: str) -> None:
    if len(values) >= BOX_FROM:
        axes.boxplot(
            values,
            positions=[place],
            orientation="horizontal",
            widths=0.62,
            showfliers=False,
            boxprops={"color": FAINT, "linewidth": 0.8},
            whiskerprops={"color": FAINT, "linewidth": 0.8},
            capprops={"color": FAINT, "linewidth": 0.8},
            medianprops={"color": INK, "linewidth": 1.6},
            manage_ticks=False,
        )
    else:
        middle = float(np.median(values))
        axes.plot([middle, middle], [place - 0.31, place + 0.31], color=INK, linewidth=1.6)
    heights = place + 0.2 * _spread(len(values))
    axes.scatter(values, heights, s=11, color=colour, edgecolors=INK, linewidths=0.3, alpha=0.85, zorder=3)


def _spread(count: int) -> NDArray[np.float64]:
    """Heights in [-1, 1] that keep points apart: multiples of the golden ratio, not random."""
    return np.asarray(2.0 * np.mod(np.arange(1, count + 1) * 0.6180339887498949, 1.0) - 1.0)


def _dress(axes: Axes, scores: dict[str, list[float]]) -> None:
    lowest = min(min(values) for values in scores.values())
    left = max(0.0, np.floor((lowest - 0.02) * 10) / 10)
    axes.set_xlim(left - 0.01 * (1 - left), 1.0 + 0.01 * (1 - left))
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_yticks(range(len(scores)))
    axes.set_yticklabels([drawable(name, longest=26) for name in scores], size=8, color=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    for place, values in enumerate(scores.values()):
        axes.text(
            1.015, place, f"n = {len(values)}", size=7, color=FAINT, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.tick_params(axis="x", labelsize=7.5, colors=FAINT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Dice with the reference (1 = identical)", size=8, color=FAINT)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
