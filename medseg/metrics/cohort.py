"""Statistics over cases, one row per structure and metric: n, mean, spread, confidence interval.

Undefined values never enter a mean and never become 0: they are counted beside it. Distances to a
surface that is not there are infinite; they are counted too, and the statistics run over the
finite ones, so a distance is only read together with `n_inf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.case import CaseResult
from medseg.metrics.value import Value

BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 20_240_229
BOOTSTRAP_LEAST_N = 10
"""Below this many cases an interval says less than the points themselves."""

CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 500


@dataclass(frozen=True)
class CohortRow:
    """One metric of one structure over all cases.

    Attributes:
        structure: its name.
        metric: name of the metric.
        unit: of all statistics.
        n: cases the statistics run over: those with a finite value.
        n_both_empty: cases in which reference and prediction both lack the structure.
        n_missed: cases in which only the prediction lacks it (or is missing itself).
        n_false_positive: cases in which only the reference lacks it.
        n_inf: cases with an infinite value.
        mean: over the n; None, like all below, when n is 0.
        ci_low: lower end of the 95 % bootstrap interval of the mean; None below 10 cases.
        ci_high: its upper end.
        median: 50th percentile, linearly interpolated.
        q1: 25th percentile.
        q3: 75th percentile.
        min: least value.
        max: largest value.

    >>> CohortRow("liver", "dice", "1", 2, 0, 0, 0, 0, mean=0.75).mean
    0.75
    """

    structure: str
    metric: str
    unit: str
    n: int
    n_both_empty: int
    n_missed: int
    n_false_positive: int
    n_inf: int
    mean: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    min: float | None = None
    max: float | None = None


def summarise(cases: Sequence[CaseResult]) -> tuple[CohortRow, ...]:
    """One row a structure and metric, in the order met; metrics evaluated in no case are left out.

    >>> import numpy as np
    >>> from medseg import Grid, LabelMap
    >>> from medseg.core.structures import from_labels
    >>> from medseg.metrics import evaluate_case, summarise
    >>> a, b = np.zeros((2, 8, 8, 8), np.uint8)
    >>> a[2:6, 2:6, 2:6], b[2:6, 2:6, 3:7] = 1, 1
    >>> maps = [LabelMap(array, Grid((8, 8, 8), np.eye(4))) for array in (a, b)]
    >>> case = evaluate_case(*maps, from_labels({1: "liver"}))
    >>> row = summarise([case, case])[0]
    >>> row.structure, row.metric, row.n, row.mean
    ('liver', 'dice', 2, 0.75)
    """
    columns: dict[tuple[str, str], list[Value]] = {}
    for case in cases:
        for row in case.rows:
            for metric, value in row.metrics.items():
                columns.setdefault((row.name, metric), []).append(value)
    evaluated = {key: [v for v in values if v.status != "not_evaluated"] for key, values in columns.items()}
    return tuple(_row(*key, values) for key, values in evaluated.items() if values)


def bootstrap_interval(
    values: NDArray[np.float64], *, draws: int = BOOTSTRAP_DRAWS, seed: int = BOOTSTRAP_SEED
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over cases.

    Args:
        values: one a case, (n,).
        draws: number of resamples.
        seed: of the resampling; the same cases are drawn for every metric with the same n.

    References:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    centre = values.mean()
    means = centre + resampled(values.size, draws, seed) @ (values - centre) / values.size
    low, high = np.percentile(means, (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)))
    return float(low), float(high)


@lru_cache(maxsize=4)
def resampled(n: int, draws: int, seed: int) -> NDArray[np.float32]:
    """How often each of n cases is drawn in each resample, (draws, n)."""
    generator = np.random.default_rng(seed)
    out = np.empty((draws, n), dtype=np.float32)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        stop = min(start + _DRAWS_AT_ONCE, draws)
        out[start:stop] = generator.multinomial(n, np.full(n, 1 / n), size=stop - start)
    return out


def _row(structure: str, metric: str, values: Sequence[Value]) -> CohortRow:
    finite = np.array([v.value for v in values if v.is_finite], dtype=np.float64)
    statuses = [v.status for v in values]
    return CohortRow(
        structure=structure,
        metric=metric,
        unit=values[0].unit,
        n=finite.size,
        n_both_empty=statuses.count("both_empty"),
        n_missed=statuses.count("pred_empty"),
        n_false_positive=statuses.count("ref_empty"),
        n_inf=sum(v.value is not None and not v.is_finite for v in values),
        **_statistics(finite),
    )


def _statistics(finite: NDArray[np.float64]) -> dict[str, float]:
    if not finite.size:
        return {}
    low, q1, median, q3, high = (float(q) for q in np.percentile(finite, (0, 25, 50, 75, 100)))
    out = {"mean": float(finite.mean()), "median": median, "q1": q1, "q3": q3, "min": low, "max": high}
    if finite.size >= BOOTSTRAP_LEAST_N:
        out["ci_low"], out["ci_high"] = bootstrap_interval(finite)
    return out
