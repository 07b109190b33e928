"""Blending equals the weighted mean written down plainly, however the rows are released."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.inference import blend
from medseg.inference.tiles import Plan, plan


def cut(shape, overlap=0.5, tile=(8, 8, 8)) -> Plan:
    return plan(shape, tile=tile, stride=(1, 1, 1), radius=(2, 2, 2), tile_independent=False, overlap=overlap)


def answers(layout: Plan, variants: int = 1, channels: int = 2):
    rng = np.random.default_rng(1)
    shape = (channels, *layout.tile_shape)
    return [
        (tile, [rng.normal(size=shape).astype(np.float32) for _ in range(variants)]) for tile in layout.tiles
    ]


def naive_mean(layout: Plan, predictions, weights, variant: int) -> np.ndarray:
    total = np.zeros(layout.extended)
    sums = np.zeros((2, *layout.extended))
    for tile, logits in predictions:
        total[tile.read.slices] += weights
        sums[(slice(None), *tile.read.slices)] += weights * logits[variant].astype(float)
    inside = tuple(slice(b, b + n) for b, n in zip(layout.before, layout.shape, strict=True))
    return (sums / total)[(slice(None), *inside)]


@pytest.mark.parametrize("shape", [(30, 9, 13), (8, 8, 8), (3, 20, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
@pytest.mark.parametrize("weight", ["gaussian", "constant"])
def test_streamed_rows_are_the_weighted_mean(shape, overlap, weight):
    layout = cut(shape, overlap)
    predictions = answers(layout, variants=2)
    runs = list(blend.rows(layout, predictions, weight))
    assert [run.start for run, _ in runs] == [0, *(run.stop for run, _ in runs[:-1])]
    assert runs[-1][0].stop == shape[0]
    for variant in range(2):
        found = np.concatenate([means[variant] for _, means in runs], axis=1)
        expected = naive_mean(layout, predictions, blend.importance((8, 8, 8), weight), variant)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_leave_before_the_last_tile_is_predicted():
    layout = cut((64, 8, 8))
    asked = []

    def predictions():
        for tile, logits in answers(layout):
            asked.append(tile)
            yield tile, logits

    run, _ = next(blend.rows(layout, predictions()))
    assert run == slice(0, 4)
    assert len(asked) == 2


def test_released_rows_do_not_change_later():
    layout = cut((40, 8, 8))
    kept = [(means[0], means[0].copy()) for _, means in blend.rows(layout, answers(layout))]
    assert all(np.array_equal(a, b) for a, b in kept)


@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
def test_logits_are_not_written_to(strategy):
    layout = plan(
        (30, 20, 20), tile=(8, 8, 8), stride=(1, 1, 1), radius=(2, 2, 2), tile_independent=True,
        strategy=strategy, max_voxels=12**3,
    )  # fmt: skip
    predictions = answers(layout)
    for _, logits in predictions:
        logits[0].flags.writeable = False
    assert sum(run.stop - run.start for run, _ in blend.rows(layout, predictions)) == 30


def test_gaussian_weights_by_hand():
    """Tile 4 x 1 x 1: sigma 0.5, x = -1.5, -0.5, 0.5, 1.5; exp(-0.5) and exp(-4.5)."""
    weights = blend.importance((4, 1, 1), "gaussian").ravel()
    np.testing.assert_allclose(
        weights, [math.exp(-4.5), math.exp(-0.5), math.exp(-0.5), math.exp(-4.5)], rtol=1e-6
    )


@pytest.mark.parametrize("tile", [(1, 1, 1), (8, 8, 8), (96, 96, 96), (5, 64, 2)])
@pytest.mark.parametrize("weight", ["gaussian", "constant"])
def test_weights_are_above_zero_and_symmetric(tile, weight):
    weights = blend.importance(tile, weight)
    assert weights.shape == tile
    assert weights.dtype == np.float32
    assert weights.min() >= (1e-3 if max(tile) > 5 else 0)
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, np.flip(weights))


@pytest.mark.slow
@pytest.mark.parametrize("tile", [(8, 8, 8), (48, 32, 5)])
@pytest.mark.parametrize("weight", ["gaussian", "constant"])
def test_weights_are_those_of_monai(tile, weight):
    from monai.data.utils import compute_importance_map

    theirs = compute_importance_map(tile, mode=weight, sigma_scale=0.125).numpy()
    np.testing.assert_allclose(blend.importance(tile, weight), theirs, rtol=1e-5)
