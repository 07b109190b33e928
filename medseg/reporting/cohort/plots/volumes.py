"""Volumes of prediction and reference against each other, and Dice against size."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from medseg.core.errors import counted
from medseg.metrics.agreement import Agreement, agreement, spread_grows
from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import LEAST_N, ReportCohort, Volumes
from medseg.reporting.cohort.plots.panels import (
    MOST_PANELS,
    Look,
    Mask,
    Numbers,
    logarithmic,
    looks,
    padded,
    panels,
    points,
)
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import FAINT, INK

MANY_FOLD = 30.0
"""Volumes that differ by more than this factor are drawn on logarithmic scales."""
BAND = "#8c959f"

HOLLOW = " In hollow points, prediction or reference does not contain the structure and counts with 0 ml."
LINES = (
    f" With {LEAST_N} or more cases, the solid line is the bias and the dashed lines are the limits of "
    "agreement (bias ± 1.96 standard deviations), each in the band of its 95 % confidence interval."
)


def shown_structures(cohort: ReportCohort) -> tuple[str, ...]:
    """The structures that get a small plot: those in any case, the worst when they are many."""
    return cohort.worst_structures(MOST_PANELS)


def left_out(cohort: ReportCohort) -> str:
    """A sentence on the structures that are not drawn; empty when all are."""
    of = sum(bool(cohort.dice_of(name)) for name in cohort.colours)
    if of <= MOST_PANELS:
        return ""
    return (
        f" The {MOST_PANELS} of {of} structures with the lowest mean Dice are drawn, the lowest first; the "
        "tables list all."
    )


def bland_altman(cohort: ReportCohort) -> Picture | None:
    """Differences of the volumes in ml against their means, with bias and limits of agreement."""
    volumes = _volumes(cohort)
    if not volumes:
        return None
    known = looks(cohort)
    drawn = panels(
        list(volumes), known, across="Mean of prediction and reference, ml", up="Prediction − reference, ml"
    )
    with drawn as (figure, axes):
        for name, v in volumes.items():
            _differences(axes[name], v.means_ml, v.differences_ml, known[name], v.one_empty)
        data = png(figure)
    return Picture(
        "Difference of the volumes in ml (Bland–Altman)",
        data,
        f"Difference of predicted and reference volume against their mean, "
        f"for {counted(len(volumes), 'structure')}",
        f"Every point is a case; above 0 the prediction is larger.{_with_lines(volumes)}{_hollow(volumes)}"
        f"{left_out(cohort)}",
    )


def bland_altman_percent(cohort: ReportCohort) -> Picture | None:
    """Likewise in per cent, for the structures whose differences in ml grow with size; None without one."""
    volumes = {name: v for name, v in _volumes(cohort).items() if _grows(v)}
    if not volumes:
        return None
    known = looks(cohort)
    drawn = panels(
        list(volumes), known, across="Mean of prediction and reference, ml", up="Difference, % of the mean"
    )
    with drawn as (figure, axes):
        for name, v in volumes.items():
            _differences(axes[name], v.means_ml, v.percent, known[name], v.one_empty)
        data = png(figure)
    return Picture(
        "Difference of the volumes in per cent",
        data,
        "Difference in per cent of the mean volume against that mean, "
        f"for {counted(len(volumes), 'structure')}",
        "This plot shows the structures whose differences in ml scatter more in cases with a larger volume "
        "(Spearman’s rank correlation of the distance from the bias with the mean volume, one-sided p < "
        "0.05). For these, limits in ml are too wide for small volumes and too narrow for large ones."
        f"{_with_lines(volumes)}{_hollow(volumes)}",
    )


def volume_pairs(cohort: ReportCohort) -> Picture | None:
    """Predicted against reference volume, with the line of identity."""
    volumes = _volumes(cohort)
    if not volumes:
        return None
    known = looks(cohort)
    with panels(list(volumes), known, across="Reference, ml", up="Prediction, ml") as (figure, axes):
        logs = [_pairs(axes[name], v, known[name]) for name, v in volumes.items()]
        data = png(figure)
    scales = (
        f" Where volumes differ more than {MANY_FOLD:.0f}-fold, both scales are logarithmic, and 0 ml is "
        "drawn at the edge."
        if any(logs)
        else ""
    )
    return Picture(
        "Predicted against reference volume",
        data,
        f"Predicted against reference volume, for {counted(len(volumes), 'structure')}",
        f"Every point is a case; on the line both volumes are equal.{scales}{_hollow(volumes)}"
        f"{left_out(cohort)}",
    )


def dice_by_volume(cohort: ReportCohort) -> Picture | None:
    """Dice against the volume of the reference, on a logarithmic scale."""
    names = [n for n in shown_structures(cohort) if any(r.reference_ml for r in cohort.rows_of(n))]
    if not names:
        return None
    known = looks(cohort)
    extra = False
    across = "Reference, ml (logarithmic scale)"
    with panels(names, known, across=across, up="Dice") as (figure, axes):
        for name in names:
            extra |= _by_volume(axes[name], cohort, name, known[name])
        data = png(figure)
    said = (
        " Hollow points have no overlap: the structure is missed or lies elsewhere; those at the left "
        "edge are extra structures, which the reference does not contain."
        if extra
        else ""
    )
    return Picture(
        "Dice against volume",
        data,
        f"Dice against the volume of the reference, for {counted(len(names), 'structure')}",
        "Every point is a case. For the same error in mm, small structures have a lower Dice."
        f"{said}{left_out(cohort)}",
    )


def _volumes(cohort: ReportCohort) -> dict[str, Volumes]:
    found = {name: cohort.volumes_of(name) for name in shown_structures(cohort)}
    return {name: v for name, v in found.items() if v.reference_ml.size}


def _grows(volumes: Volumes) -> bool:
    """Whether the differences of the cases that both have scatter more in larger ones."""
    both = ~volumes.one_empty
    return spread_grows(volumes.means_ml[both], volumes.differences_ml[both])


def _with_lines(volumes: dict[str, Volumes]) -> str:
    return LINES if any(v.reference_ml.size >= LEAST_N for v in volumes.values()) else ""


def _hollow(volumes: dict[str, Volumes]) -> str:
    return HOLLOW if any(v.one_empty.any() for v in volumes.values()) else ""


def _differences(axes: Axes, means: Numbers, differences: Numbers, look: Look, one_empty: Mask) -> None:
    found = agreement(differences, least_n=LEAST_N)
    reach = [differences, np.zeros(1)]
    if found is not None and found.lower_interval and found.upper_interval:
        reach.append(np.array([found.lower_interval[0], found.upper_interval[1]]))
        _lines(axes, found)
    axes.axhline(0.0, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
    points(axes, means, differences, look, one_empty)
    axes.set_xlim(*padded(means))
    axes.set_ylim(*padded(np.concatenate(reach)))


def _lines(axes: Axes, found: Agreement) -> None:
    """Bias and limits over the bands of their intervals, with their numbers at the right."""
    if found.limits is None:
        return
    rows = (
        (found.bias, found.bias_interval, "-"),
        (found.limits[0], found.lower_interval, (0, (5, 3))),
        (found.limits[1], found.upper_interval, (0, (5, 3))),
    )
    for value, interval, style in rows:
        if interval is not None:
            axes.axhspan(*interval, color=BAND, alpha=0.2, linewidth=0, zorder=0.5)
        axes.axhline(value, color=INK, linewidth=0.9, linestyle=style, zorder=2)


def _pairs(axes: Axes, volumes: Volumes, look: Look) -> bool:
    """One plot of pairs; whether its scales are logarithmic."""
    x, y = volumes.reference_ml, volumes.predicted_ml
    every = np.concatenate([x, y])
    there = every[every > 0]
    is_log = float(there.max() / there.min()) > MANY_FOLD
    if is_log:
        ends = (float(there.min()) / 2, float(there.max()) * 1.5)
        x, y = np.maximum(x, ends[0]), np.maximum(y, ends[0])
        for which in ("x", "y"):
            logarithmic(axes, ends, which)
    else:
        ends = padded(every)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
    axes.plot(ends, ends, color=FAINT, linewidth=0.9, zorder=1)
    points(axes, x, y, look, volumes.one_empty)
    return is_log


def _by_volume(axes: Axes, cohort: ReportCohort, name: str, look: Look) -> bool:
    """One plot of Dice against size; whether a point of it is hollow."""
    rows = [row for row in cohort.rows_of(name) if row.dice.is_finite and row.reference_ml is not None]
    dice = np.array([row.dice.value for row in rows], np.float64)
    size = np.array([row.reference_ml for row in rows], np.float64)
    there = size[size > 0]
    ends = float(there.min()) / 1.15, float(there.max()) * 1.15
    logarithmic(axes, ends, "x")
    hollow = (size == 0) | (dice == 0)
    points(axes, np.where(size > 0, size, ends[0]), dice, look, hollow)
    low = float(dice.min())
    axes.set_ylim(max(-0.03, low - 0.12 * (1 - low) - 0.01), 1.0)
    return bool(hollow.any())
