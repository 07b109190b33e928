"""PROMISE12: thirds of the gland, measures by hand and by the definition, scores, every orientation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import surface as sd
from medseg.metrics.case import evaluate_case
from medseg.metrics.promise12 import MEASURES, Anchors, RegionAnchors, points, promise12_values, thirds
from medseg.metrics.value import Value

SHAPE = (9, 8, 16)
AFFINE = np.diag([0.5, 0.7, 3.0, 1.0])
OBSERVER = RegionAnchors(dice=0.9, hd95_mm=4.0, assd_mm=2.0, abs_rvd_percent=10.0)
ANCHORS = Anchors(OBSERVER, OBSERVER, OBSERVER)
TURNS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def box(first: int, last: int, wide: int = 4) -> np.ndarray:
    """A block `wide` voxels square in the slices from first to last."""
    mask = np.zeros(SHAPE, bool)
    mask[2 : 2 + wide, 2 : 2 + wide, first : last + 1] = True
    return mask


def oblique(degrees: float) -> np.ndarray:
    """The grid tipped about the left-right axis, so that its slices lean forwards."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[1, 0, 0, 3], [0, c, -s, -4], [0, s, c, 5], [0, 0, 0, 1.0]])
    return turn @ AFFINE


def stored(mask: np.ndarray, affine: np.ndarray, axes: tuple[int, ...], flips: tuple[bool, ...]):
    """The same voxels at the same places in the world, in another order of axes and directions."""
    out, new = mask.transpose(axes), affine[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            out = np.flip(out, axis)
            new[:, 3] += new[:, axis] * (out.shape[axis] - 1)
            new[:, axis] *= -1
    return out, Grid(out.shape, new)


def numbers(values: dict[str, Value]) -> list[float]:
    return [math.nan if v.value is None else v.value for v in values.values()]


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((2, *SHAPE)), (0, 1.5, 1.5, 2))
    return noise[0] > np.quantile(noise[0], 0.7), 0.7 * noise[0] + 0.3 * noise[1] > np.quantile(noise[0], 0.7)


# Thirds


