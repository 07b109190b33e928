"""Lesions: joined, matched and counted by hand, against the definition in loops, in every orientation."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.volume import Grid
from medseg.metrics import surface as sd
from medseg.metrics.lesions import (
    BRATS2023_REGIONS,
    GLIOMA,
    MENINGIOMA,
    METASTASES,
    UNITS,
    LesionMatch,
    LesionRule,
    lesion_values,
    match_lesions,
)
from medseg.metrics.value import Value

SHAPE = (40, 30, 20)
GRID = Grid(SHAPE, np.eye(4))
CUBE = 4
"""Edge of the cubes below: 64 voxels, more than the 50 that are left out."""


def cubes(*corners: tuple[int, int, int], edge: int = CUBE) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for i, j, k in corners:
        mask[i : i + edge, j : j + edge, k : k + edge] = True
    return mask


def counts(match: LesionMatch) -> tuple[int, int, int]:
    return match.found, match.missed, match.extra


def specks(seed: int, shape: tuple[int, ...] = (22, 20, 18)) -> tuple[np.ndarray, np.ndarray]:
    """Blobs and specks that resemble each other, so that all kinds of lesions are met."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((2, *shape)), (0, 1.3, 1.3, 1.3))
    reference = noise[0] > np.quantile(noise[0], 0.96)
    mixed = 0.6 * noise[0] + 0.4 * noise[1]
    return reference, mixed > np.quantile(mixed, 0.96)


# The rule


def test_the_constants_are_those_of_2023() -> None:
    assert LesionRule(3, 18, 26, 50.0, 0.0, 374.0) == GLIOMA
    assert replace(GLIOMA, dilation_steps=1) == MENINGIOMA
    assert replace(GLIOMA, dilation_steps=1, smallest_volume_mm3=2.0) == METASTASES
    members = {s.name: s.members for s in BRATS2023_REGIONS}
    assert members == {"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)}
    assert BRATS2023_REGIONS.known_values == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"connectivity": 8}, {"dilation_neighbours": 27}, {"dilation_steps": -1}, {"penalty_hd95_mm": math.inf}],
)
def test_a_senseless_constant_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        LesionRule(**wrong)


# By hand


def test_one_found_one_missed_one_extra() -> None:
    """Found with Dice 2 * 48 / 128, one voxel off; the other two count 0 and 374 mm."""
    reference, predicted = cubes((2, 2, 2), (2, 20, 2)), cubes((3, 2, 2), (30, 10, 10))
    match = match_lesions(reference, predicted, GRID)
    assert counts(match) == (1, 1, 1)
    found, missed = match.lesions
    assert (found.pieces, found.dice, found.hd95_mm) == (1, 0.75, 1.0)
    assert (missed.pieces, missed.dice, missed.hd95_mm) == (0, 0.0, 374.0)
    assert match.dice == pytest.approx(0.75 / 3)
    assert match.hd95_mm == pytest.approx((1 + 374 + 374) / 3)
    assert (match.f1, match.recall) == (2 / 4, 1 / 2)
    assert match.extra_ml == (pytest.approx(0.064),)
    assert found.volume_ml == found.predicted_ml == pytest.approx(0.064)


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_what_lies_within_twice_the_steps_is_one_lesion(gap: int, lesions: int) -> None:
    """Three steps from both sides fill a gap of 6 voxels; across 7 the dilated masks do not touch."""
    reference = cubes((2, 2, 2), (2 + CUBE + gap, 2, 2))
    match = match_lesions(reference, reference, GRID)
    assert len(match.lesions) == lesions
    assert (match.dice, match.hd95_mm) == (1.0, 0.0)
    assert match.lesions[0].pieces == 3 - lesions
    assert match.lesions[0].volume_ml == pytest.approx(0.128 / lesions)


