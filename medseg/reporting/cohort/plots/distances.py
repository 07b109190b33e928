"""How many cases lie within which HD95."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from medseg.core.errors import counted
from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import LEAST_N, ReportCohort
from medseg.reporting.cohort.plots.panels import Look, Numbers, looks, panels, points
from medseg.reporting.cohort.plots.volumes import left_out, shown_structures
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import FAINT, INK


def distance_steps(cohort: ReportCohort) -> Picture | None:
    """The cumulative distribution of HD95, infinite ones missing at its top; None without a distance."""
    found = {name: np.array(cohort.distances_of(name)) for name in shown_structures(cohort)}
    found = {name: values for name, values in found.items() if np.isfinite(values).any()}
    if not found:
        return None
    known = looks(cohort)
    with panels(list(found), known, across="HD95, mm", up="Proportion of cases") as (figure, axes):
        for name, values in found.items():
            _steps(axes[name], values, known[name])
        data = png(figure)
    infinite = any(np.isinf(values).any() for values in found.values())
    said = (
        " A case in which the structure is missed or extra has no distance; these cases make up the share "
        "above the dotted line."
        if infinite
        else ""
    )
    return Picture(
        "Distribution of HD95",
        data,
        f"Cumulative distribution of HD95, for {counted(len(found), 'structure')}",
        f"Every point is a case; its height is the proportion of cases with this HD95 or a smaller one.{said}"
        f"{left_out(cohort)}",
    )


def _steps(axes: Axes, values: Numbers, look: Look) -> None:
    finite = np.sort(values[np.isfinite(values)])
    heights = np.arange(1, finite.size + 1) / values.size
    right = float(finite[-1]) * 1.06 or 1.0
    if values.size >= LEAST_N:
        axes.step([0.0, *finite, right], [0.0, *heights, heights[-1]], where="post", color=INK, linewidth=0.9)
    missing = values.size - finite.size
    if missing:
        axes.axhline(heights[-1], color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(
            0.97, 0.04, f"{missing} of {values.size} infinite", size=7, color=INK, ha="right",
            transform=axes.transAxes,
        )  # fmt: skip
    points(axes, finite, heights, look)
    axes.set_xlim(0.0, right)
    axes.set_ylim(0.0, 1.04)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
