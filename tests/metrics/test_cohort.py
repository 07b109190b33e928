"""Cohort statistics: what is counted, what is averaged, how sure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medseg.core.volume import Grid
from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.cohort import bootstrap_interval, summarise
from medseg.metrics.counts import Counts
from medseg.metrics.value import Status, Value, not_evaluated

GRID = Grid((1, 1, 1), np.eye(4))


def case(metrics: dict[str, Value], name: str = "liver") -> CaseResult:
    row = StructureResult(name, 1, (), "none", "ok", Counts(1, 0, 0, 0), 1.0, 1.0, False, None, metrics)
    return CaseResult("a", (row,), GRID)


def dices(*values: tuple[float | None, Status]) -> list[CaseResult]:
    return [case({"dice": Value(v, "1", s)}) for v, s in values]


@pytest.mark.fault("reliability 52")
def test_undefined_values_are_counted_not_averaged() -> None:
    cases = dices((0.5, "ok"), (0.9, "ok"), (0.0, "pred_empty"), (0.0, "ref_empty"), (None, "both_empty"))
    (row,) = summarise(cases)
    assert (row.n, row.n_both_empty, row.n_missed, row.n_false_positive, row.n_inf) == (4, 1, 1, 1, 0)
    assert row.mean == pytest.approx(0.35)
    assert (row.median, row.min, row.max) == (0.25, 0.0, 0.9)
    assert (row.q1, row.q3) == (0.0, pytest.approx(0.6))


def test_infinite_distances_are_counted_beside_the_finite_ones() -> None:
    cases = [
        case({"hd95_mm": Value(v, "mm", s)})
        for v, s in ((2.0, "ok"), (4.0, "ok"), (math.inf, "pred_empty"), (None, "both_empty"))
    ]
    (row,) = summarise(cases)
    assert (row.n, row.n_inf, row.n_missed, row.n_both_empty) == (2, 1, 1, 1)
    assert (row.mean, row.max, row.unit) == (3.0, 4.0, "mm")


def test_no_value_gives_none_never_zero() -> None:
    (row,) = summarise(dices((None, "both_empty")))
    assert row.n == 0
    assert {row.mean, row.median, row.q1, row.q3, row.min, row.max, row.ci_low, row.ci_high} == {None}


def test_a_metric_that_no_case_evaluated_is_left_out() -> None:
    assert summarise([case({"nsd": not_evaluated("1")})]) == ()
    partly = [case({"nsd": not_evaluated("1")}), case({"nsd": Value(0.5, "1", "ok")})]
    assert summarise(partly)[0].n == 1


def test_a_structure_missing_from_a_case_is_not_invented_there() -> None:
    rows = summarise([case({"dice": Value(0.5, "1", "ok")}, "a"), case({"dice": Value(0.7, "1", "ok")}, "b")])
    assert [(r.structure, r.n) for r in rows] == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(("n", "has"), [(9, False), (10, True)])
def test_an_interval_needs_ten_cases(n: int, has: bool) -> None:
    (row,) = summarise(dices(*((0.1 * k, "ok") for k in range(n))))
    assert (row.ci_low is not None) is has


@pytest.mark.parametrize("n", [10, 40])
def test_the_interval_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).beta(20, 3, n)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    width = theirs[1] - theirs[0]
    np.testing.assert_allclose(bootstrap_interval(values), theirs, atol=0.05 * width)


def test_the_interval_is_the_same_every_time_and_follows_the_scale() -> None:
    values = np.random.default_rng(0).random(12)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    np.testing.assert_allclose(bootstrap_interval(10 * values + 1), (10 * low + 1, 10 * high + 1))
    assert bootstrap_interval(np.full(12, 0.3)) == (pytest.approx(0.3), pytest.approx(0.3))


def test_resampling_in_parts_is_resampling() -> None:
    from medseg.metrics import cohort

    draws = cohort.resampled(11, 1200, 7)
    assert draws.shape == (1200, 11)
    assert (draws.sum(axis=1) == 11).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(11), abs=0.1)
