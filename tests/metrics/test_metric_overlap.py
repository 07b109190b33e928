"""Overlap and volume: hand values, empty rules, identities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.core.volume import Grid
from medseg.metrics import overlap
from medseg.metrics.counts import Counts, joint_histogram
from medseg.metrics.table import overlap_values

HAND = Counts(tp=6, fp=2, fn=4, tn=88)


def grid_of(voxel_mm3: float) -> Grid:
    """A grid of such voxels."""
    return Grid((2, 2, 2), np.diag([voxel_mm3, 1.0, 1.0, 1.0]))


def test_hand_values() -> None:
    assert overlap.dice(HAND) == 12 / 18
    assert overlap.jaccard(HAND) == 6 / 12
    assert overlap.cosine(HAND) == 6 / math.sqrt(10 * 8)
    assert overlap.recall(HAND) == 6 / 10
    assert overlap.precision(HAND) == 6 / 8
    assert overlap.relative_volume_difference_percent(HAND) == pytest.approx(-20.0)
    assert overlap.volume_similarity(HAND) == pytest.approx(1 - 2 / 18)


def test_volumes_are_in_millilitres_and_signed_prediction_minus_reference() -> None:
    values = overlap_values(HAND, Grid((10, 10, 10), np.diag([5, 10, 10, 1])))
    assert values["volume_diff_ml"].value == pytest.approx((8 - 10) * 0.5)
    assert values["volume_diff_ml"].unit == "ml"


@pytest.mark.parametrize("tp", [0, 1, 7])
@pytest.mark.parametrize("fp", [1, 3])
@pytest.mark.parametrize("fn", [0, 5])
def test_jaccard_is_dice_over_two_minus_dice(tp: int, fp: int, fn: int) -> None:
    counts = Counts(tp, fp, fn, 9)
    d = overlap.dice(counts)
    assert overlap.jaccard(counts) == pytest.approx(d / (2 - d), abs=1e-15)


def test_the_cosine_is_the_geometric_mean_of_recall_and_precision_and_in_no_table() -> None:
    assert overlap.cosine(HAND) == pytest.approx(math.sqrt(overlap.recall(HAND) * overlap.precision(HAND)))
    assert math.isnan(overlap.cosine(Counts(0, 0, 0, 5)))
    assert overlap.cosine(Counts(0, 3, 0, 2)) == overlap.cosine(Counts(0, 0, 3, 2)) == 0
    assert overlap.cosine(Counts(3 * 10**9, 0, 0, 1)) == 1  # int64 would not hold the product
    assert "cosine" not in overlap_values(HAND, grid_of(1.0))


def test_swapping_the_masks_swaps_recall_and_precision() -> None:
    swapped = Counts(HAND.tp, HAND.fn, HAND.fp, HAND.tn)
    assert overlap.dice(swapped) == overlap.dice(HAND)
    assert overlap.recall(swapped) == overlap.precision(HAND)


EMPTY = {
    "both_empty": (
        Counts(0, 0, 0, 5),
        dict.fromkeys(("dice", "jaccard", "recall", "precision", "rvd_percent", "volume_similarity")),
    ),
    "ref_empty": (
        Counts(0, 3, 0, 2),
        {
            "dice": 0.0,
            "jaccard": 0.0,
            "recall": None,
            "precision": 0.0,
            "rvd_percent": None,
            "volume_similarity": 0.0,
        },
    ),
    "pred_empty": (
        Counts(0, 0, 3, 2),
        {
            "dice": 0.0,
            "jaccard": 0.0,
            "recall": 0.0,
            "precision": None,
            "rvd_percent": -100.0,
            "volume_similarity": 0.0,
        },
    ),
}


@pytest.mark.parametrize("status", EMPTY)
@pytest.mark.fault("reliability 52")
def test_empty_rules(status: str) -> None:
    counts, expected = EMPTY[status]
    values = overlap_values(counts, Grid((1, 1, 1), np.diag([10, 10, 10, 1])))
    assert {name: values[name].value for name in expected} == expected
    assert {v.status for v in values.values()} == {status}
    assert values["volume_diff_ml"].value == pytest.approx(counts.fp - counts.fn)


def test_undefined_is_nan_for_the_functions() -> None:
    assert math.isnan(overlap.dice(EMPTY["both_empty"][0]))


def test_large_counts_do_not_overflow() -> None:
    big = 2**62
    assert overlap.dice(Counts(big, 0, 0, 0)) == 1.0


def test_volume_similarity_compares_volumes_wherever_they_lie() -> None:
    apart, inside = Counts(0, 4, 4, 9), Counts(4, 0, 0, 9)
    assert overlap.volume_similarity(apart) == overlap.volume_similarity(inside) == 1.0
    p, r = HAND.predicted, HAND.reference
    assert overlap.volume_similarity(HAND) == pytest.approx(1 - abs(p - r) / (p + r))


def overall(reference: list[int], predicted: list[int], values: tuple[int, ...] = (1, 2)) -> list[float]:
    found = overlap.overall_values(joint_histogram(np.array(reference), np.array(predicted), values))
    assert list(found) == ["pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"]
    return [v.value for v in found.values()]


def test_overall_values_by_hand() -> None:
    """Of 4 background, 3 ones and 1 two, 3, 2 and 0 are right; the two is taken for a one."""
    reference = [0, 0, 0, 0, 1, 1, 1, 2]
    predicted = [0, 0, 0, 1, 1, 1, 0, 1]
    iou = (3 / 5, 2 / 5, 0 / 1)
    expected = [5 / 8, (3 / 4 + 2 / 3 + 0) / 3, sum(iou) / 3, (4 * iou[0] + 3 * iou[1]) / 8]
    assert overall(reference, predicted) == pytest.approx(expected)


def test_a_class_nobody_has_is_left_out_and_one_only_predicted_counts_as_wrong() -> None:
    assert overall([0, 1], [0, 1]) == [1.0] * 4
    accuracy, mean_accuracy, mean_iou, weighted = overall([0, 0, 1, 1], [0, 2, 1, 1])
    assert (accuracy, mean_accuracy) == (0.75, 0.75)
    assert mean_iou == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert weighted == pytest.approx((2 * 1 / 2 + 2 * 1) / 4)


@pytest.mark.parametrize(
    ("reference", "predicted", "status"),
    [([0, 0], [0, 0], "both_empty"), ([0, 1], [0, 0], "pred_empty"), ([0, 0], [1, 0], "ref_empty")],
)
def test_overall_values_say_which_map_is_empty(
    reference: list[int], predicted: list[int], status: str
) -> None:
    found = overlap.overall_values(joint_histogram(np.array(reference), np.array(predicted), (1,)))
    assert {v.status for v in found.values()} == {status}
    assert found["pixel_accuracy"].value == (1.0 if status == "both_empty" else 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_overall_values_are_those_of_the_masks_of_each_class(seed: int) -> None:
    """Class by class from masks, without a histogram."""
    reference, predicted = np.random.default_rng(seed).integers(0, 4, (2, 50))
    iou = [
        ((reference == c) & (predicted == c)).sum() / ((reference == c) | (predicted == c)).sum()
        for c in range(4)
    ]
    recall = [(predicted[reference == c] == c).mean() for c in range(4)]
    share = [(reference == c).mean() for c in range(4)]
    expected = [(reference == predicted).mean(), np.mean(recall), np.mean(iou), np.dot(share, iou)]
    assert overall(reference.tolist(), predicted.tolist(), (1, 2, 3)) == pytest.approx(expected)
