"""One row a structure, every case a point; from ten cases on with a box."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from medseg.core.errors import counted
from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import LEAST_N, ReportCohort
from medseg.reporting.cohort.plots.panels import (
    WIDTH_IN,
    Look,
    Numbers,
    frame,
    logarithmic,
    looks,
    place_axes,
    points,
    sheet,
    spread,
)
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import FAINT, GRID, INK, drawable

ROW_IN = 0.34
MOST_ROWS = 24
"""Structures that are drawn in one plot."""

READING = "Every point is a case."
WITH_BOXES = (
    f"With {LEAST_N} or more cases, the thick line is the median, the box spans the quartiles, and the "
    "whiskers extend to the most extreme case within 1.5 times the interquartile range."
)


def dice_boxes(cohort: ReportCohort) -> Picture | None:
    """Dice of every case and structure as points, with boxes (quartiles, whiskers 1.5 IQR).

    Returns:
        The same picture for the same cohort; None without a Dice.
    """
    names = cohort.worst_structures(MOST_ROWS)
    scores = {name: np.array(cohort.dice_of(name)) for name in names}
    if not scores:
        return None
    lowest = min(float(values.min()) for values in scores.values())
    left = max(0.0, np.floor((lowest - 0.02) * 10) / 10)
    with sheet(WIDTH_IN, _height(scores)) as figure:
        axes = place_axes(figure, 2.0, 0.72, 4.88, ROW_IN * len(scores))
        _rows(axes, scores, looks(cohort))
        axes.set_xlim(left - 0.01 * (1 - left), 1.0 + 0.01 * (1 - left))
        axes.set_xlabel("Dice with the reference (1 = identical)", size=8, color=FAINT)
        drawn = png(figure)
    return Picture(
        "Dice",
        drawn,
        f"Dice of every case, for {counted(len(scores), 'structure')}",
        _reading(scores, len([n for n in cohort.colours if cohort.dice_of(n)])),
    )


def volume_rows(cohort: ReportCohort) -> Picture | None:
    """Volume of every case and structure as points on a logarithmic scale, where there is no reference."""
    volumes = {
        name: np.array([row.volume_ml for row in cohort.rows_of(name) if row.volume_ml])
        for name in cohort.colours
    }
    every = {name: values for name, values in volumes.items() if values.size}
    shown = dict(list(every.items())[:MOST_ROWS])
    if not shown:
        return None
    ends = (min(v.min() for v in shown.values()) / 1.3, max(v.max() for v in shown.values()) * 1.3)
    with sheet(WIDTH_IN, _height(shown)) as figure:
        axes = place_axes(figure, 2.0, 0.72, 4.88, ROW_IN * len(shown))
        _rows(axes, shown, looks(cohort))
        logarithmic(axes, ends, "x")
        axes.set_xlabel("Volume in ml, logarithmic scale", size=8, color=FAINT)
        drawn = png(figure)
    left_out = f" Only the first {MOST_ROWS} structures are drawn." if len(every) > len(shown) else ""
    caption = f"{READING}{_boxed(shown)}{left_out}"
    return Picture("Volumes", drawn, f"Volume in every case, for {counted(len(shown), 'structure')}", caption)


def _height(rows: Mapping[str, Numbers]) -> float:
    return 0.95 + ROW_IN * len(rows)


def _boxed(rows: Mapping[str, Numbers]) -> str:
    return f" {WITH_BOXES}" if any(values.size >= LEAST_N for values in rows.values()) else ""


def _reading(rows: Mapping[str, Numbers], of: int) -> str:
    left_out = (
        f" The {len(rows)} of {of} structures with the lowest mean are drawn; the tables list all."
        if of > len(rows)
        else ""
    )
    return f"{READING}{_boxed(rows)}{left_out}"


def _rows(axes: Axes, rows: Mapping[str, Numbers], known: Mapping[str, Look]) -> None:
    frame(axes)
    for place, (name, values) in enumerate(rows.items()):
        if values.size >= LEAST_N:
            _box(axes, place, values)
        points(axes, values, place + 0.2 * spread(values.size), known[name])
        axes.text(
            1.015, place, f"n = {values.size}", size=7, color=FAINT, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([drawable(name, longest=26) for name in rows], size=8, color=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def _box(axes: Axes, place: int, values: Numbers) -> None:
    line = {"color": FAINT, "linewidth": 0.8}
    axes.boxplot(
        values,
        positions=[place],
        orientation="horizontal",
        widths=0.62,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": INK, "linewidth": 1.6},
        manage_ticks=False,
    )
