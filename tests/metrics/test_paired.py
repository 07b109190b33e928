"""Paired comparison of two sets of measured cases, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from missed import missed_case
from scipy import stats

from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.metrics.cohort import bootstrap_interval
from medseg.metrics.paired import OVERALL, PairedRow, compare_cases, diagonal_mm

GRID = Grid((12, 8, 6), np.diag([1.0, 2.0, 1.5, 1.0]))
ONE = from_labels({1: "core"})
TWO = from_labels({1: "core", 2: "rim"})


def bar(length: int, value: int = 1, *, also: int = 0) -> LabelMap:
    """A bar of `length` voxels of `value`, and one of `also` voxels of the value 2 beside it."""
    array = np.zeros(GRID.shape, np.uint8)
    array[:length, 2, 2] = value
    array[:also, 5, 4] = 2
    return LabelMap(array, GRID)


def measured(
    lengths: Sequence[int | None], reference: int = 8, structures: StructureSet = ONE
) -> list[CaseResult]:
    """A case for each length of the predicted bar; None is a missing prediction."""
    truth = bar(reference)
    return [
        missed_case(truth, structures, "missing", case_id=f"c{n}")
        if length is None
        else evaluate_case(bar(length), truth, structures, case_id=f"c{n}")
        for n, length in enumerate(lengths)
    ]


def only(rows: Sequence[PairedRow]) -> PairedRow:
    (row,) = rows
    return row


def test_differences_are_b_less_a_within_each_case() -> None:
    """Dice of a bar of n in one of 8 is 2n / (n + 8)."""
    row = only(compare_cases(measured([4, 8, 2]), measured([8, 4, 2])))
    gain = 1 - 8 / 12
    assert [case.difference for case in row.cases] == pytest.approx([gain, -gain, 0.0])
    assert (row.n, row.better_a, row.better_b) == (3, 1, 1)
    assert row.mean_a == pytest.approx((8 / 12 + 1 + 4 / 10) / 3) == row.mean_b
    assert row.difference == pytest.approx(0.0)


def test_cases_are_matched_by_their_ids() -> None:
    a, b = measured([4, 8]), measured([6, 7])
    assert compare_cases(a, b[::-1]) == compare_cases(a, b)
    with pytest.raises(UsageError, match="contain different cases"):
        compare_cases(a, b[:1])
    with pytest.raises(UsageError, match="'rvd' cannot be compared; choose from dice"):
        compare_cases(a, b, "rvd")


def test_below_six_cases_nothing_is_tested_and_below_ten_there_is_no_interval() -> None:
    for n, tested, interval in ((5, False, False), (6, True, False), (9, True, False), (10, True, True)):
        row = only(compare_cases(measured([4] * n), measured([5] * n)))
        assert (row.p is not None, row.ci_low is not None, bool(row.stability)) == (
            tested,
            interval,
            interval,
        )
        assert (row.p_holm is not None) == tested


def test_interval_and_p_are_those_of_the_differences() -> None:
    a, b = measured([3, 4, 5, 6, 7, 8, 2, 3, 4, 5, 6]), measured([4, 4, 6, 8, 6, 7, 4, 5, 5, 8, 8])
    row = only(compare_cases(a, b))
    differences = np.array([case.difference for case in row.cases])
    assert (row.ci_low, row.ci_high) == bootstrap_interval(differences)
    rounded = np.round(differences, 12)
    whole = stats.PermutationMethod(n_resamples=np.inf)
    assert row.p == pytest.approx(stats.wilcoxon(rounded[rounded != 0], method=whole).pvalue, abs=1e-12)
    assert row.p_holm == row.p


def test_a_missing_prediction_is_the_worst_there_is() -> None:
    a, b = measured([8, None]), measured([8, 8])
    dice = only(compare_cases(a, b))
    assert dice.cases[1].difference == 1.0
    hd95 = only(compare_cases(a, b, "hd95_mm"))
    assert hd95.cases[1].a == diagonal_mm(GRID) == math.hypot(12.0, 16.0, 9.0)
    assert hd95.cases[1].replaced
    assert (hd95.n_failed_a, hd95.n_failed_b, hd95.better_b, hd95.unit) == (1, 0, 1, "mm")


def test_where_the_reference_has_none_the_one_that_has_none_is_the_better() -> None:
    """Nothing is undefined away: A labels none and B two voxels of what is not there."""
    for metric, best, worst in (("dice", 1.0, 0.0), ("hd95_mm", 0.0, diagonal_mm(GRID))):
        a = [evaluate_case(bar(0), bar(0), ONE, case_id="x"), *measured([8])]
        b = [evaluate_case(bar(2), bar(0), ONE, case_id="x"), *measured([8])]
        row = only(compare_cases(a, b, metric))
        assert (row.cases[0].a, row.cases[0].b) == (best, worst)
        assert (row.n_failed_a, row.n_failed_b) == (0, 1)
        assert (row.better_a, row.better_b) == (1, 0)


def test_what_is_absent_everywhere_is_left_out_and_counted() -> None:
    a = [evaluate_case(bar(0), bar(0), ONE, case_id="x"), *measured([8])]
    row = only(compare_cases(a, a))
    assert (row.n, row.n_absent) == (1, 1)
    nothing = only(compare_cases(a[:1], a[:1]))
    assert (nothing.n, nothing.n_absent, nothing.difference, nothing.better) == (0, 1, None, "neither")


def test_a_metric_that_was_not_evaluated_has_no_row() -> None:
    assert compare_cases(measured([8]), measured([8]), "nsd") == ()


def test_the_better_one_is_named_whichever_way_the_metric_runs() -> None:
    worse, better = measured([3, 4, 5, 3, 4, 5, 3, 4, 5, 3]), measured([7] * 10)
    for metric in ("dice", "hd95_mm"):
        assert only(compare_cases(worse, better, metric)).better == "B"
        assert only(compare_cases(better, worse, metric)).better == "A"
        assert only(compare_cases(better, better, metric)).better == "neither"


def test_nobody_is_better_where_the_mean_and_the_ranks_disagree() -> None:
    """Eleven small gains and one failure: the test alone would call B better."""
    row = only(compare_cases(measured([6] * 12), measured([7] * 11 + [None])))
    assert row.p_holm is not None
    assert row.p_holm < 0.05
    assert row.rank_biserial is not None
    assert row.rank_biserial > 0
    assert row.ci_low is not None
    assert row.ci_high is not None
    assert row.ci_low < 0 < row.ci_high
    assert row.better == "neither"


def pairs_of_two(lengths: Sequence[int], rims: Sequence[int]) -> list[CaseResult]:
    truth = bar(8, also=6)
    return [
        evaluate_case(bar(length, also=rim), truth, TWO, case_id=f"c{n}")
        for n, (length, rim) in enumerate(zip(lengths, rims, strict=True))
    ]


def test_several_structures_have_a_mean_row_and_holm_counts_it() -> None:
    a, b = pairs_of_two([4] * 7, [3, 3, 4, 4, 5, 5, 6]), pairs_of_two([5, 5, 6, 6, 7, 7, 8], [4] * 7)
    core, rim, mean = compare_cases(a, b)
    assert (core.structure, rim.structure, mean.structure, mean.overall) == ("core", "rim", OVERALL, True)
    for n in range(7):
        both = (core.cases[n].difference + rim.cases[n].difference) / 2
        assert mean.cases[n].difference == pytest.approx(both)
    assert core.p == 2 / 2**7
    assert core.p_holm == pytest.approx(3 * core.p)
    assert len(compare_cases(a, b, overall=False)) == 2


def test_cases_that_differ_most_come_first_and_those_that_do_not_never() -> None:
    row = only(compare_cases(measured([8, 4, 6, 7]), measured([8, 8, 2, 7])))
    assert [case.case_id for case in row.most_different(5)] == ["c2", "c1"]
    assert [case.case_id for case in row.most_different(1)] == ["c2"]
