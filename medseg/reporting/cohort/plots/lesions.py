"""Which lesions were found, by their size, and how many pieces of each case belong to none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from medseg.core.errors import counted
from medseg.metrics.lesions import LesionRow
from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots.panels import (
    MOST_PANELS,
    WIDTH_IN,
    Look,
    frame,
    looks,
    place_axes,
    points,
    sheet,
    spread,
)
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import FAINT, INK, drawable

EDGES_ML = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Between which sizes of lesions recall is stated."""
ROW_IN, GAP_IN, FOOT_IN, TOP_IN = 1.35, 0.72, 0.62, 0.42


def lesion_points(cohort: ReportCohort) -> Picture | None:
    """Recall by size and extra pieces by case, a row a structure; None when no lesions were looked for."""
    names = [name for name in cohort.colours if name in cohort.lesions_of][:MOST_PANELS]
    if not names:
        return None
    height = TOP_IN + len(names) * (ROW_IN + GAP_IN) - GAP_IN + FOOT_IN
    known = looks(cohort)
    with sheet(WIDTH_IN, height) as figure:
        for place, name in enumerate(names):
            bottom = height - TOP_IN - ROW_IN - place * (ROW_IN + GAP_IN)
            left = place_axes(figure, 0.62, bottom, 3.6, ROW_IN)
            right = place_axes(figure, 4.9, bottom, 2.3, ROW_IN)
            rows = [[r for r in case.lesions if r.structure == name] for case in cohort.cases]
            _recall(left, [row for case in rows for row in case], known[name])
            _extra(right, [sum(row.outcome == "extra" for row in case) for case in rows], known[name])
            left.set_title(drawable(name), size=8, color=INK, loc="left", parse_math=False)
            last = name == names[-1]
            left.set_xlabel("Volume of the lesion, ml" if last else "", size=8, color=FAINT)
            right.set_xlabel("Extra components in a case" if last else "", size=8, color=FAINT)
        drawn = png(figure)
    return Picture(
        "Lesions found, by size, and extra components",
        drawn,
        f"Proportion of lesions found by size, and extra components of every case, "
        f"for {counted(len(names), 'structure')}",
        "The left plot shows, over all cases, the proportion of lesions of each size that a component of the "
        "prediction touches; lesions that are too small to count are left out. The right plot shows the "
        "number of components in each case that touch no lesion.",
    )


def size_bins(rows: Sequence[LesionRow]) -> list[tuple[str, int, int]]:
    """Each size that occurs: its words, the lesions found and the lesions in all.

    >>> rows = [LesionRow("a", "found", 0.05), LesionRow("a", "missed", 0.05), LesionRow("a", "found", 0.1)]
    >>> size_bins(rows)
    [('< 0.1', 1, 2), ('0.1–0.3', 1, 1)]
    """
    there = [(r.outcome, r.reference_ml) for r in rows if r.outcome in ("found", "missed")]
    bins = [(outcome, int(np.searchsorted(EDGES_ML, ml, side="right"))) for outcome, ml in there if ml]
    found = Counter(place for outcome, place in bins if outcome == "found")
    total = Counter(place for _, place in bins)
    return [(_words(place), found[place], total[place]) for place in sorted(total)]


def _words(place: int) -> str:
    if place == 0:
        return f"< {EDGES_ML[0]:g}"
    if place == len(EDGES_ML):
        return f"≥ {EDGES_ML[-1]:g}"
    return f"{EDGES_ML[place - 1]:g}–{EDGES_ML[place]:g}"


def _recall(axes: Axes, rows: Sequence[LesionRow], look: Look) -> None:
    bins = size_bins(rows)
    frame(axes)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.set_ylabel("Recall", size=8, color=FAINT)
    axes.set_xlim(-0.5, max(len(bins), 1) - 0.5)
    axes.set_xticks(range(len(bins)), [words for words, _, _ in bins])
    axes.grid(visible=False, axis="x")
    if not bins:
        axes.text(
            0.5,
            0.5,
            "no lesion in any reference",
            size=7.5,
            color=FAINT,
            ha="center",
            transform=axes.transAxes,
        )
        return
    shares = np.array([found / total for _, found, total in bins])
    points(axes, np.arange(len(bins), dtype=np.float64), shares, look)
    for place, (share, (_, found, total)) in enumerate(zip(shares, bins, strict=True)):
        above = share < 0.8
        axes.annotate(
            f"{found} of {total}", (place, share), xytext=(0, 6 if above else -6), textcoords="offset points",
            size=7, color=INK, ha="center", va="bottom" if above else "top",
        )  # fmt: skip


def _extra(axes: Axes, counts: Sequence[int], look: Look) -> None:
    frame(axes)
    x = np.array(counts, np.float64)
    points(axes, x, 0.5 + 0.3 * spread(x.size), look)
    axes.set_xlim(-0.5, max([*counts, 4]) + 0.5)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
