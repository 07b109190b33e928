"""Instance matching: worked by hand, by its definition in loops, by panoptica, and its empty rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import evaluate_case
from medseg.metrics.instances import UNITS, InstanceRule, instance_values, match_instances


def boxes(*spans: tuple[int, int]) -> np.ndarray:
    """A mask with pieces side by side along the first axis."""
    mask = np.zeros((40, 3, 3), np.uint8)
    for start, stop in spans:
        mask[start:stop] = 1
    return mask


def blobs(seed: int, share: float = 0.82) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((24, 22, 16)), 1.2)
    return (noise > np.quantile(noise, share)).astype(np.uint8)


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, and the same with holes and some more: pieces matched, missed, joined and extra."""
    reference = blobs(seed)
    predicted = (np.random.default_rng(seed).random(reference.shape) > 0.15) & np.roll(
        reference, seed % 2, axis=0
    ).astype(bool)
    predicted[:8] = reference[:8]
    return reference, predicted.astype(np.uint8) | blobs(seed + 50, 0.97)


def by_definition(reference: np.ndarray, predicted: np.ndarray, least: float) -> dict[str, float]:
    """IoU of every pair of pieces; above one half none can match twice."""
    (r, n_r), (p, n_p) = (ndimage.label(m, np.ones((3, 3, 3))) for m in (reference, predicted))
    iou = []
    for a in range(1, n_r + 1):
        for b in range(1, n_p + 1):
            one = ((r == a) & (p == b)).sum() / ((r == a) | (p == b)).sum()
            if one > least:
                iou.append(one)
    tp, fn, fp = len(iou), n_r - len(iou), n_p - len(iou)
    rq = tp / (tp + fp / 2 + fn / 2)
    return {"pq": sum(iou) / (tp + fp / 2 + fn / 2), "sq": sum(iou) / tp, "rq": rq}


def test_hand_values() -> None:
    """Pieces 4, 8 and 2 long against 4, 6 (inside the 8) and one elsewhere."""
    match = match_instances(boxes((1, 5), (8, 16), (20, 22)), boxes((1, 5), (9, 15), (30, 33)), 1)[0]
    assert (match.iou, match.missed, match.extra) == ((1.0, 0.75), 1, 1)
    values = instance_values(match)
    assert values["sq"].value == pytest.approx(0.875)
    assert values["rq"].value == pytest.approx(2 / 3)
    assert values["pq"].value == pytest.approx(1.75 / 3)
    assert {name: v.unit for name, v in values.items()} == UNITS


def test_an_iou_of_one_half_is_no_match_by_default() -> None:
    reference, predicted = boxes((0, 8)), boxes((0, 4))
    assert match_instances(reference, predicted, 1)[0].iou == ()
    assert match_instances(reference, predicted, 1, InstanceRule(least_iou=0.49))[0].iou == (0.5,)


def test_below_one_half_each_piece_is_matched_once_best_first() -> None:
    match = match_instances(boxes((0, 10)), boxes((0, 4), (5, 10)), 1, InstanceRule(least_iou=0.1))[0]
    assert (match.iou, match.missed, match.extra) == ((0.5,), 0, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_definition(seed: int) -> None:
    reference, predicted = pair(seed)
    found = match_instances(reference, predicted, 1)[0]
    expected = by_definition(reference, predicted, 0.5)
    for name, value in expected.items():
        assert instance_values(found)[name].value == pytest.approx(value, abs=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_panoptica_agrees(seed: int) -> None:
    panoptica = pytest.importorskip("panoptica")
    reference, predicted = pair(seed)
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.5, strict_threshold=True),
    )
    theirs = next(iter(evaluator.evaluate(predicted, reference).values()))
    match = match_instances(reference, predicted, 1)[0]
    assert match.iou
    assert (len(match.iou), match.extra, match.missed) == (theirs.tp, theirs.fp, theirs.fn)
    assert match.panoptic_quality == pytest.approx(theirs.pq, abs=1e-9)
    assert match.segmentation_quality == pytest.approx(theirs.sq, abs=1e-9)
    assert match.recognition_quality == pytest.approx(theirs.rq, abs=1e-9)


