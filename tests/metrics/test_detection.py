"""Average precision and FROC: hand values, MONAI as oracle, pooling, sizes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from medseg import metrics
from medseg.core.errors import GridMismatchError, UsageError
from medseg.metrics import CaseDetections

ONE, TWO, NOWHERE = [0, 0, 0, 2, 2, 2], [4, 4, 4, 6, 6, 6], [9, 9, 9, 11, 11, 11]
HAND = CaseDetections.of_boxes([ONE, NOWHERE, TWO], [0.9, 0.8, 0.7], [ONE, TWO])
EMPTY = CaseDetections.of_boxes([], [], [])


def random_case(seed: int, axes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes found with scores, near those of the reference."""
    rng = np.random.default_rng(seed)
    lower = rng.uniform(0, 30, (7, axes))
    reference = np.hstack([lower, lower + rng.uniform(2, 9, (7, axes))])
    found = np.vstack([reference + rng.normal(0, 0.7, reference.shape), reference[:3] + 0.4])
    return np.sort(found.reshape(-1, 2, axes), 1).reshape(len(found), -1), rng.random(len(found)), reference


def test_hit_false_hit_of_two() -> None:
    assert metrics.average_precision([HAND], least_overlap=0.5) == pytest.approx((1 + 2 / 3) / 2)
    # 51 of the 101 values of recall are 0.5 or less
    coco = metrics.average_precision([HAND], least_overlap=0.5, recall_points=101)
    assert coco == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert metrics.average_precision([HAND], least_overlap=0.5, recall_points=11) == pytest.approx(
        (6 + 5 * 2 / 3) / 11
    )


def test_the_envelope_never_falls_towards_lower_recall() -> None:
    late = CaseDetections.of_boxes([NOWHERE, ONE, TWO], [0.9, 0.8, 0.7], [ONE, TWO])
    assert metrics.average_precision([late], least_overlap=0.5) == pytest.approx(2 / 3)


def test_each_reference_is_hit_once_and_the_better_score_has_it() -> None:
    twice = CaseDetections.of_boxes([ONE, ONE], [0.4, 0.9], [ONE])
    assert metrics.average_precision([twice], least_overlap=0.5) == 1.0
    assert metrics.froc([twice], least_overlap=0.5, rates=(0.5, 1)) == (1.0, 1.0)
    other = CaseDetections.of_boxes([ONE, TWO], [0.4, 0.9], [ONE])
    assert metrics.average_precision([other], least_overlap=0.5) == 0.5


def test_an_overlap_of_exactly_the_threshold_is_a_hit_and_none_never_is() -> None:
    half = CaseDetections.of_boxes([[0, 0, 0, 2, 2, 1]], [0.5], [ONE])
    assert metrics.average_precision([half], least_overlap=0.5) == 1.0
    assert metrics.average_precision([half], least_overlap=0.51) == 0.0
    apart = CaseDetections.of_boxes([TWO], [0.5], [ONE])
    assert metrics.average_precision([apart], least_overlap=0.0) == 0.0


def test_cases_are_pooled_by_score() -> None:
    good = CaseDetections.of_boxes([ONE], [0.3], [ONE])
    bad = CaseDetections.of_boxes([NOWHERE], [0.6], [TWO])
    assert metrics.average_precision([good, bad], least_overlap=0.5) == 0.25
    assert metrics.average_precision([good, EMPTY], least_overlap=0.5) == 1.0


def test_without_a_reference_it_is_undefined_and_without_anything_found_0() -> None:
    nothing = CaseDetections.of_boxes([], [], [ONE])
    false = CaseDetections.of_boxes([ONE], [0.5], [])
    for points in (None, 101):
        assert math.isnan(metrics.average_precision([false], least_overlap=0.5, recall_points=points))
        assert metrics.average_precision([nothing], least_overlap=0.5, recall_points=points) == 0.0
    assert math.isnan(metrics.cpm([EMPTY], least_overlap=0.5))
    assert math.isnan(metrics.mean_average_precision([]))
    assert metrics.cpm([nothing], least_overlap=0.5) == 0.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axes", [2, 3])
