"""Intervals from errors: ranks by hand, and the share of new cases they hold."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.lines import Line
from medseg.metrics.conformal import calibrated_line, conformal_interval, least_cases


@pytest.mark.parametrize(("coverage", "least"), [(0.5, 3), (0.8, 9), (0.9, 19), (0.95, 39)])
def test_too_few_cases_give_no_interval(coverage: float, least: int) -> None:
    errors = np.arange(float(least))
    assert least_cases(coverage) == least
    assert conformal_interval(errors[:-1], coverage) is None
    assert conformal_interval(errors, coverage) == (0.0, float(least - 1))


def test_ranks_by_hand() -> None:
    """n = 39, a = 0.05: ranks floor(2.0) = 2 and ceil(38.0) = 38."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 40.0))
    assert conformal_interval(errors, 0.9) == (2.0, 38.0)


@pytest.mark.parametrize("n", [19, 25, 42])
def test_share_of_new_cases_within(n: int) -> None:
    """Distribution-free: exponential errors, coverage between what was asked for and 2 / (n + 1) more."""
    generator = np.random.default_rng(n)
    inside = []
    for _ in range(4000):
        low, high = conformal_interval(generator.exponential(size=n), 0.9) or (np.nan, np.nan)
        inside.append(low <= generator.exponential() <= high)
    assert 0.9 - 0.015 < np.mean(inside) < 0.9 + 2 / (n + 1) + 0.015


def test_infinite_errors_stay_at_the_end() -> None:
    errors = np.array([-np.inf, *range(18)])
    assert conformal_interval(errors, 0.9) == (-np.inf, 17.0)


def test_line_of_exact_points() -> None:
    x = np.linspace(0.5, 0.9, 30)
    line = calibrated_line(x, 0.1 + 0.8 * x)
    assert line is not None
    assert line.at(0.7) == pytest.approx((0.66, 0.66, 0.66))


def test_an_estimate_that_runs_backwards_is_not_believed() -> None:
    x = np.linspace(0, 1, 25)
    line = calibrated_line(x, 1 - x)
    assert line is not None
    assert (line.slope, line.intercept) == (0.0, pytest.approx(0.5))


def test_no_spread_gives_the_mean() -> None:
    y = np.linspace(0.8, 0.9, 21)
    line = calibrated_line(np.full(21, 0.7), y)
    assert line is not None
    assert line.at(0.7)[0] == pytest.approx(0.85)


def test_line_against_polyfit_and_its_coverage() -> None:
    generator = np.random.default_rng(1)
    inside = []
    for _ in range(300):
        x = generator.uniform(0.6, 0.95, 41)
        y = 0.05 + 0.9 * x + generator.normal(0, 0.02, 41)
        line = calibrated_line(x[:-1], y[:-1])
        assert isinstance(line, Line)
        assert (line.slope, line.intercept) == pytest.approx(tuple(np.polyfit(x[:-1], y[:-1], 1)))
        _, low, high = line.at(x[-1])
        inside.append(low <= y[-1] <= high)
    assert 0.86 < np.mean(inside) < 0.96


def test_a_few_cases_give_no_line() -> None:
    assert calibrated_line(np.arange(18.0), np.arange(18.0)) is None
