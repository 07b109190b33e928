"""Agreement of two measurements of the same cases: bias, limits of agreement, confidence intervals.

The differences are taken as normally distributed. The interval of a limit of agreement is exact under
that assumption; the common approximation by a symmetric interval is too narrow on the outside
for fewer than about 40 cases.

References:
    Bland and Altman 1999, Measuring agreement in method comparison studies,
    doi:10.1177/096228029900800204, sections 2 and 3; Carkeet 2015, Exact parametric confidence
    intervals for Bland-Altman limits of agreement, doi:10.1097/OPX.0000000000000513 (limits considered
    one by one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.cohort import BOOTSTRAP_LEAST_N, CONFIDENCE

Numbers = NDArray[np.float64]
Interval = tuple[float, float]

AGREEMENT = 0.95
"""Share of the differences that is expected between the limits."""

GROWTH_ALPHA = 0.05
"""One-sided level of the test whether the spread of the differences grows with size."""


@dataclass(frozen=True)
class Agreement:
    """Bias and limits of agreement of the differences of n cases.

    Attributes:
        n: cases.
        bias: mean of the differences.
        sd: their standard deviation, with n - 1; None, as all below, for fewer than 10 cases.
        limits: lower and upper limit of agreement, bias -+ 1.96 SD.
        bias_interval: 95 % confidence interval of the bias.
        lower_interval: that of the lower limit.
        upper_interval: that of the upper limit.
    """

    n: int
    bias: float
    sd: float | None = None
    limits: Interval | None = None
    bias_interval: Interval | None = None
    lower_interval: Interval | None = None
    upper_interval: Interval | None = None


def agreement(differences: Numbers, *, least_n: int = BOOTSTRAP_LEAST_N) -> Agreement | None:
    """Bias and limits of agreement; the bias alone below `least_n` cases, None without a case.

    Args:
        differences: one a case, (n,), finite.
        least_n: below this many cases an interval says less than the points themselves; at least 2.

    >>> found = agreement(np.arange(-5.0, 6.0))
    >>> found.bias, round(found.limits[1], 3)  # 1.96 * sqrt(11)
    (0.0, 6.5)
    """
    n = differences.size
    if not n:
        return None
    bias = float(differences.mean())
    if n < max(least_n, 2):
        return Agreement(n, bias)
    from scipy.special import stdtrit  # slow to import, as what it is asked for below

    sd = float(differences.std(ddof=1))
    near, far = limit_factors(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    return Agreement(
        n=n,
        bias=bias,
        sd=sd,
        limits=(bias - _normal_quantile() * sd, bias + _normal_quantile() * sd),
        bias_interval=(bias - half, bias + half),
        lower_interval=(bias - far * sd, bias - near * sd),
        upper_interval=(bias + near * sd, bias + far * sd),
    )


def limit_factors(n: int) -> Interval:
    """How many SD from the bias the 95 % confidence interval of a limit of agreement begins and ends.

    >>> [round(k, 3) for k in limit_factors(20)]
    [1.356, 3.014]
    """
    tail = (1 - CONFIDENCE) / 2
    return (
        tolerance_factor(n, (1 + AGREEMENT) / 2, tail),
        tolerance_factor(n, (1 + AGREEMENT) / 2, 1 - tail),
    )


def tolerance_factor(n: int, share: float, confidence: float) -> float:
    """k such that mean + k SD of n normal values lies above a `share` of all with this confidence.

    It is the `confidence` quantile of the noncentral t with n - 1 degrees of freedom and
    noncentrality z sqrt(n), over sqrt(n), with z the `share` quantile of the normal distribution.

    >>> round(tolerance_factor(10, 0.95, 0.95), 3)  # as in the tables of one-sided tolerance factors
    2.911
    """
    from scipy.special import nctdtrit, ndtri

    root = math.sqrt(n)
    return float(nctdtrit(n - 1, float(ndtri(share)) * root, confidence)) / root


def spread_grows(sizes: Numbers, differences: Numbers, *, least_n: int = BOOTSTRAP_LEAST_N) -> bool:
    """Whether the differences scatter more in larger cases, so that per cent say more than ml.

    The distances of the differences from their mean are correlated with the sizes by rank (Spearman);
    they grow when the correlation is positive with p < 0.05, one-sided, by its t approximation.

    Args:
        sizes: mean of both measurements of each case, (n,).
        differences: one a case, (n,).
        least_n: below this many cases nothing is said: False.
    """
    n = sizes.size
    if n < max(least_n, 3):
        return False
    ranks = [_ranks(values) for values in (sizes, np.abs(differences - differences.mean()))]
    if min(np.ptp(r) for r in ranks) == 0:
        return False
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    if rho <= 0 or rho >= 1:
        return rho >= 1
    from scipy.special import stdtr

    t = rho * math.sqrt((n - 2) / (1 - rho**2))
    return bool(stdtr(n - 2, -t) < GROWTH_ALPHA)


def _ranks(values: Numbers) -> Numbers:
    """Ranks from 1; equal values share the mean of theirs.

    >>> _ranks(np.array([5.0, 2.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + AGREEMENT) / 2))