def test_monai_computes_cocos_numbers(axes: int) -> None:
    from monai.apps.detection.metrics.coco import COCOMetric
    from monai.apps.detection.metrics.matching import matching_batch
    from monai.data.box_utils import box_iou

    cases = [random_case(seed, axes) for seed in range(4)]
    coco = COCOMetric(["a"], (0.1, 0.5), (0.1, 0.5, 0.05), max_detection=(5,))
    found, scores, reference = zip(*cases, strict=True)
    classes = [[np.zeros(len(boxes)) for boxes in side] for side in (found, reference)]
    matched = matching_batch(
        box_iou, coco.iou_thresholds, found, classes[0], scores, reference, classes[1], max_detections=5
    )
    wanted, _ = coco(matched)
    ours = [CaseDetections.of_boxes(*case) for case in cases]
    more: dict[str, Any] = {"recall_points": 101, "most": 5}
    for t in (0.1, 0.5):
        one = metrics.average_precision(ours, least_overlap=t, **more)
        assert one == pytest.approx(wanted[f"AP_IoU_{t:.2f}_MaxDet_5"], abs=1e-6)
    whole = metrics.mean_average_precision(ours, **more)
    assert whole == pytest.approx(wanted["mAP_IoU_0.10_0.50_0.05_MaxDet_5"], abs=1e-6)


def test_monai_computes_the_same_froc() -> None:
    from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

    rng = np.random.default_rng(3)
    hits, false = rng.random(9), rng.random(31)
    lines = [[3.0 * n, 3.0 * n + 2] for n in range(45)]
    case = CaseDetections.of_boxes([*lines[:9], *lines[12:43]], [*hits, *false], lines[:12])
    cases = [case, EMPTY, EMPTY, EMPTY]
    curve = compute_froc_curve_data(np.append(false, -1.0), hits, 12, 4)  # it leaves out the lowest score
    wanted = compute_froc_score(*curve, eval_thresholds=(1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8))
    assert metrics.cpm(cases, least_overlap=0.5) == pytest.approx(wanted)
    each = metrics.froc(cases, least_overlap=0.5)
    assert np.mean(each) == metrics.cpm(cases, least_overlap=0.5)
    assert all(a <= b for a, b in pairwise(each))


def test_equal_scores_are_one_threshold() -> None:
    case = CaseDetections.of_boxes([ONE, NOWHERE, TWO], [0.5, 0.5, 0.5], [ONE, TWO])
    assert metrics.froc([case], least_overlap=0.5, rates=(0.5, 1, 8)) == (0.5, 1.0, 1.0)


def test_by_size_others_neither_help_nor_harm() -> None:
    small, large = [0, 0, 0, 5, 5, 5], [20, 20, 20, 40, 40, 40]  # 0.125 and 8 ml
    odd_small, odd_large = [60, 60, 60, 64, 64, 64], [70, 70, 70, 90, 90, 90]
    found = [large, odd_large, odd_small, small]
    case = CaseDetections.of_boxes(found, [0.9, 0.8, 0.7, 0.6], [small, large], spacing_mm=(1, 1, 1))
    assert case.reference_ml.tolist() == [0.125, 8.0]
    assert metrics.average_precision([case], least_overlap=0.5, size_ml=(0, 1)) == 0.5  # odd_small, small
    assert metrics.average_precision([case], least_overlap=0.5, size_ml=(1, math.inf)) == 1.0
    assert math.isnan(metrics.average_precision([case], least_overlap=0.5, size_ml=(0.2, 1)))
    assert metrics.average_precision([case], least_overlap=0.5, size_ml=(0.125, 8)) == 1.0
    assert metrics.froc([case], least_overlap=0.5, size_ml=(0, 1), rates=(0.5, 1)) == (0.0, 1.0)


