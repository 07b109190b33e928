"""Resampling: exact where nothing changes, linear where it does, and always in the same place."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core import affine as aff
from medseg.core.errors import GeometryError, ResourceError
from medseg.core.volume import Grid
from medseg.preparation.resample import axis_weights, resample, resample_labels, resampled_grid

SIZES = [(1, 1), (1, 7), (7, 1), (5, 5), (5, 8), (8, 5), (64, 19), (19, 64), (10, 30), (30, 10), (7, 6)]


def image(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_weights_are_an_average(n_in: int, n_out: int) -> None:
    weights = axis_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in)
    assert weights.dtype == np.float32
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_weights_of_an_unchanged_axis_are_the_identity(n: int) -> None:
    np.testing.assert_array_equal(axis_weights(n, n), np.eye(n))


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_weights_are_mirror_symmetric(n_in: int, n_out: int) -> None:
    weights = axis_weights(n_in, n_out)
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-6)


def test_halving_by_hand() -> None:
    # Centres at 0.5 and 2.5, triangle of half-width 2: distances 0.5, 1.5, and voxel -1 is voxel 0.
    expected = [[0.375 + 0.125, 0.375, 0.125, 0.0], [0.0, 0.125, 0.375, 0.375 + 0.125]]
    np.testing.assert_allclose(axis_weights(4, 2), expected, atol=1e-7)


def test_a_ramp_keeps_its_world_position_away_from_the_edges() -> None:
    grid = Grid((40, 1, 1), np.diag([0.7, 1.0, 1.0, 1.0]))
    for mm in (0.3, 0.7, 1.1, 2.0):
        new = resampled_grid(grid, (mm, 1.0, 1.0))
        ramp = (0.7 * np.arange(40, dtype=np.float32)).reshape(1, 40, 1, 1)
        out = resample(ramp, new.shape)[0, :, 0, 0]
        world = new.affine[0, 0] * np.arange(new.shape[0]) + new.affine[0, 3]
        inner = (world > 2.0) & (world < 0.7 * 39 - 2.0)
        limit_mm = 1e-4 if mm <= 0.7 else 0.08 * 0.7  # a sampled triangle is not quite centred
        np.testing.assert_allclose(out[inner], world[inner], atol=limit_mm)


@pytest.mark.parametrize("shape", [(9, 11, 14), (5, 20, 7), (6, 7, 21), (13, 7, 7)])
def test_finer_grids_agree_with_map_coordinates(shape: tuple[int, int, int]) -> None:
    array = image(2, 5, 7, 7)
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip((5, 7, 7), shape, strict=True)]
    where = np.stack(np.meshgrid(*axes, indexing="ij"))
    oracle = [ndimage.map_coordinates(c.astype(np.float64), where, order=1, mode="nearest") for c in array]
    np.testing.assert_allclose(resample(array, shape), np.stack(oracle), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_the_same_shape_is_copied_exactly(dtype: type) -> None:
    array = (image(2, 5, 6, 7) * 100).astype(dtype)
    out = resample(array, (5, 6, 7))
    np.testing.assert_array_equal(out, array.astype(np.float32))
    assert out.dtype == np.float32
    assert not np.shares_memory(out, array)


def test_an_unchanged_axis_mixes_nothing() -> None:
    array = image(1, 4, 5, 6)
    changed = array.copy()
    changed[:, :, 2] += 1.0
    differs = (resample(array, (9, 5, 11)) != resample(changed, (9, 5, 11))).any(axis=(0, 1, 3))
    assert differs.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("shape", [(33, 9, 20), (7, 21, 11), (12, 10, 11)])
@pytest.mark.parametrize("height", [1, 4, 5, 100])
def test_slabs_join_to_exactly_the_whole(shape: tuple[int, int, int], height: int) -> None:
    array = image(3, 12, 10, 11)
    slabs = [resample(array, shape, slice(n, n + height)) for n in range(0, shape[0], height)]
    np.testing.assert_array_equal(np.concatenate(slabs, axis=1), resample(array, shape))


@pytest.mark.parametrize("rows", [slice(4, 4), slice(0, 0), slice(12, 20)])
def test_no_rows_is_an_empty_slab(rows: slice) -> None:
    assert resample(image(2, 6, 5, 4), (12, 5, 4), rows).shape == (2, 0, 5, 4)


def test_softmax_stays_softmax() -> None:
    probabilities = np.random.default_rng(1).dirichlet([1.0, 1.0, 1.0], size=(6, 7, 8))
    array = np.moveaxis(probabilities, -1, 0).astype(np.float32)
    for shape in ((9, 4, 16), (3, 7, 5)):
        out = resample(array, shape)
        assert out.min() >= 0
        np.testing.assert_allclose(out.sum(axis=0), 1.0, atol=1e-5)


def test_fine_stripes_do_not_alias() -> None:
    stripes = np.tile(np.float32([0.0, 1.0]), 30).reshape(1, 60, 1, 1)
    out = resample(stripes, (20, 1, 1))[0, 2:-2]
    np.testing.assert_allclose(out, 0.5, atol=0.12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.4, 2.2, 1.7), (50.0, 0.31, 3.0)])
def test_the_new_grid_fills_the_same_box(spacing_mm: tuple[float, float, float]) -> None:
    affine = np.array([[0.8, 0.1, 0, 5], [-0.1, 0.9, 0, 6], [0, 0.2, 2.5, 7], [0, 0, 0, 1]])
    grid = Grid((30, 25, 11), affine)
    new = resampled_grid(grid, spacing_mm)
    for old_corner, new_corner in (
        (np.full(3, -0.5), np.full(3, -0.5)),
        (np.asarray(grid.shape) - 0.5, np.asarray(new.shape) - 0.5),
    ):
        np.testing.assert_allclose(
            aff.apply(grid.affine, old_corner), aff.apply(new.affine, new_corner), atol=1e-9
        )


def test_the_spacing_is_as_near_as_whole_voxels_allow() -> None:
    new = resampled_grid(Grid((188, 256, 190), np.diag([0.88, 0.88, 0.88, 1])), (1.0, 1.0, 1.0))
    assert new.shape == (165, 225, 167)
    np.testing.assert_allclose(new.spacing_mm, 1.0, atol=0.005)


@pytest.mark.parametrize("mm", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_spacing_is_refused(mm: float) -> None:
    with pytest.raises(GeometryError, match="positive"):
        resampled_grid(Grid((4, 4, 4), np.eye(4)), (1.0, mm, 1.0))


def test_an_absurd_spacing_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ResourceError, match="coarser"):
        resampled_grid(Grid((40, 40, 40), np.eye(4)), (1e-6, 1e-6, 1e-6))


def ball(n: int) -> NDArray[np.bool_]:
    i, j, k = np.indices((n, n, n)) - (n - 1) / 2
    return i**2 + j**2 + k**2 < (0.35 * n) ** 2


@pytest.mark.parametrize("shape", [(32, 32, 32), (80, 80, 80), (60, 30, 43), (50, 50, 25)])
def test_labels_keep_their_values_and_volume(shape: tuple[int, int, int]) -> None:
    labels = np.where(ball(50), 200, 0).astype(np.uint8)
    labels[:25][ball(50)[:25]] = 7
    out = resample_labels(labels, shape)
    assert out.dtype == labels.dtype
    assert set(np.unique(out)) == {0, 7, 200}
    per_voxel = labels.size / out.size
    for mask, new in ((labels > 0, out > 0), (labels == 7, out == 7), (labels == 200, out == 200)):
        assert new.sum() * per_voxel == pytest.approx(mask.sum(), rel=0.02)


@pytest.mark.parametrize("shape", [(25, 25, 25), (33, 33, 33), (70, 70, 70), (50, 25, 100)])
def test_labels_keep_their_place(shape: tuple[int, int, int]) -> None:
    out = resample_labels(ball(50).astype(np.uint8), shape)
    centre = (np.argwhere(out).mean(axis=0) + 0.5) * 50 / np.asarray(shape)
    np.testing.assert_allclose(centre, 25.0, atol=0.03)  # the nearest voxel: 0.25 when halving


def test_label_votes_agree_with_the_argmax_of_resampled_masks() -> None:
    labels = np.random.default_rng(2).integers(-3, 4, size=(9, 8, 7)).astype(np.int16)
    for shape in ((5, 8, 11), (14, 6, 7)):
        values = np.unique(labels)
        votes = np.stack([resample((labels == v)[None], shape)[0] for v in values])
        ours = resample_labels(labels, shape)
        won = np.take_along_axis(votes, np.searchsorted(values, ours)[None], axis=0)[0]
        np.testing.assert_allclose(won, votes.max(axis=0), atol=2e-5)


def test_labels_on_the_same_shape_are_copied() -> None:
    labels = np.random.default_rng(3).integers(0, 9, size=(4, 5, 6)).astype(np.uint16)
    out = resample_labels(labels, (4, 5, 6))
    np.testing.assert_array_equal(out, labels)
    assert not np.shares_memory(out, labels)
