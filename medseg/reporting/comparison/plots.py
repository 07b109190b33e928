"""Differences between two segmentations, every case a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medseg.metrics.paired import PairedCase, PairedRow
from medseg.metrics.table import SCALES
from medseg.reporting.comparison.comparison import metric_title
from medseg.reporting.drawing.plotting import STYLE, png
from medseg.reporting.drawing.style import (
    BANNER,
    FAINT,
    GOLDEN,
    GRID,
    INK,
    NEUTRAL,
    drawable,
    readable_colour,
)

WIDTH_IN, ROW_IN = 7.4, 0.42

NOTE = (
    "Every point is a case and shows the value of B minus the value of A. The diamond is the mean; with ten "
    "or more cases, the line through it is the 95 % bootstrap interval. Hollow points are cases in which A "
    "or B failed: it missed the structure, labelled a structure that the reference does not contain, or is "
    "missing. Triangles at the edge are values beyond the axis."
)


def paired_differences(rows: Sequence[PairedRow], colours: Mapping[str, str]) -> bytes | None:
    """Differences of one metric, B less A, of every case and structure, as a PNG.

    Args:
        rows: of one metric.
        colours: of the structures, by name.

    Returns:
        The PNG file, the same for the same rows; None without a case.
    """
    rows = [row for row in rows if row.cases]
    if not rows:
        return None
    with matplotlib.rc_context(dict(STYLE)):
        height = 1.0 + ROW_IN * len(rows)
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.27, 0.78 / height, 0.66, ROW_IN * len(rows) / height))
        reach = _reach(rows)
        for place, row in enumerate(rows):
            _row(axes, place, row, readable_colour(colours.get(row.structure, NEUTRAL)), reach)
        _dress(axes, rows, reach)
        figure.text(0.5, 0.12 / height, BANNER, size=7, color="#7a5a00", ha="center", va="center")
        return png(figure)


def _reach(rows: Sequence[PairedRow]) -> float:
    """How far the axis goes to either side: failures do not stretch it, unless there is nothing else."""
    cases = [case for row in rows for case in row.cases]
    kept = [case.difference for case in cases if not _failed(case)] or [case.difference for case in cases]
    ends = [x for row in rows for x in (row.difference, row.ci_low, row.ci_high) if x is not None]
    return 1.08 * (max(map(abs, (*kept, *ends))) or 0.01)


def _failed(case: PairedCase) -> bool:
    return case.failed_a or case.failed_b


def _row(axes: Axes, place: int, row: PairedRow, colour: str, reach: float) -> None:
    values = np.array([case.difference for case in row.cases])
    heights = place + 0.22 * (2.0 * np.mod(np.arange(1, row.n + 1) * GOLDEN, 1.0) - 1.0)
    failed = np.array([_failed(case) for case in row.cases])
    beyond = np.abs(values) > reach
    for part, marker, face in (
        (~failed & ~beyond, "o", colour),
        (failed & ~beyond, "o", "none"),
        (beyond & (values < 0), "<", "none"),
        (beyond & (values > 0), ">", "none"),
    ):
        at = np.clip(values[part], -0.985 * reach, 0.985 * reach)
        axes.scatter(
            at,
            heights[part],
            s=15,
            marker=marker,
            facecolors=face,
            edgecolors=INK,
            linewidths=0.5,
            alpha=0.85,
        )
    if row.ci_low is not None and row.ci_high is not None:
        axes.plot([row.ci_low, row.ci_high], [place, place], color=INK, linewidth=1.6, zorder=4)
    axes.plot([values.mean()], [place], "D", color=INK, markersize=4.5, zorder=5)


def _dress(axes: Axes, rows: Sequence[PairedRow], reach: float) -> None:
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0.0, color=FAINT, linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([drawable(row.structure, longest=26) for row in rows], size=8, color=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    for place, row in enumerate(rows):
        axes.text(
            1.015, place, f"n = {row.n}", size=7, color=FAINT, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.tick_params(axis="x", labelsize=7.5, colors=FAINT, length=3)
    axes.tick_params(axis="y", length=0)
    side = "right" if SCALES[rows[0].metric].sign > 0 else "left"
    title = metric_title(rows[0].metric)
    axes.set_xlabel(f"{title} of B minus A ({side} of 0: B is better)", size=8, color=FAINT)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
