"""Conformal prediction intervals from cases with a reference.

Split conformal prediction: the errors on cases a model was not trained on are sorted, and those of a new
case lie between two of them as often as was asked for, whatever their distribution, as long as the new case
is drawn like the old ones. It promises nothing of a scan that is unlike them.

References:
    Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World, section 2.2; Lei et al. 2018,
    "Distribution-free predictive inference for regression", doi:10.1080/01621459.2017.1307116 (section 2.2);
    Barber et al. 2021, "Predictive inference with the jackknife+", doi:10.1214/20-AOS1965 (section 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medseg.core.lines import Line

COVERAGE = 0.9
"""Share of new cases whose truth the interval holds."""

Numbers = NDArray[np.float64]


def least_cases(coverage: float = COVERAGE) -> int:
    """Cases below which there is no such interval: each end needs an error beyond it.

    >>> least_cases(0.9)
    19
    """
    return math.ceil(round(2 / (1 - coverage), 9)) - 1


def conformal_interval(errors: Numbers, coverage: float = COVERAGE) -> tuple[float, float] | None:
    """The two errors between which that of a new case lies with probability `coverage` or more.

    Args:
        errors: one a case, (n,); infinite ones are allowed.
        coverage: in (0, 1), shared equally between both ends.

    Returns:
        The errors of rank floor(a (n + 1)) and ceil((1 - a) (n + 1)), a = (1 - coverage) / 2; None where
        there are too few cases.

    >>> conformal_interval(np.arange(1.0, 20.0))
    (1.0, 19.0)
    """
    n = errors.size
    if n < least_cases(coverage):
        return None
    share = (1 - coverage) / 2
    low = math.floor(round(share * (n + 1), 9))
    high = math.ceil(round((1 - share) * (n + 1), 9))
    ranked = np.sort(errors)
    return float(ranked[low - 1]), float(ranked[high - 1])


def calibrated_line(x: Numbers, y: Numbers, coverage: float = COVERAGE) -> Line | None:
    """The least-squares line, with an interval from leave-one-out errors (the jackknife).

    Args:
        x: an estimate for each case, (n,).
        y: the truth.
        coverage: of the interval.

    Returns:
        None where there are too few cases for the interval.
    """
    if x.size < least_cases(coverage):
        return None
    every = np.ones(x.size, dtype=bool)
    errors = np.empty(x.size)
    for n in range(x.size):
        every[n] = False
        slope, intercept = _least_squares(x[every], y[every])
        errors[n] = y[n] - (intercept + slope * x[n])
        every[n] = True
    found = conformal_interval(errors, coverage)
    if found is None:
        return None
    return Line(*_least_squares(x, y), *found)


def _least_squares(x: Numbers, y: Numbers) -> tuple[float, float]:
    centred = x - x.mean()
    slope = max(0.0, float(centred @ y) / float(centred @ centred)) if np.ptp(x) > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
