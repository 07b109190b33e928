"""Statistical comparison of two segmentations of the same cases against the same references.

Every number is a difference within a case, B less A, so that hard cases are hard for both. A value
that does not exist is set before the difference is taken, as a ranking must: a structure that was
missed, or a prediction that is missing, has the worst value (0; for distances the diagonal of the
image), one that is rightly absent the best (1; 0 mm). A structure absent in the reference and in
both segmentations is left out of the case.
Tests, correction and ranking are those of `metrics.ranking`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.core.errors import UsageError
from medseg.core.volume import Grid
from medseg.metrics.case import CaseResult
from medseg.metrics.cohort import BOOTSTRAP_LEAST_N, bootstrap_interval
from medseg.metrics.ranking import (
    ALPHA,
    LEAST_TESTED,
    TIE_DECIMALS,
    Leader,
    Numbers,
    Stability,
    holm,
    rank_biserial,
    ranking_stability,
    signed_rank_p,
)
from medseg.metrics.table import METRICS, SCALES
from medseg.metrics.value import Status, Value

OVERALL = "mean over structures"

FAILURES: tuple[Status, ...] = ("pred_empty", "ref_empty")


@dataclass(frozen=True)
class PairedCase:
    """One structure of one case, measured twice.

    Attributes:
        case_id: of the case.
        a: of the first segmentation, set where it does not exist.
        b: of the second.
        status_a: what was empty in the first; over all structures, of one in which it failed, if any.
        status_b: in the second.
        replaced: whether a or b was set.
    """

    case_id: str
    a: float
    b: float
    status_a: Status
    status_b: Status
    replaced: bool = False

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def failed_a(self) -> bool:
        """A missed the structure, labelled an absent structure, or is missing."""
        return self.status_a in FAILURES

    @property
    def failed_b(self) -> bool:
        return self.status_b in FAILURES


@dataclass(frozen=True)
class PairedRow:
    """One metric of one structure, compared over all cases.

    Attributes:
        structure: its name; `OVERALL` for the mean over the structures of each case.
        metric: name of the metric.
        unit: of all values.
        cases: the pairs, in the order given.
        n_absent: cases left out, with the structure in neither reference nor segmentations.
        mean_a: over the cases; None, like all below, without a case.
        mean_b: likewise.
        difference: mean of B less A.
        median_difference: median of B less A.
        ci_low: lower end of the 95 % bootstrap interval of the mean difference; None below 10 cases.
        ci_high: its upper end.
        p: of the signed-rank test, two-sided; None below 6 cases.
        p_holm: corrected for all rows that were tested.
        rank_biserial: sum of the ranks for B less those for A, as a share of all, in [-1, 1].
        stability: one a way of ranking; empty below 10 cases.
        overall: whether this is the mean over structures.
    """

    structure: str
    metric: str
    unit: str
    cases: tuple[PairedCase, ...]
    n_absent: int = 0
    mean_a: float | None = None
    mean_b: float | None = None
    difference: float | None = None
    median_difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    rank_biserial: float | None = None
    stability: tuple[Stability, ...] = ()
    overall: bool = False

    @property
    def n(self) -> int:
        return len(self.cases)

    @property
    def better_a(self) -> int:
        """Cases in which A is better."""
        return int(np.count_nonzero(_gains(self.cases, self.metric) < 0))

    @property
    def better_b(self) -> int:
        """Cases in which B is better."""
        return int(np.count_nonzero(_gains(self.cases, self.metric) > 0))

    @property
    def n_failed_a(self) -> int:
        """Cases in which A missed the structure, labelled an absent structure, or is missing."""
        return sum(case.failed_a for case in self.cases)

    @property
    def n_failed_b(self) -> int:
        return sum(case.failed_b for case in self.cases)

    @property
    def better(self) -> Leader:
        """Who is shown to be better: by the test after Holm, the mean, and its interval if there is one."""
        if self.p_holm is None or self.difference is None or self.p_holm >= ALPHA:
            return "neither"
        gain, ranks = SCALES[self.metric].sign * self.difference, self.rank_biserial or 0.0
        within = self.ci_low is not None and self.ci_high is not None and self.ci_low <= 0 <= self.ci_high
        if within or gain * ranks <= 0:
            return "neither"
        return "B" if gain > 0 else "A"

    def most_different(self, count: int) -> tuple[PairedCase, ...]:
        """Up to `count` cases that differ, the largest difference first."""
        differing = [case for case in self.cases if round(case.difference, TIE_DECIMALS)]
        return tuple(sorted(differing, key=lambda case: (-abs(case.difference), case.case_id))[:count])


def compare_cases(
    a: Sequence[CaseResult], b: Sequence[CaseResult], metric: str = "dice", *, overall: bool = True
) -> tuple[PairedRow, ...]:
    """Compare two segmentations of the same cases, structure by structure.

    Args:
        a: the first, measured against the references.
        b: the second, measured against the same references.
        metric: one of `table.SCALES`.
        overall: add a row for the mean over the structures of each case, where there are several.

    Returns:
        One row a structure in which the metric was evaluated, in the order met.

    Raises:
        UsageError: the metric cannot be compared, or the cases are not the same.
    """
    if metric not in SCALES:
        raise UsageError(f"{metric!r} cannot be compared; choose from {', '.join(SCALES)}")
    second = {case.case_id: case for case in b}
    if len(second) != len(b) or sorted(second) != sorted(case.case_id for case in a):
        raise UsageError("the two sets of results contain different cases")
    pairs = [(case, second[case.case_id]) for case in a]
    found = [_row(name, metric, pairs) for name in dict.fromkeys(row.name for case in a for row in case.rows)]
    rows = [row for row in found if row is not None]
    if overall and sum(row.n > 0 for row in rows) > 1:
        rows.append(_overall(rows))
    return holm_corrected(tuple(_with_statistics(row) for row in rows))


def holm_corrected(rows: Sequence[PairedRow]) -> tuple[PairedRow, ...]:
    """The rows with p corrected for as many tests as were made."""
    tested = [row.p for row in rows if row.p is not None]
    corrected = iter(holm(tested))
    return tuple(row if row.p is None else replace(row, p_holm=next(corrected)) for row in rows)


def _row(name: str, metric: str, pairs: Sequence[tuple[CaseResult, CaseResult]]) -> PairedRow | None:
    """The pairs of one structure; None where the metric was evaluated in no case."""
    cases, absent, evaluated = [], 0, False
    for first, second in pairs:
        a, b = (_value(case, name, metric) for case in (first, second))
        if a is None or b is None or "not_evaluated" in (a.status, b.status):
            continue
        evaluated = True
        if a.value is None and b.value is None:
            absent += 1
        else:
            cases.append(_paired(first.case_id, a, b, metric, first.grid))
    return PairedRow(name, metric, METRICS[metric].unit, tuple(cases), absent) if evaluated else None


def _value(case: CaseResult, name: str, metric: str) -> Value | None:
    return next((row.metrics.get(metric) for row in case.rows if row.name == name), None)


def _paired(case_id: str, a: Value, b: Value, metric: str, grid: Grid) -> PairedCase:
    scale = SCALES[metric]
    worst = diagonal_mm(grid) if scale.worst is None else scale.worst

    def number(value: Value) -> float:
        if value.value is not None:
            return value.value if math.isfinite(value.value) else worst
        return scale.best if value.status == "both_empty" else worst

    set_ = not (a.is_finite and b.is_finite)
    return PairedCase(case_id, number(a), number(b), a.status, b.status, set_)


def diagonal_mm(grid: Grid) -> float:
    """From one corner of the image to the other; no two surfaces in it are further apart.

    >>> diagonal_mm(Grid((3, 2, 6), np.diag([1.0, 2.0, 2.0, 1.0])))
    13.0
    """
    return math.hypot(*(n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)))


def _overall(rows: Sequence[PairedRow]) -> PairedRow:
    """The mean over the structures of each case that has any."""
    by_case: dict[str, list[PairedCase]] = {}
    for row in rows:
        for case in row.cases:
            by_case.setdefault(case.case_id, []).append(case)
    cases = (
        PairedCase(
            name,
            math.fsum(case.a for case in found) / len(found),
            math.fsum(case.b for case in found) / len(found),
            next((case.status_a for case in found if case.failed_a), "ok"),
            next((case.status_b for case in found if case.failed_b), "ok"),
            any(case.replaced for case in found),
        )
        for name, found in by_case.items()
    )
    return PairedRow(OVERALL, rows[0].metric, rows[0].unit, tuple(cases), overall=True)


def _with_statistics(row: PairedRow) -> PairedRow:
    if not row.cases:
        return row
    differences = np.array([case.difference for case in row.cases])
    row = replace(
        row,
        mean_a=float(np.mean([case.a for case in row.cases])),
        mean_b=float(np.mean([case.b for case in row.cases])),
        difference=float(differences.mean()),
        median_difference=float(np.median(differences)),
    )
    gains = _gains(row.cases, row.metric)
    if row.n >= LEAST_TESTED:
        row = replace(row, p=signed_rank_p(gains), rank_biserial=rank_biserial(gains))
    if row.n >= BOOTSTRAP_LEAST_N:
        low, high = bootstrap_interval(differences)
        row = replace(row, ci_low=low, ci_high=high, stability=ranking_stability(gains))
    return row


def _gains(cases: Sequence[PairedCase], metric: str) -> Numbers:
    """By how much B is better, rounded so that equal differences tie."""
    differences = np.array([case.difference for case in cases], dtype=np.float64)
    return np.asarray(SCALES[metric].sign * np.round(differences, TIE_DECIMALS))
