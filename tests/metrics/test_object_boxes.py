"""Boxes: hand values, MONAI as oracle, suppression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medseg import metrics
from medseg.core.errors import UsageError

CUBE, MOVED, FAR = [0, 0, 0, 10, 10, 10], [1, 1, 1, 11, 11, 11], [40, 40, 40, 44, 44, 44]


def random_boxes(axes: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-5, 12, (count, axes))
    return np.hstack([lower, lower + rng.uniform(0.5, 9, (count, axes))])


def test_iou_by_hand() -> None:
    found = metrics.box_iou([CUBE, FAR], [MOVED, CUBE, FAR])
    assert found.tolist() == [[729 / 1271, 1, 0], [0, 0, 1]]
    assert metrics.box_iou([[0, 3]], [[1, 5]]).tolist() == [[2 / 5]]


def test_boxes_that_only_touch_share_nothing_and_empty_ones_have_no_overlap() -> None:
    assert metrics.box_iou([CUBE], [[10, 0, 0, 20, 10, 10]]).tolist() == [[0]]
    assert metrics.box_iou([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]
    assert metrics.box_giou([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]
    assert metrics.box_iou([], [CUBE]).shape == (0, 1)
    assert metrics.box_iou(np.zeros((0, 6)), []).shape == (0, 0)


def test_giou_by_hand() -> None:
    around = 11**3
    assert metrics.box_giou([CUBE], [MOVED])[0, 0] == pytest.approx(729 / 1271 - (around - 1271) / around)
    assert metrics.box_giou([CUBE], [CUBE]).tolist() == [[1]]


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_monai_computes_the_same(axes: int, seed: int) -> None:
    from monai.data import box_utils

    a, b = random_boxes(axes, 30, seed), random_boxes(axes, 20, seed + 50)
    assert metrics.box_iou(a, b) == pytest.approx(np.asarray(box_utils.box_iou(a, b)), abs=1e-6)
    assert metrics.box_giou(a, b) == pytest.approx(np.asarray(box_utils.box_giou(a, b)), abs=1e-6)
    scores = np.round(np.random.default_rng(seed).random(30), 1)  # with equal ones
    for most_iou in (0.05, 0.2, 0.5):
        wanted = np.asarray(box_utils.non_max_suppression(a, scores, most_iou))
        assert metrics.non_max_suppression(a, scores, most_iou=most_iou).tolist() == wanted.tolist()
        assert (
            metrics.non_max_suppression(a, scores, most_iou=most_iou, most=4).tolist() == wanted[:4].tolist()
        )


def test_suppression_keeps_the_best_and_a_far_one() -> None:
    boxes = [MOVED, CUBE, FAR]
    assert metrics.non_max_suppression(boxes, [0.8, 0.9, 0.1]).tolist() == [1, 2]
    assert metrics.non_max_suppression(boxes, [-0.8, -0.9, -2]).tolist() == [0, 2], "logits too"
    assert metrics.non_max_suppression(boxes, [0.8, 0.9, 0.1], most_iou=0.6).tolist() == [1, 0, 2]
    assert metrics.non_max_suppression([], []).tolist() == []


def test_soft_nms_scales_the_scores() -> None:
    kept, scores = metrics.soft_nms([CUBE, MOVED, FAR], [0.9, 0.8, 0.5])
    assert kept.tolist() == [0, 2, 1]
    assert scores == pytest.approx([0.9, 0.5, 0.8 * (1 - 729 / 1271)])
    assert round(1 - 729 / 1271, 4) == 0.4264
    kept, scores = metrics.soft_nms([CUBE, MOVED], [0.9, 0.8], decay="gaussian", sigma=0.25)
    assert scores[1] == pytest.approx(0.8 * math.exp(-((729 / 1271) ** 2) / 0.25))
    assert metrics.soft_nms([CUBE, MOVED], [0.9, 0.8], most_iou=0.6)[1].tolist() == [0.9, 0.8]
    assert metrics.soft_nms([CUBE, CUBE], [0.9, 0.8])[0].tolist() == [0], "the score of a copy is 0"


def test_soft_nms_drops_what_falls_too_low_and_changes_no_scores_of_the_caller() -> None:
    given = np.array([0.9, 0.002, 0.0005])
    kept, _ = metrics.soft_nms([CUBE, MOVED, FAR], given, least_score=0.001)
    assert kept.tolist() == [0]
    assert given.tolist() == [0.9, 0.002, 0.0005]


@pytest.mark.parametrize(
    ("boxes", "fault"),
    [
        ([[0, 0, 1]], r"not \(1, 3\)"),
        ([0, 0, 1, 1], r"not \(4,\)"),
        ([[0, 0, 1, 1], [3, 0, 1, 1]], r"\[3\.0, 0\.0, 1\.0, 1\.0\] does not run"),
        ([[0, 0, 1, math.nan]], "does not run from lower to upper"),
    ],
)
def test_what_is_no_box_is_refused(boxes: Any, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        metrics.box_iou(boxes, boxes)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(UsageError, match="of 3 and of 2 axes"):
        metrics.box_iou([CUBE], [[0, 0, 1, 1]])
    with pytest.raises(UsageError, match=r"one finite number for each of 1, not \(2,\)"):
        metrics.non_max_suppression([CUBE], [0.1, 0.2])
    with pytest.raises(UsageError, match=r"scores must be 0 or more, not -0.1"):
        metrics.soft_nms([CUBE], [-0.1])
    with pytest.raises(UsageError, match="sigma must be above 0"):
        metrics.soft_nms([CUBE], [0.1], sigma=0)
    with pytest.raises(UsageError, match="choose from linear, gaussian"):
        metrics.soft_nms([CUBE], [0.1], decay="cubic")  # type: ignore[arg-type]


def test_boxes_of_several_models_become_their_weighted_mean() -> None:
    """By hand: weights of IoU times volume are 8 and 12 * 2/3 = 8; the third model found nothing."""
    boxes = [[0, 0, 2, 4], [0, 0, 3, 4], [9, 9, 10, 10]]
    placed, scores, members = metrics.weighted_box_clustering(boxes, [0.9, 0.6, 0.3], expected=3)
    shares = np.array([8 * 0.9, 8 * 0.6])
    assert placed[0].tolist() == pytest.approx([0, 0, 2 * shares[0] / 12 + 3 * shares[1] / 12, 4])
    assert scores.tolist() == pytest.approx([(0.9 + 0.6) / 3, 0.1])
    assert [own.tolist() for own in members] == [[0, 1], [2]]
    alone, as_it_is, _ = metrics.weighted_box_clustering(boxes[:1], [0.9])
    assert (alone.tolist(), as_it_is.tolist()) == ([boxes[0]], [0.9])
    assert len(metrics.weighted_box_clustering(np.zeros((0, 4)), [])[1]) == 0
    with pytest.raises(UsageError, match="scores must be 0 or more"):
        metrics.weighted_box_clustering(boxes[:1], [-1.0])


def test_boxes_that_overlap_too_little_stay_apart() -> None:
    placed, scores, _ = metrics.weighted_box_clustering(
        [[0, 0, 2, 4], [0, 0, 3, 4]], [0.9, 0.6], least_iou=0.7
    )
    assert placed.tolist() == [[0, 0, 2, 4], [0, 0, 3, 4]]
    assert scores.tolist() == [0.9, 0.6]