@pytest.mark.parametrize(("neighbours", "lesions"), [(6, 2), (18, 2), (26, 1)])
def test_a_step_goes_across_faces_and_edges_only(neighbours: int, lesions: int) -> None:
    """Two voxels, apart by 3 along every diagonal: only cubes around them share a corner."""
    reference = np.zeros(SHAPE, bool)
    reference[5, 5, 5] = reference[8, 8, 8] = True
    rule = LesionRule(dilation_steps=1, dilation_neighbours=neighbours, smallest_volume_mm3=0)
    assert len(match_lesions(reference, reference, GRID, rule).lesions) == lesions


def test_a_piece_near_a_lesion_is_its_prediction_without_touching_it() -> None:
    near, far = (match_lesions(cubes((2, 2, 2)), cubes((2 + CUBE + gap, 2, 2)), GRID) for gap in (2, 3))
    assert counts(near) == (1, 0, 0)
    assert near.dice == 0.0
    assert near.hd95_mm < 374.0
    assert counts(far) == (0, 1, 1)
    assert far.hd95_mm == 374.0


def test_all_pieces_of_a_lesion_are_compared_with_it_together_and_whole() -> None:
    reference = cubes((10, 10, 10), edge=6)
    predicted = reference.copy()
    predicted[12:14] = False  # two pieces of 2 of its 6 layers each, one of them with a tail
    predicted[14:20, 10:16, 10:16] = True
    match = match_lesions(reference, predicted, GRID)
    assert match.lesions[0].pieces == 2
    assert match.dice == pytest.approx(2 * 144 / (216 + 72 + 216))


def test_one_piece_over_two_lesions_is_compared_with_each_and_is_not_extra() -> None:
    reference = cubes((2, 2, 2), (16, 2, 2))
    predicted = reference.copy()
    predicted[2:20, 2:6, 2:6] = True
    match = match_lesions(reference, predicted, GRID)
    assert counts(match) == (2, 0, 0)
    assert [lesion.dice for lesion in match.lesions] == [pytest.approx(2 * 64 / (64 + 288))] * 2


@pytest.mark.parametrize(("voxels", "counted"), [(49, False), (50, False), (51, True)])
def test_a_lesion_counts_from_more_than_the_smallest_volume(voxels: int, counted: bool) -> None:
    reference = np.zeros(SHAPE, bool)
    reference[tuple(np.argwhere(cubes((5, 5, 5), edge=5))[:voxels].T)] = True
    turned = np.eye(4)
    turned[:2, :2] = np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)
    for affine in (np.eye(4), turned):
        match = match_lesions(reference, reference, Grid(SHAPE, affine))
        assert [lesion.counted for lesion in match.lesions] == [counted]
        assert counts(match) == (int(counted), 0, 0)


def test_what_touches_a_lesion_left_out_is_not_extra_and_small_extra_pieces_are() -> None:
    reference, predicted = cubes((2, 2, 2), edge=2), cubes((2, 2, 2), edge=2)
    predicted[30, 20, 10] = True
    match = match_lesions(reference, predicted, GRID)
    assert counts(match) == (0, 0, 1)
    assert (match.dice, match.hd95_mm) == (0.0, 374.0)


def test_the_constants_can_be_changed() -> None:
    reference, predicted = cubes((2, 2, 2), (2, 20, 2)), cubes((2, 2, 2), (30, 10, 10))
    rule = LesionRule(penalty_dice=0.25, penalty_hd95_mm=100.0)
    match = match_lesions(reference, predicted, GRID, rule)
    assert match.dice == pytest.approx((1 + 0.25 + 0.25) / 3)
    assert match.hd95_mm == pytest.approx(200 / 3)
    strict = LesionRule(dilation_steps=0, smallest_volume_mm3=64.0)
    assert counts(match_lesions(reference, predicted, GRID, strict)) == (0, 0, 1)


def test_without_dilation_lesions_are_connected_pieces() -> None:
    reference = cubes((2, 2, 2), (7, 2, 2), (12, 7, 2))
    assert len(match_lesions(reference, reference, GRID, LesionRule(dilation_steps=0)).lesions) == 3
    touching = cubes((2, 2, 2), (6, 6, 6))
    for connectivity, lesions in ((6, 2), (18, 2), (26, 1)):
        rule = LesionRule(dilation_steps=0, connectivity=connectivity)
        assert len(match_lesions(touching, touching, GRID, rule).lesions) == lesions


