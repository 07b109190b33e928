"""A whole case: one grid, every structure, every status."""

from __future__ import annotations

import math

import numpy as np
import pytest
from missed import missed_case
from scipy import ndimage

from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import surface as sd
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.metrics.table import METRICS

AFFINE = np.array([[0, -1.5, 0, 9], [0, 0, 2, -4], [0.7, 0, 0, 1], [0, 0, 0, 1]])
SHAPE = (16, 14, 12)
STRUCTURES = from_labels({1: "left kidney", 2: "right kidney", 7: "liver"})
REGIONS = StructureSet((Structure(1, "both", members=(1, 2)), Structure(7, "all", members=(1, 2, 7))))


def distances(mode: str) -> list[str]:
    """The metrics of distances in a mode."""
    return [name for name, metric in METRICS.items() if mode in metric.by_mode]


def label_map(array: np.ndarray, affine: np.ndarray = AFFINE) -> LabelMap:
    return LabelMap(array, Grid(array.shape, affine))


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random label maps that resemble each other."""
    generator = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(generator.random((4, *SHAPE)), (0, 2, 2, 2))
    other = base + 0.02 * ndimage.gaussian_filter(generator.random((4, *SHAPE)), (0, 1, 1, 1))
    values = np.array([0, 1, 2, 7], dtype=np.uint8)
    return values[base.argmax(0)], values[other.argmax(0)]


def numbers(case: CaseResult) -> dict[str, list[float]]:
    return {r.name: [math.nan if v.value is None else v.value for v in r.metrics.values()] for r in case.rows}


def assert_same(a: CaseResult, b: CaseResult) -> None:
    assert [r.counts for r in a.rows] == [r.counts for r in b.rows]
    for name, values in numbers(a).items():
        np.testing.assert_allclose(values, numbers(b)[name], rtol=1e-12)


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_cropping_to_a_structure_changes_no_number(mode: str) -> None:
    reference, predicted = pair()
    case = evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, tolerance_mm=1.0, mode=mode)
    measure = sd.surfel_distances if mode == "surfel" else sd.voxel_distances
    for row in case.rows:
        d = measure(reference == row.label, predicted == row.label, case.grid.spacing_mm)
        percentile = sd.hausdorff_mm if mode == "surfel" else sd.voxel_hausdorff_mm
        assert row.metrics["hd95_mm"].value == percentile(d, 95)
        assert row.metrics["assd_mm"].value == pytest.approx(sd.average_mm(d), rel=1e-13)
        assert list(row.metrics)[7:] == distances(mode)


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_a_region_is_measured_as_the_union_of_its_members(mode: str) -> None:
    reference, predicted = pair()
    case = evaluate_case(label_map(predicted), label_map(reference), REGIONS, tolerance_mm=1.0, mode=mode)
    united = [label_map(np.isin(a, (1, 2)).astype(np.uint8)) for a in (predicted, reference)]
    alone = evaluate_case(*united, from_labels({1: "both"}), tolerance_mm=1.0, mode=mode)
    assert case["both"].counts == alone["both"].counts
    assert numbers(case)["both"] == numbers(alone)["both"]
    assert case["both"].members == (1, 2)


def test_volumes_are_counts_times_the_determinant() -> None:
    reference, predicted = pair()
    row = evaluate_case(label_map(predicted), label_map(reference), STRUCTURES)["liver"]
    assert row.volume_ref_ml == pytest.approx((reference == 7).sum() * 1.5 * 2 * 0.7 / 1000)
    assert row.metrics["volume_diff_ml"].value == pytest.approx(row.volume_pred_ml - row.volume_ref_ml)


def test_relabelling_both_maps_changes_nothing() -> None:
    reference, predicted = pair()
    table = np.zeros(8, np.int16)
    table[[1, 2, 7]] = [-300, 20_000, 4]
    renamed = from_labels({-300: "left kidney", 20_000: "right kidney", 4: "liver"})
    assert_same(
        evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, tolerance_mm=1.0),
        evaluate_case(label_map(table[predicted]), label_map(table[reference]), renamed, tolerance_mm=1.0),
    )


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_storing_the_axes_in_another_order_changes_nothing(order: tuple[int, ...]) -> None:
    reference, predicted = pair()
    affine = AFFINE[:, [*order, 3]]
    turned = [label_map(a.transpose(order), affine) for a in (predicted, reference)]
    assert_same(
        evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, tolerance_mm=1.0),
        evaluate_case(*turned, STRUCTURES, tolerance_mm=1.0),
    )


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_swapping_the_maps_changes_no_distance(mode: str) -> None:
    reference, predicted = (label_map(a) for a in pair())
    one = evaluate_case(predicted, reference, STRUCTURES, tolerance_mm=1.0, mode=mode)
    other = evaluate_case(reference, predicted, STRUCTURES, tolerance_mm=1.0, mode=mode)
    for a, b in zip(one.rows, other.rows, strict=True):
        for name in ("dice", "jaccard", "volume_similarity", *distances(mode)):
            assert a.metrics[name].value == pytest.approx(b.metrics[name].value, rel=1e-12)
        assert a.metrics["recall"].value == b.metrics["precision"].value


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_flipping_both_maps_changes_nothing(mode: str, axes: tuple[int, ...]) -> None:
    maps = pair()
    whole = (label_map(m) for m in maps[::-1])
    flipped = (label_map(np.flip(m, axes)) for m in maps[::-1])
    assert_same(
        evaluate_case(*whole, STRUCTURES, tolerance_mm=1.0, mode=mode),
        evaluate_case(*flipped, STRUCTURES, tolerance_mm=1.0, mode=mode),
    )


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_background_around_both_maps_changes_only_the_true_negatives(mode: str) -> None:
    reference, predicted = pair()
    more = [label_map(np.pad(m, 2)) for m in (predicted, reference)]
    a = evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, tolerance_mm=1.0, mode=mode)
    b = evaluate_case(*more, STRUCTURES, tolerance_mm=1.0, mode=mode)
    assert numbers(a) == numbers(b)
    assert [r.touches_fov for r in b.rows] == [False] * 3


def test_lengths_follow_the_spacing_and_shares_do_not() -> None:
    large = AFFINE.copy()
    large[:3, :3] *= 4
    near, far = (
        evaluate_case(*(label_map(m, affine) for m in pair()), STRUCTURES, tolerance_mm=tau)
        for affine, tau in ((AFFINE, 1.0), (large, 4.0))
    )
    for a, b in zip(near.rows, far.rows, strict=True):
        for name, value in a.metrics.items():
            factor = {"mm": 4, "ml": 64}.get(value.unit, 1)
            assert b.metrics[name].value == pytest.approx(factor * value.value, rel=1e-12)


def test_how_the_arrays_lie_in_memory_changes_nothing() -> None:
    maps = pair()
    turned = [label_map(np.asfortranarray(m).astype(np.int32)) for m in maps]
    a = evaluate_case(*(label_map(m) for m in maps), STRUCTURES, tolerance_mm=1.0, threads=2)
    assert numbers(a) == numbers(evaluate_case(*turned, STRUCTURES, tolerance_mm=1.0))


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_more_labels_than_a_word_has_bits(mode: str) -> None:
    """Every label of a map of 150 gets the numbers it gets alone."""
    generator = np.random.default_rng(5)
    reference = np.kron(generator.integers(0, 151, (5, 6, 5)), np.ones((3, 3, 3), int)).astype(np.uint8)
    predicted = np.roll(reference, 1, axis=0)
    maps = [label_map(m) for m in (predicted, reference)]
    many = from_labels({n: str(n) for n in range(1, 151)})
    together = evaluate_case(*maps, many, tolerance_mm=1.0, mode=mode)
    for value in (1, 63, 64, 65, 128, 150):
        alone = evaluate_case(*maps, from_labels({value: str(value)}), tolerance_mm=1.0, mode=mode)
        assert numbers(together)[str(value)] == pytest.approx(numbers(alone)[str(value)], nan_ok=True)


def test_overall_values_count_the_background_as_a_class() -> None:
    reference, predicted = pair()
    case = evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, surface=False)
    assert case.overall["pixel_accuracy"].value == pytest.approx((reference == predicted).mean())
    classes = [(reference == v, predicted == v) for v in (0, 1, 2, 7)]
    iou = [(r & p).sum() / (r | p).sum() for r, p in classes]
    assert case.overall["mean_iou"].value == pytest.approx(np.mean(iou))
    assert missed_case(label_map(reference), STRUCTURES, "none").overall["mean_accuracy"].value == 0.25


def test_a_perfect_prediction_is_perfect() -> None:
    reference, _ = pair()
    for row in evaluate_case(label_map(reference), label_map(reference), STRUCTURES, tolerance_mm=1.0).rows:
        assert [row.metrics[m].value for m in ("dice", "jaccard", "nsd", "hd100_mm", "rvd_percent")] == [
            1,
            1,
            1,
            0,
            0,
        ]


@pytest.mark.fault("reliability 52")
def test_each_absence_has_its_status() -> None:
    reference, predicted = np.zeros((2, *SHAPE), np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    predicted[8:11, 2:5, 2:5] = 2
    case = evaluate_case(label_map(predicted), label_map(reference), STRUCTURES, tolerance_mm=1.0)
    missed, extra, absent = case.rows
    assert (missed.status, extra.status, absent.status) == ("pred_empty", "ref_empty", "both_empty")
    for row in (missed, extra):
        assert row.metrics["dice"].value == 0 == row.metrics["nsd"].value
        assert row.metrics["hd95_mm"].value == row.metrics["assd_mm"].value == math.inf
    for name in ("dice", "jaccard", "recall", "precision", "rvd_percent", "hd95_mm", "assd_mm", "nsd"):
        assert absent.metrics[name].value is None
        assert absent.metrics[name].status == "both_empty"
    assert absent.metrics["volume_diff_ml"].value == 0


def test_a_structure_that_reaches_the_edge_is_marked() -> None:
    reference = np.zeros(SHAPE, np.uint8)
    reference[2:5, 2:5, 0:5] = 1
    reference[8:11, 2:5, 2:5] = 2
    case = evaluate_case(label_map(reference), label_map(reference), STRUCTURES)
    assert [row.touches_fov for row in case.rows] == [True, False, False]


def test_the_tolerance_may_differ_by_structure_and_has_no_default() -> None:
    reference, predicted = (label_map(a) for a in pair())
    none = evaluate_case(predicted, reference, STRUCTURES)
    assert {r.metrics["nsd"].status for r in none.rows} == {"not_evaluated"}
    some = evaluate_case(predicted, reference, STRUCTURES, tolerance_mm={"liver": 0.5})
    assert [r.tau_mm for r in some.rows] == [None, None, 0.5]
    assert some["liver"].metrics["nsd"].status == "ok"
    assert some["left kidney"].metrics["nsd"].value is None


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, {"spleen": 1.0}])
def test_an_impossible_tolerance_is_refused(bad: float | dict[str, float]) -> None:
    reference, predicted = (label_map(a) for a in pair())
    with pytest.raises(UsageError, match="tolerance"):
        evaluate_case(predicted, reference, STRUCTURES, tolerance_mm=bad)


def test_an_unknown_mode_is_refused() -> None:
    reference, predicted = (label_map(a) for a in pair())
    with pytest.raises(UsageError, match="'mesh'"):
        evaluate_case(predicted, reference, STRUCTURES, mode="mesh")


def test_a_structure_that_nobody_labelled_has_no_number_and_its_neighbours_have_theirs() -> None:
    array, predicted = pair()
    array[array == 2] = 0
    reference = LabelMap(array, Grid(array.shape, AFFINE), unlabelled=(2,))
    case = evaluate_case(label_map(predicted), reference, STRUCTURES, tolerance_mm=1.0)
    row = case["right kidney"]
    assert (row.status, row.tau_mm) == ("not_evaluated", None)
    assert {(v.value, v.status) for v in row.metrics.values()} == {(None, "not_evaluated")}
    assert case["left kidney"].metrics["dice"].status == "ok"


def test_surface_metrics_can_be_left_out() -> None:
    reference, predicted = (label_map(a) for a in pair())
    case = evaluate_case(predicted, reference, STRUCTURES, surface=False, tolerance_mm=1.0)
    for name in distances("surfel"):
        assert case["liver"].metrics[name].status == "not_evaluated"
    assert case["liver"].metrics["dice"].status == "ok"


@pytest.mark.fault("reliability 47")
def test_two_grids_are_refused() -> None:
    reference, predicted = pair()
    moved = AFFINE.copy()
    moved[0, 3] += 0.01
    with pytest.raises(GridMismatchError, match="case 1"):
        evaluate_case(label_map(predicted, moved), label_map(reference), STRUCTURES, case_id="case 1")


def test_labels_of_no_structure_and_skew_axes_are_mentioned() -> None:
    reference, predicted = pair()
    reference[0, 0, :3] = 99
    skew = AFFINE.copy()
    skew[0, 0] = 0.1
    case = evaluate_case(label_map(predicted, skew), label_map(reference, skew), STRUCTURES)
    assert any("99 (3 voxels)" in w and "reference" in w for w in case.warnings)
    assert any("right angles" in w for w in case.warnings)
    assert evaluate_case(label_map(predicted), label_map(pair()[0]), STRUCTURES).warnings == ()


def test_a_missing_prediction_is_scored_as_an_empty_one() -> None:
    reference, _ = pair()
    reference[reference == 7] = 0
    case = missed_case(label_map(reference), STRUCTURES, "the disk was full", tolerance_mm=1.0, case_id="a")
    assert case.failure == "the disk was full"
    assert [r.status for r in case.rows] == ["pred_empty", "pred_empty", "both_empty"]
    assert case["left kidney"].metrics["dice"].value == 0.0
    assert case["left kidney"].metrics["hd95_mm"].value == math.inf
