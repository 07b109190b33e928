"""Sensitivity against false positives a scan, of objects that a network finds one by one."""

from __future__ import annotations

import numpy as np

from medseg.core.errors import counted
from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots.panels import MOST_PANELS, looks, panels, points
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.style import INK


def froc_curves(cohort: ReportCohort) -> Picture | None:
    """FROC, a plot a structure; None where no objects with scores were measured."""
    found = {one.structure: one.sensitivity for one in cohort.detections if one.sensitivity}
    names = list(found)[:MOST_PANELS]
    if not names:
        return None
    known = looks(cohort)
    across, up = "False positives a scan", "Sensitivity"
    with panels(names, known, across=across, up=up) as (figure, axes):
        for name in names:
            rates = np.array(list(found[name]), np.float64)
            values = [found[name][rate] for rate in found[name]]
            heights = np.array([one.value for one in values], np.float64)
            plot = axes[name]
            plot.set_xscale("log", base=2)
            ends = [(one.low, one.high) for one in values if one.low is not None and one.high is not None]
            if len(ends) == len(values):
                low, high = zip(*ends, strict=True)
                plot.fill_between(rates, low, high, color=known[name].colour, alpha=0.18, linewidth=0)
            plot.plot(rates, heights, color=INK, linewidth=0.9)
            points(plot, rates, heights, known[name])
            plot.set_xticks(rates, [_fraction(rate) for rate in rates])
            plot.minorticks_off()
            plot.set_ylim(0.0, 1.04)
            plot.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
        drawn = png(figure)
    return Picture(
        "Sensitivity against false positives",
        drawn,
        f"FROC curves of the objects of {counted(len(names), 'structure')}",
        "Each point is the share of the reference objects that are found when so many false positives are "
        "accepted in a scan, on average. The band is the 95 % confidence interval, from 10 cases on.",
    )


def _fraction(rate: float) -> str:
    """A rate as it is spoken of.

    >>> _fraction(0.125), _fraction(4.0)
    ('1/8', '4')
    """
    return f"{rate:g}" if rate >= 1 else f"1/{1 / rate:g}"
