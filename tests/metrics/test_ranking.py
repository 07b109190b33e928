"""The signed-rank test, Holm's correction and the stability of rankings, against SciPy and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from medseg.metrics.cohort import bootstrap_interval
from medseg.metrics.ranking import holm, rank_biserial, ranking_stability, signed_rank_p


@pytest.mark.parametrize("n", [6, 7, 12, 25, 50])
def test_p_without_ties_is_scipys_exact_one(n: int) -> None:
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.3, 1.0):
        differences = rng.normal(shift, 1.0, n)
        expected = stats.wilcoxon(differences, method="exact").pvalue
        assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_p_with_ties_counts_every_choice_of_signs(seed: int) -> None:
    """Brute force over 2^n signs; zeros are left out."""
    rng = np.random.default_rng(seed)
    differences = rng.integers(-2, 4, 10).astype(float)
    kept = differences[differences != 0]
    ranks = stats.rankdata(np.abs(kept))
    observed = ranks[kept > 0].sum()
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=kept.size)])
    expected = min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))
    assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_p_of_many_differences_is_scipys_approximation(ties: bool) -> None:
    differences = np.random.default_rng(3).normal(0.2, 1.0, 80)
    if ties:
        differences = np.round(differences, 1)
        assert (differences == 0).any()
    expected = stats.wilcoxon(differences, zero_method="wilcox", method="asymptotic").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-12)


def test_differences_that_differ_by_rounding_alone_tie() -> None:
    clean = np.array([0.1, -0.1, 0.2, 0.2, 0.3, 0.4, 0.5])
    assert signed_rank_p(clean + 1e-16) == signed_rank_p(clean)
    assert signed_rank_p(np.full(9, 1e-15)) == 1.0


def test_five_cases_cannot_reach_five_percent_and_six_can() -> None:
    assert signed_rank_p(np.arange(1.0, 6.0)) == 2 / 2**5
    assert signed_rank_p(np.arange(1.0, 7.0)) == 2 / 2**6


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 are 0.02, 0.03, 0.06, 0.04, which may not fall."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
    assert holm([0.02]) == (0.02,)


def test_rank_biserial_is_one_when_all_agree_and_changes_sign_with_the_differences() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1.0, 20)
    assert rank_biserial(np.abs(differences)) == 1.0
    assert rank_biserial(-differences) == -rank_biserial(differences)
    assert rank_biserial(np.zeros(5)) == 0.0


def test_a_gain_in_every_case_leads_in_every_sample() -> None:
    for row in ranking_stability(np.linspace(0.01, 0.02, 12)):
        assert (row.leader, row.share_a, row.share_b) == ("B", 0.0, 1.0)


def test_stability_changes_sides_with_the_differences() -> None:
    gains = np.random.default_rng(5).normal(0.3, 1.0, 15)
    for there, back in zip(ranking_stability(gains), ranking_stability(-gains), strict=True):
        assert (there.share_a, there.share_b) == (back.share_b, back.share_a)
        assert {there.leader, back.leader} in ({"A", "B"}, {"neither"})


def test_one_large_loss_among_small_gains_divides_the_ways_of_ranking() -> None:
    """The mean says A, the ranks within cases say B, as 11 of 12 cases do."""
    gains = np.array([0.01] * 11 + [-1.0])
    mean, ranks, test = ranking_stability(gains)
    assert (mean.leader, ranks.leader) == ("A", "B")
    assert ranks.share_b > 0.99
    assert mean.share_a == pytest.approx(1 - (11 / 12) ** 12, abs=0.02)  # the loss is drawn at all
    assert test.share_a == 0.0


def test_samples_are_the_tests_of_samples_drawn_one_by_one() -> None:
    gains = np.round(np.random.default_rng(2).normal(0.4, 1.0, 14), 1)
    rng = np.random.default_rng(99)
    drawn = rng.integers(0, 14, (800, 14))
    shown = []
    for index in drawn:
        sample = gains[index]
        p = stats.wilcoxon(sample[sample != 0], method="asymptotic").pvalue
        shown.append(np.sign(rank_biserial(sample)) if p < 0.05 else 0)
    test = ranking_stability(gains)[2]
    assert test.share_b == pytest.approx(np.mean(np.array(shown) > 0), abs=0.06)
    assert test.share_a == pytest.approx(np.mean(np.array(shown) < 0), abs=0.02)


def test_no_difference_at_all_leads_nowhere() -> None:
    for row in ranking_stability(np.zeros(12)):
        assert (row.leader, row.share_a, row.share_b) == ("neither", 0.0, 0.0)
    assert bootstrap_interval(np.zeros(12)) == (0.0, 0.0)