@pytest.mark.parametrize(
    ("slices", "expected"),
    [(14, (5, 4, 5)), (12, (4, 4, 4)), (13, (4, 5, 4)), (15, (5, 5, 5)), (3, (1, 1, 1)), (2, (1, 0, 1))],
)
def test_fourteen_slices_are_five_four_five(slices: int, expected: tuple[int, int, int]) -> None:
    reference = box(1, slices)
    cuts = thirds(reference, Grid(SHAPE, AFFINE))
    sizes = [int((reference & cuts[region]).sum()) // 16 for region in ("base", "apex")]
    assert (sizes[0], slices - sum(sizes), sizes[1]) == expected


def test_base_is_cranial_and_both_ends_reach_the_edge_of_the_image() -> None:
    cuts = thirds(box(4, 9), Grid(SHAPE, AFFINE))
    assert np.flatnonzero(cuts["base"]).tolist() == list(range(8, 16))
    assert np.flatnonzero(cuts["apex"]).tolist() == list(range(6))
    head_first = thirds(box(4, 9), Grid(SHAPE, np.diag([1, 1, -3.0, 1])))
    np.testing.assert_array_equal(head_first["apex"], cuts["base"])
    np.testing.assert_array_equal(head_first["base"], cuts["apex"])


def test_slices_are_those_of_the_axis_nearest_to_superior() -> None:
    reference = np.zeros((12, 5, 6), bool)
    reference[3:9, 1:4, 1:4] = True
    lying = np.array([[0, 0, 1, 0], [0, 1, 0.5, 0], [-3, 0.2, 0, 0], [0, 0, 0, 1]])
    cuts = thirds(reference, Grid(reference.shape, lying))
    assert cuts["base"].shape == (12, 1, 1)
    assert np.flatnonzero(cuts["base"]).tolist() == list(range(5))


def test_an_empty_slice_inside_the_gland_counts_as_one_of_its_slices() -> None:
    reference = box(2, 13)
    reference[..., 6] = False
    whole = thirds(box(2, 13), Grid(SHAPE, AFFINE))
    for region, cut in thirds(reference, Grid(SHAPE, AFFINE)).items():
        np.testing.assert_array_equal(cut, whole[region])


# Measures


def test_measures_by_hand() -> None:
    """P is R and one more column of 4 voxels in each slice of the base: 4 of its 6 slices' 16 voxels."""
    reference = box(4, 9)
    predicted = reference.copy()
    predicted[6, 2:6, 8:10] = True
    found = promise12_values(reference, predicted, Grid(SHAPE, AFFINE))
    assert found["dice"].value == pytest.approx(2 * 96 / (96 + 104))
    assert found["abs_rvd_percent"].value == pytest.approx(100 * 8 / 96)
    assert found["base_dice"].value == pytest.approx(2 * 32 / (32 + 40))
    assert found["base_abs_rvd_percent"].value == pytest.approx(25.0)
    # In two slices all voxels are border; only the 8 new ones are away from R, by one voxel of 0.5 mm.
    assert found["base_assd_mm"].value == pytest.approx(8 * 0.5 / (32 + 40))
    assert found["base_hd95_mm"].value == pytest.approx(0.5)
    apex = [found[f"apex_{name}"].value for name in MEASURES]
    assert apex == [1.0, 0.0, 0.0, 0.0]
    assert {v.status for v in found.values()} == {"ok"}


def test_the_volume_difference_has_no_sign() -> None:
    small, large = box(4, 9), box(4, 9, wide=5)
    grid = Grid(SHAPE, AFFINE)
    assert promise12_values(small, large, grid)["abs_rvd_percent"].value == pytest.approx(56.25)
    assert promise12_values(large, small, grid)["abs_rvd_percent"].value == pytest.approx(36.0)


@pytest.mark.parametrize("seed", range(4))
def test_every_part_is_measured_as_a_structure_of_its_own(seed: int) -> None:
    reference, predicted = blobs(seed)
    grid = Grid(SHAPE, AFFINE)
    found = promise12_values(reference, predicted, grid)
    cuts = {"": np.ones((1, 1, 1), bool)} | {f"{k}_": v for k, v in thirds(reference, grid).items()}
    for start, cut in cuts.items():
        maps = [LabelMap((m & cut).astype(np.uint8), grid) for m in (predicted, reference)]
        row = evaluate_case(*maps, from_labels({1: "gland"}), mode="voxel").rows[0]
        for name in ("dice", "hd95_mm", "assd_mm"):
            assert found[start + name] == row.metrics[name]
        assert found[f"{start}abs_rvd_percent"].value == abs(row.metrics["rvd_percent"].value)


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_the_definition(seed: int) -> None:
    reference, predicted = blobs(seed)
    grid = Grid(SHAPE, AFFINE)
    apex = np.zeros(SHAPE, bool)
    occupied = [k for k in range(SHAPE[2]) if reference[..., k].any()]
    apex[..., : occupied[0] + round(len(range(occupied[0], occupied[-1] + 1)) / 3)] = True
    points_mm = [np.argwhere(_naive_border(mask & apex)) * grid.spacing_mm for mask in (reference, predicted)]
    gaps = np.linalg.norm(points_mm[0][:, None] - points_mm[1][None], axis=2)
    there, back = gaps.min(1), gaps.min(0)
    found = promise12_values(reference, predicted, grid)
    assert found["apex_assd_mm"].value == pytest.approx(np.mean([*there, *back]))
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found["apex_hd95_mm"].value == pytest.approx(expected)


def _naive_border(mask: np.ndarray) -> np.ndarray:
    padded, out = np.pad(mask, 1), np.zeros_like(mask)
    for i, j, k in np.argwhere(mask):
        a, b, c = i + 1, j + 1, k + 1
        beside = (padded[a - 1, b, c], padded[a + 1, b, c], padded[a, b - 1, c], padded[a, b + 1, c])
        out[i, j, k] = not all((*beside, padded[a, b, c - 1], padded[a, b, c + 1]))
    return out


@pytest.mark.parametrize("degrees", [0.0, 25.0, 45.0])
def test_all_48_ways_to_store_a_case_measure_the_same(degrees: float) -> None:
    affine = oblique(degrees)
    cases = [blobs(5), (box(4, 6), box(5, 7)), (box(4, 4), box(4, 4, wide=5))]
    for reference, predicted in cases:
        expected = numbers(promise12_values(reference, predicted, Grid(SHAPE, affine), anchors=ANCHORS))
        for axes, flips in TURNS:
            (r, grid), (p, _) = (stored(mask, affine, axes, flips) for mask in (reference, predicted))
            found = promise12_values(r, p, grid, anchors=ANCHORS)
            np.testing.assert_allclose(numbers(found), expected, rtol=1e-9, atol=1e-9)


def test_one_slice_of_a_volume_is_a_surface_all_over_however_it_is_stored() -> None:
    """The gland of one slice is cut out of a volume, and not taken for a 2D image."""
    row = [
        evaluate_case(
            *(
                LabelMap(np.moveaxis(m.astype(np.uint8), 2, axis), grid)
                for m in (box(4, 4, wide=5), box(4, 4))
            ),
            from_labels({1: "gland"}),
            mode=mode,
        ).rows[0]
        for mode in ("voxel", "surfel")
        for axis in range(3)
        for grid in [Grid(np.moveaxis(np.empty(SHAPE), 2, axis).shape, np.eye(4))]
    ]
    voxel, surfel = ([r.metrics["assd_mm"].value for r in part] for part in (row[:3], row[3:]))
    assert voxel == pytest.approx([(8 + math.sqrt(2)) / 41] * 3)
    assert surfel == pytest.approx([surfel[0]] * 3)


# Empty masks


def test_nothing_in_either_is_undefined_and_base_and_apex_do_not_exist() -> None:
    nothing = np.zeros(SHAPE, bool)
    found = promise12_values(nothing, nothing, Grid(SHAPE, AFFINE), anchors=ANCHORS)
    assert {v.value for v in found.values()} == {None}
    assert found["dice"].status == found["score"].status == "both_empty"
    assert found["base_dice"].status == found["apex_hd95_score"].status == "not_evaluated"


def test_a_missed_gland_fails_the_case() -> None:
    """Its volume is 100 % off, which against an observer who is off by more would earn points."""
    generous = RegionAnchors(dice=0.1, hd95_mm=4.0, assd_mm=2.0, abs_rvd_percent=200.0)
    anchors = Anchors(generous, generous, generous)
    found = promise12_values(box(4, 9), np.zeros(SHAPE, bool), Grid(SHAPE, AFFINE), anchors=anchors)
    assert (found["dice"].value, found["abs_rvd_percent"].value) == (0.0, 100.0)
    assert found["hd95_mm"].value == found["base_assd_mm"].value == math.inf
    assert {v.value for name, v in found.items() if name.endswith("score")} == {0.0}
    assert found["score"].status == "pred_empty"


def test_a_gland_that_is_not_there_has_no_score() -> None:
    found = promise12_values(np.zeros(SHAPE, bool), box(4, 9), Grid(SHAPE, AFFINE), anchors=ANCHORS)
    assert (found["dice"].value, found["hd95_mm"].value) == (0.0, math.inf)
    assert found["abs_rvd_percent"].value is None
    assert found["score"] == Value(None, "points", "ref_empty")


def test_a_missed_apex_costs_the_apex() -> None:
    found = promise12_values(box(4, 9), box(6, 9), Grid(SHAPE, AFFINE), anchors=ANCHORS)
    assert found["apex_dice"] == Value(0.0, "1", "pred_empty")
    assert (found["apex_score"].value, found["base_score"].value) == (0.0, 100.0)


def test_what_goes_on_beyond_the_reference_is_seen_at_that_end() -> None:
    found = promise12_values(box(4, 9), box(4, 12), Grid(SHAPE, AFFINE))
    assert found["base_abs_rvd_percent"].value == pytest.approx(150.0)
    assert found["apex_abs_rvd_percent"].value == 0.0


# Scores


def test_points_go_through_both_anchors_and_stop_at_nothing() -> None:
    assert points(1.0, observer=0.83, perfect=1.0) == 100.0
    assert points(0.83, observer=0.83, perfect=1.0) == 85.0
    assert points(2.0, observer=4.0, perfect=0.0) == 92.5
    assert points(40.0, observer=4.0, perfect=0.0) == 0.0
    assert points(math.inf, observer=4.0, perfect=0.0) == 0.0


def test_a_perfect_gland_scores_a_hundred() -> None:
    found = promise12_values(box(4, 9), box(4, 9), Grid(SHAPE, AFFINE), anchors=ANCHORS)
    assert {v.value for name, v in found.items() if name.endswith("score")} == {100.0}
    assert {v.unit for name, v in found.items() if name.endswith("score")} == {"points"}


def test_the_score_is_the_mean_of_twelve_each_with_its_own_anchor() -> None:
    reference, predicted = blobs(1)
    grid = Grid(SHAPE, AFFINE)
    parts = {
        "whole": RegionAnchors(0.9, 3.0, 1.5, 8.0),
        "base": RegionAnchors(0.8, 4.0, 2.5, 12.0),
        "apex": RegionAnchors(0.7, 5.0, 3.5, 16.0),
    }
    found = promise12_values(reference, predicted, grid, anchors=Anchors(**parts))
    every = []
    for region, start in (("whole", ""), ("base", "base_"), ("apex", "apex_")):
        expected = []
        for name, short in zip(MEASURES, ("dice", "hd95", "assd", "rvd"), strict=True):
            perfect = 1.0 if name == "dice" else 0.0
            slope = (85 - 100) / (getattr(parts[region], name) - perfect)
            expected.append(max(0.0, slope * found[start + name].value + 100 - slope * perfect))
            assert found[f"{region}_{short}_score"].value == pytest.approx(expected[-1])
        assert found[f"{region}_score"].value == pytest.approx(np.mean(expected))
        every += expected
    assert found["score"].value == pytest.approx(np.mean(every))
    assert 0 < found["score"].value < 100


def test_without_anchors_there_is_no_score() -> None:
    found = promise12_values(box(4, 9), box(4, 9), Grid(SHAPE, AFFINE))
    assert list(found) == [start + name for start in ("", "base_", "apex_") for name in MEASURES]


@pytest.mark.parametrize(
    "wrong",
    [{"dice": 1.0}, {"dice": -0.1}, {"hd95_mm": 0.0}, {"assd_mm": math.inf}, {"abs_rvd_percent": -1.0}],
)
def test_an_observer_without_room_for_error_is_refused(wrong: dict[str, float]) -> None:
    fields = {"dice": 0.9, "hd95_mm": 4.0, "assd_mm": 2.0, "abs_rvd_percent": 10.0}
    with pytest.raises(UsageError, match=next(iter(wrong)) if "dice" not in wrong else "Dice"):
        RegionAnchors(**fields | wrong)


def test_an_observer_whose_outlines_share_nothing_is_an_anchor() -> None:
    """The documented range of Dice is [0, 1): 0 belongs to it."""
    assert RegionAnchors(dice=0.0, hd95_mm=4.0, assd_mm=2.0, abs_rvd_percent=10.0).dice == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(GridMismatchError, match=r"\(9, 8, 16\).*\(9, 8, 15\)"):
        promise12_values(box(1, 2), box(1, 2)[..., 1:], Grid(SHAPE, AFFINE))


def test_a_box_of_one_slice_is_widened_inside_the_image_only() -> None:
    one = (slice(0, 2), slice(0, 2), slice(5, 6))
    assert sd.solid(one, (9, 9, 6))[2] == slice(4, 6)
    assert sd.solid(one, (9, 9, 9))[2] == slice(5, 7)
    flat = (slice(0, 2), slice(0, 2), slice(0, 1))
    assert sd.solid(flat, (9, 9, 1)) == flat
    assert sd.solid_box(np.zeros((3, 3, 3), bool)) is None
    assert sd.solid_box(box(3, 3)) == (slice(2, 6), slice(2, 6), slice(3, 5))