@pytest.mark.parametrize(
    ("reference", "predicted", "status", "expected"),
    [
        ((), (), "both_empty", (None, None, None)),
        (((1, 4),), (), "pred_empty", (0.0, None, 0.0)),
        ((), ((1, 4),), "ref_empty", (0.0, None, 0.0)),
        (((1, 4),), ((8, 9),), "ok", (0.0, None, 0.0)),
    ],
)
def test_empty_rules(reference, predicted, status, expected) -> None:
    values = instance_values(match_instances(boxes(*reference), boxes(*predicted), 1)[0])
    assert tuple(values[name].value for name in ("pq", "sq", "rq")) == expected
    assert {v.status for v in values.values()} == {status}
    assert values["instances_missed"].value == len(reference)
    assert values["instances_extra"].value == len(predicted)


def test_connectivity_decides_what_a_piece_is() -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 1] = 1
    pieces = [len(match_instances(mask, mask, 1, InstanceRule(connectivity=n))[0].iou) for n in (6, 18, 26)]
    assert pieces == [3, 2, 1]


def test_swapping_exchanges_missed_and_extra() -> None:
    reference, predicted = blobs(1), blobs(2)
    one, other = (match_instances(*pair, 1)[0] for pair in ((reference, predicted), (predicted, reference)))
    assert one.iou == other.iou
    assert (one.missed, one.extra) == (other.extra, other.missed)


def test_every_label_in_one_pass_is_each_alone() -> None:
    """Labels touch each other, and pieces of different labels must not join or match."""
    generator = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(generator.random((5, 20, 18, 12)), (0, 1.5, 1.5, 1.5))
    reference = noise.argmax(0).astype(np.uint8)
    predicted = np.roll(reference, 1, axis=1)
    together = match_instances(reference, predicted, 4)
    for label in range(1, 5):
        alone = match_instances(
            (reference == label).astype(np.uint8), (predicted == label).astype(np.uint8), 1
        )
        assert together[label - 1] == alone[0]


@pytest.mark.parametrize("regions", [False, True])
def test_a_case_has_them_where_they_are_asked_for(regions: bool) -> None:
    reference = blobs(3) + blobs(4)
    predicted = np.roll(reference, 1, axis=2)
    structures = from_labels({1: "one", 2: "two"})
    masks = [(m == 1).astype(np.uint8) for m in (reference, predicted)]
    if regions:
        structures = StructureSet((Structure(1, "one", members=(1, 2)), Structure(2, "two", members=(2,))))
        masks = [(m > 0).astype(np.uint8) for m in (reference, predicted)]
    maps = [LabelMap(m, Grid(m.shape, np.eye(4))) for m in (predicted, reference)]
    row = evaluate_case(*maps, structures, surface=False, instances=InstanceRule())["one"]
    expected = instance_values(match_instances(*masks, 1)[0])
    assert {name: row.metrics[name] for name in UNITS} == expected
    assert not UNITS.keys() & evaluate_case(*maps, structures, surface=False)["one"].metrics.keys()


@pytest.mark.parametrize("wrong", [{"connectivity": 8}, {"least_iou": 1.0}, {"least_iou": -0.1}])
def test_constants_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        InstanceRule(**wrong)


def test_shapes_must_agree() -> None:
    with pytest.raises(GridMismatchError, match=r"\(2, 2, 2\).*\(2, 2, 3\)"):
        match_instances(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 3), np.uint8), 1)


def test_given_numbers_tell_objects_apart_that_touch() -> None:
    """One component of three objects; prediction joins the first two and cuts the third short."""
    reference, predicted = boxes((0, 30)), boxes((0, 28))
    true, found = (np.zeros((40, 3, 3), np.uint16) for _ in range(2))
    true[:10], true[10:20], true[20:30] = 300, 7, 5
    found[:20], found[20:28] = 1, 2
    match = match_instances(reference, predicted, 1, numbers=(true, found))[0]
    assert (match.iou, match.missed, match.extra) == ((0.8,), 2, 1)
    assert match_instances(reference, predicted, 1)[0].iou == (pytest.approx(28 / 30),)


def test_voxels_without_a_number_belong_to_no_object() -> None:
    labels, numbers = boxes((0, 10)), np.zeros((40, 3, 3), np.uint8)
    numbers[:6], numbers[30:] = 1, 2
    match = match_instances(labels, labels, 1, numbers=(numbers, numbers))[0]
    assert (match.iou, match.missed, match.extra) == ((1.0,), 0, 0)


def test_a_number_in_two_labels_is_two_objects() -> None:
    labels = boxes((0, 10))
    labels[10:14] = 2
    numbers = np.ones((40, 3, 3), np.uint8)
    first, second = match_instances(labels, labels, 2, numbers=(numbers, numbers))
    assert (first.iou, second.iou) == ((1.0,), (1.0,))
