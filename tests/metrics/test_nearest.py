"""Several ways to the nearest point, one distance; every one against all pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from medseg.metrics import nearest
from medseg.metrics import surface as sd

SPACINGS = pytest.mark.parametrize(
    "spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 0.7), (0.5859375, 0.5859375, 3.3), (1.3, 0.41, 2.9)]
)

FAR = {
    "steps": (),
    "windows": (32,),
    "windows, near": (3,),
    "windows, near and far": (2, 5, 64),
    "tree": (),
}
"""How far the windows reach, for each way to search; the tree gets the rest."""


def label_map(seed: int, shape: tuple[int, ...] = (18, 15, 11), count: int = 3) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((count + 1, *shape)), (0, 2, 2, 2))
    return noise.argmax(0).astype(np.uint8)


def border_voxels(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def all_pairs(here: np.ndarray, there: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return np.sort(cdist(here * np.array(spacing), there * np.array(spacing)).min(axis=1))


def only(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave as much as possible to one of the searches."""
    nearest.near_offsets.cache_clear()
    monkeypatch.setattr(nearest, "SHARE_FOR_MORE", 1.0)
    monkeypatch.setattr(nearest, "REACHES", FAR[way])
    monkeypatch.setattr(nearest, "VOXEL_SECONDS", 0.0)
    if way != "steps":
        monkeypatch.setattr(nearest, "STEPS", 1)


@SPACINGS
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("way", FAR)
def test_each_search_finds_the_nearest_of_all_pairs(
    way: str, axes: int, spacing: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(way, monkeypatch)
    shape = (18, 15, 11) if axes == 3 else (38, 35, 1)
    reference, predicted = label_map(1, shape), label_map(2, shape)
    found = sd.label_distances(reference, predicted, 3, spacing, "voxel")
    for label in (1, 2, 3):
        here, there = (border_voxels(m.squeeze() == label) for m in (reference, predicted))
        distances = found.of(label)
        for mm, of, to in ((distances.reference_mm, here, there), (distances.predicted_mm, there, here)):
            np.testing.assert_allclose(mm, all_pairs(of, to, spacing[:axes]), rtol=0, atol=1e-12)
    nearest.near_offsets.cache_clear()


@SPACINGS
def test_no_offset_shorter_than_the_longest_is_left_out(spacing: tuple[float, ...]) -> None:
    offsets = nearest.near_offsets(spacing)
    lengths = nearest.lengths_mm(offsets, spacing)
    assert len(offsets) >= nearest.STEPS
    assert (np.diff(lengths) >= 0).all()
    every = np.array(list(itertools.product(range(-9, 10), repeat=3)))
    inside = nearest.lengths_mm(every, spacing) < lengths[-1]
    assert {tuple(o) for o in every[inside].tolist()} <= {tuple(o) for o in offsets.tolist()}


def test_a_length_that_seven_digits_leave_open_is_not_named() -> None:
    """Two lengths of this grid lie within the error of a square of each other."""
    spacing = (1.0, 1.0 + 1e-7, 50.3)
    offsets = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 1]])
    squared = nearest.lengths_mm(offsets, spacing) ** 2
    mm, sure = nearest._named(squared, spacing)
    assert sure.tolist() == [False, False, True]
    assert mm[2] == 50.3


def test_open_lengths_are_settled_by_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    only("windows", monkeypatch)
    spacing = (1.0, 1.0 + 1e-7, 1.0 - 3e-7)
    r, p = np.zeros((2, 9, 9, 9), bool)
    r[1, 1, 1] = True
    p[4, 1, 1] = p[1, 4, 1] = p[1, 1, 4] = True
    d = sd.voxel_distances(r, p, spacing)
    assert d.reference_mm.tolist() == [3 * spacing[2]]
    assert d.predicted_mm.tolist() == sorted(3 * s for s in spacing)
    nearest.near_offsets.cache_clear()


def test_far_lengths_beyond_the_list_are_settled_by_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    only("windows", monkeypatch)
    monkeypatch.setattr(nearest, "LISTED_OFFSETS", 64)
    nearest._lengths.cache_clear()
    reference, predicted = np.zeros((2, 40, 4, 4), bool)
    reference[1, 1, 1] = predicted[38, 2, 2] = predicted[2, 1, 1] = True
    d = sd.voxel_distances(reference, predicted, (1.1, 1.2, 1.3))
    expected = [1.1, math.hypot(37 * 1.1, 1.2, 1.3)]
    np.testing.assert_allclose(d.predicted_mm, expected, atol=1e-12)
    nearest._lengths.cache_clear()
    nearest.near_offsets.cache_clear()


@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_threads_and_parts_change_no_bit(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, predicted = label_map(3), label_map(4)
    whole = sd.label_distances(reference, predicted, 3, (0.8, 1.0, 2.0), mode)
    monkeypatch.setattr("medseg.metrics.borders.SLAB_VOXELS", 1)
    monkeypatch.setattr("medseg.metrics.borders.SLAB_PLANES", 1)
    monkeypatch.setattr("medseg.metrics.windows.BLOCK_VOXELS", 1)
    monkeypatch.setattr(nearest, "POINTS_AT_ONCE", 7)
    monkeypatch.setattr(nearest, "PLANES_AT_ONCE", 1)
    parts = sd.label_distances(reference, predicted, 3, (0.8, 1.0, 2.0), mode, threads=3)
    for label in (1, 2, 3):
        for a, b in zip(whole.of(label).directed, parts.of(label).directed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_label_only_one_map_has_is_infinitely_far() -> None:
    reference, predicted = label_map(5), label_map(6)
    predicted[predicted == 2] = 0
    found = sd.label_distances(reference, predicted, 4, (1, 1, 1))
    assert np.isinf(found.of(2).reference_mm).all()
    assert found.of(2).reference_mm.size > 0
    assert found.of(2).one_empty
    assert found.of(4).both_empty
    assert np.isfinite(found.of(1).reference_mm).all()


@pytest.mark.parametrize("promised", ["WINDOW_VOXELS", "TREE_SECONDS"])
def test_a_box_of_too_many_voxels_goes_by_tree(promised: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many for the memory, however much quicker the windows are, or for the time."""
    only("windows", monkeypatch)
    monkeypatch.setattr(nearest, "VOXEL_SECONDS", 1e-20)
    monkeypatch.setattr(nearest, "PLANTING_SECONDS", 0.0)
    monkeypatch.setattr(nearest, promised, 0)
    monkeypatch.setattr(nearest, "nearest_squares", lambda *_: pytest.fail("windows of such a box"))
    reference, predicted = np.zeros((2, 20, 20, 20), bool)
    reference[0, 0, 0] = predicted[19, 19, 19] = True
    d = sd.voxel_distances(reference, predicted, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(d.reference_mm, [19 * math.sqrt(3)])
