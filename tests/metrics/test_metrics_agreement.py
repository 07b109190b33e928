"""Bias and limits of agreement against hand calculation, printed tables, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medseg.metrics.agreement import agreement, limit_factors, spread_grows, tolerance_factor

Z = 1.959963984540054


def test_bias_and_limits_are_those_of_a_hand_calculation() -> None:
    # 1..10: mean 5.5, sum of squares about it 82.5, SD sqrt(82.5 / 9)
    found = agreement(np.arange(1.0, 11.0))
    assert found is not None
    assert found.limits is not None
    assert found.bias_interval is not None
    sd = math.sqrt(82.5 / 9)
    assert (found.n, found.bias) == (10, 5.5)
    assert found.sd == pytest.approx(sd, rel=1e-12)
    assert found.limits == pytest.approx((5.5 - Z * sd, 5.5 + Z * sd), rel=1e-12)
    # 2.262157 is the 97.5 % point of t with 9 degrees of freedom in every table
    assert found.bias_interval[1] == pytest.approx(5.5 + 2.262157 * sd / math.sqrt(10), rel=1e-6)


@pytest.mark.parametrize(
    ("n", "share", "factor"),
    [
        (10, 0.95, 2.911), (20, 0.95, 2.396), (30, 0.95, 2.220), (10, 0.90, 2.355), (20, 0.90, 1.926),
        (10, 0.99, 3.981), (20, 0.99, 3.295),
    ],
)  # fmt: skip
def test_tolerance_factors_are_those_of_the_printed_tables(n: int, share: float, factor: float) -> None:
    assert round(tolerance_factor(n, share, 0.95), 3) == factor


@pytest.mark.parametrize("n", [3, 10, 40, 300, 5000])
def test_the_factors_of_the_limits_are_noncentral_t_quantiles(n: int) -> None:
    expected = stats.nct.ppf([0.025, 0.975], n - 1, Z * math.sqrt(n)) / math.sqrt(n)
    assert limit_factors(n) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("n", [10, 25])
def test_the_intervals_of_the_limits_hold_the_true_limit_95_times_in_100(n: int) -> None:
    draws = 20_000
    sample = np.random.default_rng(3).normal(2.0, 3.0, (draws, n))
    bias, sd = sample.mean(axis=1), sample.std(axis=1, ddof=1)
    near, far = limit_factors(n)
    true = 2.0 + Z * 3.0
    held = np.mean((bias + near * sd <= true) & (true <= bias + far * sd))
    assert held == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / draws))
    # equally often missed on either side, which the approximate, symmetric interval is not
    assert np.mean(bias + far * sd < true) == pytest.approx(0.025, abs=0.005)


def test_the_approximate_interval_is_too_narrow_outside_which_is_why_it_is_not_used() -> None:
    n = 10
    approximate = Z + stats.t.ppf(0.975, n - 1) * math.sqrt(1 / n + Z**2 / (2 * (n - 1)))
    assert limit_factors(n)[1] > approximate + 0.3


def test_swapping_the_methods_mirrors_everything() -> None:
    differences = np.random.default_rng(0).gamma(2.0, size=15)
    one, other = agreement(differences), agreement(-differences)
    assert one is not None
    assert other is not None
    assert one.limits is not None
    assert other.limits is not None
    assert one.upper_interval is not None
    assert other.lower_interval is not None
    assert one.bias == -other.bias
    assert one.limits == pytest.approx((-other.limits[1], -other.limits[0]), rel=1e-12)
    assert one.upper_interval == pytest.approx(
        (-other.lower_interval[1], -other.lower_interval[0]), rel=1e-12
    )


def test_few_cases_have_a_bias_and_no_interval() -> None:
    few = agreement(np.array([1.0, 3.0]))
    assert few is not None
    assert (few.n, few.bias, few.sd, few.limits, few.upper_interval) == (2, 2.0, None, None, None)
    assert agreement(np.empty(0)) is None


def test_equal_measurements_have_limits_of_zero() -> None:
    same = agreement(np.zeros(12))
    assert same is not None
    assert same.limits == same.upper_interval == same.bias_interval == (0.0, 0.0)


def test_the_spread_grows_where_errors_are_relative_and_not_where_they_are_absolute() -> None:
    generator = np.random.default_rng(1)
    sizes = np.exp(generator.uniform(0, 3, 200))
    errors = generator.normal(size=200)
    assert spread_grows(sizes, 0.1 * sizes * errors)
    assert not spread_grows(sizes, errors)
    assert not spread_grows(sizes, errors / sizes)


def test_a_constant_spread_is_called_growing_one_time_in_twenty() -> None:
    generator = np.random.default_rng(2)
    called = [spread_grows(generator.normal(size=20), generator.normal(size=20)) for _ in range(1000)]
    assert np.mean(called) == pytest.approx(0.05, abs=0.025)


def test_the_rank_correlation_is_that_of_scipy() -> None:
    generator = np.random.default_rng(5)
    for _ in range(50):
        sizes, differences = generator.integers(0, 9, 12).astype(float), generator.normal(size=12)
        spread = np.abs(differences - differences.mean())
        p = stats.spearmanr(sizes, spread, alternative="greater").pvalue
        assert spread_grows(sizes, differences) == (p < 0.05)


def test_growth_of_few_cases_is_judged_where_it_is_asked_for() -> None:
    """Below three cases there is no correlation; from there on `least_n` alone decides."""
    sizes, differences = np.arange(4.0), np.array([1.0, 2.0, 3.5, -6.5])
    assert spread_grows(sizes, differences, least_n=4)
    assert not spread_grows(sizes, differences, least_n=5)
    assert not spread_grows(sizes[:2], differences[:2], least_n=0)


def test_sizes_that_are_all_alike_say_nothing_of_growth() -> None:
    assert not spread_grows(np.ones(20), np.arange(20.0))
    assert not spread_grows(np.arange(5.0), np.arange(5.0) ** 3)
    assert spread_grows(np.arange(1.0, 21.0), np.arange(1.0, 21.0) * (-1.0) ** np.arange(20))