# Empty masks


NOTHING = np.zeros(SHAPE, bool)
SMALL = cubes((2, 2, 2), edge=2)


@pytest.mark.parametrize(
    ("reference", "predicted", "status", "dice", "hd95_mm", "f1", "recall"),
    [
        (NOTHING, NOTHING, "both_empty", 1.0, 0.0, None, None),
        (SMALL, NOTHING, "both_empty", 1.0, 0.0, None, None),
        (SMALL, SMALL, "both_empty", 1.0, 0.0, None, None),
        (NOTHING, cubes((2, 2, 2)), "ref_empty", 0.0, 374.0, 0.0, None),
        (cubes((2, 2, 2)), NOTHING, "pred_empty", 0.0, 374.0, 0.0, 0.0),
        (cubes((2, 2, 2)), cubes((2, 2, 2)), "ok", 1.0, 0.0, 1.0, 1.0),
    ],
)
def test_empty_sides_follow_the_challenge_and_are_flagged(
    reference: np.ndarray,
    predicted: np.ndarray,
    status: str,
    dice: float,
    hd95_mm: float,
    f1: float | None,
    recall: float | None,
) -> None:
    found = lesion_values(reference, predicted, GRID)
    assert list(found) == list(UNITS)
    assert found["lesion_dice"] == Value(dice, "1", status)
    assert found["lesion_hd95_mm"] == Value(hd95_mm, "mm", status)
    assert (found["lesion_f1"].value, found["lesion_recall"].value) == (f1, recall)
    assert found["lesions_ignored"].value == float(reference is SMALL)


def test_shapes_must_agree() -> None:
    with pytest.raises(GridMismatchError, match=r"\(40, 30, 20\).*\(40, 30, 19\)"):
        match_lesions(NOTHING, NOTHING[..., 1:], GRID)


# The definition, step by step over the whole image


def naive(reference: np.ndarray, predicted: np.ndarray, grid: Grid, rule: LesionRule) -> tuple[float, ...]:
    """Dice, HD95, found, missed and extra as the published implementation goes about it."""
    every = np.ones((3, 3, 3))
    lesions, n_lesions = ndimage.label(_naive_dilated(reference, rule.dilation_steps), every)
    lesions = lesions * reference
    pieces, n_pieces = ndimage.label(predicted, every)
    matched: set[int] = set()
    dices, distances, found, missed = [], [], 0, 0
    for number in range(1, n_lesions + 1):
        lesion = lesions == number
        near = set(np.unique(pieces[_naive_dilated(lesion, rule.dilation_steps)]).tolist()) - {0}
        matched |= near
        if lesion.sum() * grid.voxel_volume_mm3 <= rule.smallest_volume_mm3:
            continue
        found, missed = found + bool(near), missed + (not near)
        own = np.isin(pieces, list(near))
        dices.append(2 * (lesion & own).sum() / (lesion.sum() + own.sum()))
        hd95 = sd.hausdorff_mm(sd.surfel_distances(lesion, own, grid.spacing_mm), 95)
        distances.append(rule.penalty_hd95_mm if math.isinf(hd95) else hd95)
    extra = n_pieces - len(matched)
    n = len(dices) + extra
    if not n:
        return 1.0, 0.0, 0, 0, 0
    return sum(dices) / n, (sum(distances) + extra * rule.penalty_hd95_mm) / n, found, missed, extra