class TestMasks:
    def test_list_and_numbers_agree(self) -> None:
        rng = np.random.default_rng(1)
        found = rng.integers(0, 5, (6, 7, 5)) * (rng.random((6, 7, 5)) < 0.7)
        reference = np.where(rng.random(found.shape) < 0.4, 9, found) * 3
        as_masks = [found == n for n in range(1, 5)], [reference == n for n in np.unique(reference)[1:]]
        scores, spacing = [0.4, 0.6, 0.2, 0.9], (1, 2, 3)
        one = CaseDetections.of_masks(found, scores, reference, spacing_mm=spacing)
        two = CaseDetections.of_masks(as_masks[0], scores, as_masks[1], spacing_mm=spacing)
        for name in ("scores", "overlap", "found_ml", "reference_ml"):
            assert np.array_equal(getattr(one, name), getattr(two, name))
        for n, mask in enumerate(as_masks[0]):
            for m, truth in enumerate(as_masks[1]):
                assert one.overlap[n, m] == metrics.jaccard(mask, truth)
            assert one.found_ml[n] == pytest.approx(mask.sum() * 6 / 1000)

    def test_masks_may_overlap_and_be_empty(self) -> None:
        mask = np.zeros((4, 4), bool)
        mask[:2], none = True, np.zeros((4, 4), bool)
        case = CaseDetections.of_masks([mask, mask, none], [0.9, 0.8, 0.7], [mask])
        assert case.overlap.tolist() == [[1], [1], [0]]
        gap = CaseDetections.of_masks(np.array([[0, 2], [2, 0]]), [0.9, 0.8], [])
        assert gap.overlap.shape == (2, 0)
        assert CaseDetections.of_masks([], [], [mask]).overlap.shape == (0, 1)

    def test_what_does_not_belong_together_is_refused(self) -> None:
        whole = np.ones((4, 4), int)
        with pytest.raises(UsageError, match="the object 2 has no score: there are scores of 1"):
            CaseDetections.of_masks(whole * 2, [0.5], whole)
        with pytest.raises(GridMismatchError, match=r"\(4, 4\), and those of the reference \(4, 3\)"):
            CaseDetections.of_masks(whole, [0.5], whole[:, :3])
        with pytest.raises(UsageError, match="bool arrays of one shape"):
            CaseDetections.of_masks([whole * 0.5], [0.5], whole)
        with pytest.raises(UsageError, match="for each of 1, not"):
            CaseDetections.of_masks([whole > 0], [], whole)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match=r"least_overlap must be in \[0, 1\], not 50"):
        metrics.average_precision([HAND], least_overlap=50)
    with pytest.raises(UsageError, match="spacing_mm="):
        metrics.average_precision([HAND], least_overlap=0.5, size_ml=(0, 1))
    with pytest.raises(TypeError, match="did you mean 'least_overlap'"):
        metrics.froc([HAND], least_iou=0.5)  # type: ignore[call-arg]


def test_objects_are_best_taken_from_the_score_of_the_highest_f1() -> None:
    truth = [[0, 0, 2, 2], [4, 4, 6, 6], [8, 8, 9, 9]]
    found = [truth[0], [20, 20, 21, 21], truth[1], [30, 30, 31, 31], [40, 40, 41, 41]]
    case = metrics.CaseDetections.of_boxes(found, [0.9, 0.8, 0.7, 0.6, 0.1], truth)
    # F1 from 0.9: 2/4, from 0.8: 2/5, from 0.7: 4/6, from 0.6: 4/7, from 0.1: 4/8
    assert metrics.best_threshold([case], least_overlap=0.5) == pytest.approx(0.65)
    assert math.isnan(metrics.best_threshold([], least_overlap=0.5))
    alone = metrics.CaseDetections.of_boxes(found[1:2], [0.8], truth)
    assert math.isnan(metrics.best_threshold([alone], least_overlap=0.5))
