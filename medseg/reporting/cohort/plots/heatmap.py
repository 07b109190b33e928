"""Dice of every case and structure as a map of colours, the worst cases on top."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from medseg.core.errors import counted
from medseg.reporting.case.content import Picture, ReportCase
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots.panels import WIDTH_IN, Numbers, place_axes, plain, sheet
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import FAINT, INK, drawable

ROWS_EACH = 60
"""Cases on one map; the others continue on the next."""
MOST_MAPS = 4
MOST_COLUMNS = 56
WRITTEN_COLUMNS = 12
"""Up to this many structures the number is written in its cell."""

ROW_IN, NAME_IN, BAR_IN = 0.145, 1.55, 0.62
WIDEST_CELL_IN = 0.95
COLOURS = "cividis"
"""A sequence that grows lighter throughout and looks the same to the colour-blind."""
HATCH = "////"
DOTS_PER_INCH = (130, 110, 96, 80, 64)


def heat_maps(cohort: ReportCohort) -> tuple[Picture, ...]:
    """One map for every 60 cases, the worst first; none without a Dice."""
    names = cohort.worst_structures(MOST_COLUMNS)
    cases = [case for case in cohort.worst_first() if case.has_reference]
    if not names or not cases:
        return ()
    low = _lowest_shown(cohort, names)
    pages = [cases[n : n + ROWS_EACH] for n in range(0, len(cases), ROWS_EACH)][:MOST_MAPS]
    return tuple(
        Picture(
            "Dice, case by structure" + (f" ({n} of {len(pages)})" if len(pages) > 1 else ""),
            _map(page, names, low),
            f"Dice of {counted(len(page), 'case')} and {counted(len(names), 'structure')} as colours, "
            "the worst case on top",
            _reading(cohort, len(cases), names, low) if n == len(pages) else "",
        )
        for n, page in enumerate(pages, 1)
    )


def _reading(cohort: ReportCohort, cases: int, names: Sequence[str], low: float) -> str:
    said = "Each row is a case, lowest mean Dice on top; each column is a structure. Lighter is better."
    if low > 0:
        said += f" All values below {low:.1f} have the darkest colour."
    if any(row.dice.value == 0 for name in names for row in cohort.rows_of(name)):
        said += " A cross marks a Dice of 0."
    if any(row.dice.status == "both_empty" for name in names for row in cohort.rows_of(name)):
        said += " Hatched cells have no Dice, because prediction and reference are empty."
    of = sum(bool(cohort.dice_of(name)) for name in cohort.colours)
    if of > len(names):
        said += f" The {len(names)} of {of} structures with the lowest mean are shown."
    if cases > ROWS_EACH * MOST_MAPS:
        said += f" The {ROWS_EACH * MOST_MAPS} worst of {cases} cases are shown; the list below has all."
    return said


def _lowest_shown(cohort: ReportCohort, names: Sequence[str]) -> float:
    """Where the colours begin: a tenth below which few values but 0 lie, so that others can be told apart."""
    values = [value for name in names for value in cohort.dice_of(name) if value]
    return float(min(np.floor(np.percentile(values, 4) * 10) / 10, 0.9)) if values else 0.0


def _map(cases: Sequence[ReportCase], names: Sequence[str], low: float) -> bytes:
    values = _values(cases, names)
    wide = min(WIDTH_IN - NAME_IN - BAR_IN, WIDEST_CELL_IN * len(names))
    angled = wide / len(names) < 0.5 or any(len(name) > wide / len(names) / 0.062 for name in names)
    labels = [drawable(name, longest=26) for name in names]
    above = 0.12 + (0.052 * max(map(len, labels)) + 0.1 if angled else 0.16)
    high = ROW_IN * len(cases)
    height = above + high + 0.32
    with sheet(WIDTH_IN, height) as figure:
        axes = place_axes(figure, NAME_IN, 0.32, wide, high)
        colours = matplotlib.colormaps[COLOURS]
        scale = Normalize(low, 1.0)
        axes.pcolormesh(
            np.ma.masked_invalid(values), cmap=colours, norm=scale, edgecolors="white", linewidth=0.5
        )
        _mark(axes, values, scale, written=len(names) <= WRITTEN_COLUMNS)
        _names(axes, labels, [case.case_id for case in cases], angled=angled, size=_size(wide, len(names)))
        bar = place_axes(figure, NAME_IN + wide + 0.14, 0.32 + max(high - 1.6, 0), 0.11, min(high, 1.6))
        drawn = figure.colorbar(
            matplotlib.cm.ScalarMappable(scale, colours), cax=bar, extend="min" if low > 0 else "neither"
        )
        drawn.outline.set_visible(False)
        bar.yaxis.set_major_formatter(FuncFormatter(plain))
        bar.tick_params(labelsize=6.5, colors=FAINT, length=2, pad=1.5)
        return png(figure, DOTS_PER_INCH)


def _values(cases: Sequence[ReportCase], names: Sequence[str]) -> Numbers:
    """Dice of each case and structure, NaN where there is none, (cases, structures)."""
    out = np.full((len(cases), len(names)), np.nan)
    column = {name: n for n, name in enumerate(names)}
    for line, case in enumerate(cases):
        for row in case.rows:
            if row.name in column and row.dice.is_finite:
                out[line, column[row.name]] = row.dice.value
    return out


def _mark(axes: Axes, values: Numbers, scale: Normalize, *, written: bool) -> None:
    """Hatches where there is no value, crosses at 0, and the numbers where there is room."""
    absent = [Rectangle((column, line), 1, 1) for line, column in np.argwhere(np.isnan(values))]
    axes.add_collection(
        PatchCollection(absent, facecolor="#f2f4f6", edgecolor="#9aa3ad", hatch=HATCH, linewidth=0)
    )
    zeros = np.argwhere(values == 0) + 0.5
    axes.scatter(zeros[:, 1], zeros[:, 0], s=16, marker="x", color="white", linewidths=1.0)
    for line, column in np.argwhere(values > 0) if written else ():
        value = values[line, column]
        ink = "white" if scale(value) < 0.55 else INK
        at = (column + 0.5, line + 0.5)
        axes.text(*at, f"{value:.2f}", size=5.8, color=ink, ha="center", va="center_baseline")


def _size(wide: float, columns: int) -> float:
    """Size of a column's title that fits beside the next."""
    return min(7.0, max(4.2, wide / columns * 72 * 0.85))


def _names(axes: Axes, columns: Sequence[str], rows: Sequence[str], *, angled: bool, size: float) -> None:
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)) + 0.5)
    axes.set_xticklabels(columns, rotation=90 if angled else 0, size=size, color=INK)
    axes.set_yticks(np.arange(len(rows)) + 0.5)
    axes.set_yticklabels([drawable(name, longest=25) for name in rows], size=6.2, color=INK)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.tick_params(length=0, pad=2)
    for side in axes.spines.values():
        side.set_visible(False)