def _naive_dilated(mask: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        padded, out = np.pad(mask, 1), np.zeros_like(mask)
        for step in itertools.product((0, 1, 2), repeat=3):
            if sum(s != 1 for s in step) <= 2:
                out |= padded[tuple(slice(s, s + n) for s, n in zip(step, mask.shape, strict=True))]
        mask = out
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_numbers_equal_the_definition(seed: int) -> None:
    reference, predicted = specks(seed)
    grid = Grid(reference.shape, np.diag([1.0, 1.4, 0.8, 1.0]))
    rules = (
        METASTASES,
        LesionRule(dilation_steps=0, smallest_volume_mm3=3.0),
        LesionRule(dilation_steps=2, smallest_volume_mm3=20.0),
    )
    for rule in rules:
        match = match_lesions(reference, predicted, grid, rule)
        dice, hd95_mm, *whole = naive(reference, predicted, grid, rule)
        assert list(counts(match)) == whole
        assert match.dice == pytest.approx(dice, abs=1e-12)
        assert match.hd95_mm == pytest.approx(hd95_mm, abs=1e-9)


def test_the_random_masks_hold_lesions_of_every_kind() -> None:
    matches = [match_lesions(*specks(seed), Grid((22, 20, 18), np.eye(4)), METASTASES) for seed in range(12)]
    assert min(np.sum([counts(m) for m in matches], axis=0)) >= 10
    assert any(lesion.pieces > 1 for m in matches for lesion in m.lesions)
    assert any(not lesion.counted for m in matches for lesion in m.lesions)


# Invariants


def test_all_48_ways_to_store_a_case_measure_the_same() -> None:
    reference, predicted = specks(3)
    spacing = np.array([1.0, 1.4, 0.8])

    def values(turn: tuple[int, ...], flips: tuple[int, ...]) -> list[float]:
        masks = [np.flip(m.transpose(turn), flips) for m in (reference, predicted)]
        grid = Grid(masks[0].shape, np.diag([*spacing[list(turn)], 1.0]))
        found = lesion_values(*masks, grid, METASTASES).values()
        return [math.nan if v.value is None else v.value for v in found]

    expected = values((0, 1, 2), ())
    for turn in itertools.permutations(range(3)):
        for n in range(4):
            for flips in itertools.combinations(range(3), n):
                np.testing.assert_allclose(values(turn, flips), expected, rtol=1e-12)


def test_a_lesion_of_one_slice_is_measured_in_the_volume() -> None:
    reference = np.zeros(SHAPE, bool)
    reference[5:15, 5:15, 7] = True
    predicted = np.roll(reference, 1, axis=0)
    found = [
        match_lesions(
            np.moveaxis(reference, 2, axis),
            np.moveaxis(predicted, 2, axis),
            Grid(np.moveaxis(reference, 2, axis).shape, np.eye(4)),
            LesionRule(dilation_steps=steps),
        ).hd95_mm
        for axis in range(3)
        for steps in (0, 3)
    ]
    whole = sd.hausdorff_mm(sd.surfel_distances(reference, predicted, (1, 1, 1)), 95)
    assert found == [whole] * 6


def test_background_around_the_masks_changes_nothing() -> None:
    reference, predicted = specks(4)
    padded = [np.pad(m, 5) for m in (reference, predicted)]
    near = match_lesions(reference, predicted, Grid(reference.shape, np.eye(4)), MENINGIOMA)
    far = match_lesions(*padded, Grid(padded[0].shape, np.eye(4)), MENINGIOMA)
    assert near == far


def test_a_perfect_prediction_finds_everything() -> None:
    reference, _ = specks(5)
    match = match_lesions(reference, reference, Grid(reference.shape, np.eye(4)), METASTASES)
    assert (match.dice, match.hd95_mm, match.f1) == (1.0, 0.0, 1.0)
    assert match.found == len(match.counted) > 1


def test_the_masks_are_not_written_to() -> None:
    reference, predicted = specks(6)
    copies = reference.copy(), predicted.copy()
    for mask in (reference, predicted):
        mask.setflags(write=False)
    match_lesions(reference, predicted, Grid(reference.shape, np.eye(4)), MENINGIOMA)
    np.testing.assert_array_equal(reference, copies[0])
    np.testing.assert_array_equal(predicted, copies[1])
