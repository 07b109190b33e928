"""Overlap and volume: hand values, empty rules, identities."""

from __future__ import annotations

import math

import pytest

from medseg.metrics import overlap
from medseg.metrics.counts import Counts

HAND = Counts(tp=6, fp=2, fn=4, tn=88)


def test_hand_values() -> None:
    assert overlap.dice(HAND) == 12 / 18
    assert overlap.jaccard(HAND) == 6 / 12
    assert overlap.recall(HAND) == 6 / 10
    assert overlap.precision(HAND) == 6 / 8
    assert overlap.relative_volume_difference_percent(HAND) == pytest.approx(-20.0)


def test_volumes_are_in_millilitres_and_signed_prediction_minus_reference() -> None:
    values = overlap.overlap_values(HAND, voxel_volume_mm3=500.0)
    assert values["volume_diff_ml"].value == pytest.approx((8 - 10) * 0.5)
    assert values["volume_diff_ml"].unit == "ml"


@pytest.mark.parametrize("tp", [0, 1, 7])
@pytest.mark.parametrize("fp", [1, 3])
@pytest.mark.parametrize("fn", [0, 5])
def test_jaccard_is_dice_over_two_minus_dice(tp: int, fp: int, fn: int) -> None:
    counts = Counts(tp, fp, fn, 9)
    d = overlap.dice(counts)
    assert overlap.jaccard(counts) == pytest.approx(d / (2 - d), abs=1e-15)


def test_swapping_the_masks_swaps_recall_and_precision() -> None:
    swapped = Counts(HAND.tp, HAND.fn, HAND.fp, HAND.tn)
    assert overlap.dice(swapped) == overlap.dice(HAND)
    assert overlap.recall(swapped) == overlap.precision(HAND)


EMPTY = {
    "both_empty": (
        Counts(0, 0, 0, 5),
        dict.fromkeys(("dice", "jaccard", "recall", "precision", "rvd_percent")),
    ),
    "ref_empty": (
        Counts(0, 3, 0, 2),
        {"dice": 0.0, "jaccard": 0.0, "recall": None, "precision": 0.0, "rvd_percent": None},
    ),
    "pred_empty": (
        Counts(0, 0, 3, 2),
        {"dice": 0.0, "jaccard": 0.0, "recall": 0.0, "precision": None, "rvd_percent": -100.0},
    ),
}


@pytest.mark.parametrize("status", EMPTY)
def test_empty_rules(status: str) -> None:
    counts, expected = EMPTY[status]
    values = overlap.overlap_values(counts, 1000.0)
    assert {name: values[name].value for name in expected} == expected
    assert {v.status for v in values.values()} == {status}
    assert values["volume_diff_ml"].value == counts.fp - counts.fn


def test_undefined_is_nan_for_the_functions() -> None:
    assert math.isnan(overlap.dice(EMPTY["both_empty"][0]))


def test_large_counts_do_not_overflow() -> None:
    big = 2**62
    assert overlap.dice(Counts(big, 0, 0, 0)) == 1.0
