"""An early end leaves a whole prediction, more time a better one, and enough time the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from medseg.core.stopwatch import Stopwatch
from medseg.inference import anytime, blend
from medseg.inference.anytime import Anytime
from medseg.inference.predictor import Predictor
from medseg.inference.tiles import MAX_VOXELS, FloatArray


@dataclass
class Toy:
    """An engine whose answer depends on the tile as a whole, as that of a network with instance norm."""

    function: Callable[[FloatArray], FloatArray]
    name: str = "toy"
    precision: str = "f32"

    def __call__(self, tiles: FloatArray) -> FloatArray:
        return self.function(tiles)


def normalised(tiles: FloatArray) -> FloatArray:
    """Background, and one structure where the image is bright beside its own tile."""
    flat = tiles.reshape(len(tiles), 1, -1)
    mean, spread = flat.mean(axis=2), flat.std(axis=2) + 1e-3
    scaled = (tiles - mean[..., None, None, None]) / spread[..., None, None, None]
    return np.concatenate([np.zeros_like(scaled), 3 * scaled], axis=1).astype(np.float32)


def predictor(**settings: object) -> Predictor:
    usual = {
        "stride": (4, 4, 4), "radius": (4, 4, 4), "tile_independent": False, "tile": (32, 32, 32),
        "overlap": 0.5, "timed": True,
    }  # fmt: skip
    return Predictor(engines=[Toy(normalised)], **{**usual, **settings})  # type: ignore[arg-type]


def image(*shape: int, seed: int = 0) -> FloatArray:
    """Noise that is brighter along the first axis, so that tiles differ."""
    noise = np.random.default_rng(seed).normal(size=(1, *shape))
    return (noise + np.linspace(0, 4, shape[0])[:, None, None]).astype(np.float32)


def whole(rows: anytime.Rows) -> FloatArray:
    return np.concatenate([part for _, part in rows], axis=1)


CASES = {
    "window": {},
    "window and flips": {"flips": ((0,), (1, 2)), "twin_channels": (0, 1)},
    "small tiles": {"tile": (8, 8, 8), "flips": ((2,),)},
    "one tile": {"tile": (64, 64, 64)},
    "overlap-tile": {"tile_independent": True},
    "overlap-tile and flips": {"tile_independent": True, "flips": ((0,),), "max_voxels": 40**3},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_with_all_tiles_the_bits_are_those_of_a_prediction_without_haste(settings: dict[str, object]) -> None:
    scan, full = image(50, 40, 36), predictor(**settings)
    work = Anytime(full, scan, Stopwatch())
    work.look()
    first = whole(work.rows())
    assert first.shape == (2, 50, 40, 36)
    np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)
    work.order()
    while work.parts:
        work.advance()
    expected = full.probabilities(scan)
    np.testing.assert_array_equal(whole(work.rows()), expected)
    assert work.numbers == tuple(range(work.of))
    assert not work.unfinished().any()


def test_each_tile_brings_the_result_nearer() -> None:
    scan, full = image(60, 48, 40), predictor()
    expected = full.probabilities(scan)
    work = Anytime(full, scan, Stopwatch())
    work.look()
    away = [np.abs(whole(work.rows()) - expected).mean()]
    work.order()
    while work.parts:
        work.advance()
        away.append(np.abs(whole(work.rows()) - expected).mean())
    assert len(away) > 8
    assert away[-1] == 0 < away[0]
    rises = np.diff(away)[np.diff(away) > 0]
    assert rises.sum() < 0.1 * away[0], "but for where a tile is worse than the quick look"
    assert away[len(away) // 2] < 0.75 * away[0]


def test_where_a_tile_was_computed_it_counts_and_the_quick_look_hardly() -> None:
    work = Anytime(predictor(), image(60, 48, 40), Stopwatch())
    work.look()
    quick = whole(work.rows())
    work.order()
    _, (number,) = work.parts[0]
    work.advance()
    tile = work.plan.tiles[number]
    logits = work.done[0, number][(slice(None), *tile.keep.slices)]
    own = blend.mean_probability([logits], False)
    here = (slice(None), *tile.write.slices)
    inner = (slice(None), *(slice(8, -8) for _ in range(3)))
    away = np.abs(whole(work.rows())[here] - own)[inner].mean()
    assert away < 0.2 * np.abs(quick[here] - own)[inner].mean()


def test_the_first_tile_lies_where_the_quick_look_is_unsure() -> None:
    scan = np.full((1, 80, 48, 48), 8, np.float32)
    scan[:, 40:] = -8
    scan[:, 50:70, 30:46, 30:46] = np.random.default_rng(0).normal(size=(20, 16, 16)) / 10
    plain = Toy(lambda tiles: np.concatenate([np.zeros_like(tiles), tiles], axis=1))
    work = Anytime(replace(predictor(), engines=[plain]), scan, Stopwatch())
    work.look()
    work.order()
    _, numbers = work.parts[0]
    first = work.plan.tiles[numbers[0]].write
    assert first.start[0] >= 32
    assert first.stop[1:] == (48, 48)
    work.advance()
    assert not work.unfinished()[first.slices].any()
    assert work.unfinished().any()


def test_flips_follow_all_tiles_of_the_plain_view() -> None:
    work = Anytime(predictor(flips=((0,),)), image(50, 40, 36), Stopwatch())
    work.look()
    work.order()
    views = [view for view, _ in work.parts]
    assert views == sorted(views)
    assert len(views) == work.of


@pytest.mark.parametrize("shape", [(20, 300, 40), (200, 260, 220), (97, 33, 5)])
def test_the_quick_look_computes_few_voxels_twice_in_tiles_that_are_bounded(
    shape: tuple[int, int, int],
) -> None:
    few = anytime.quick(predictor(), shape).plan(shape)
    assert math.prod(few.tile_shape) <= MAX_VOXELS
    assert few.redundancy < min(2.0, predictor().plan(shape).redundancy)


def test_a_part_is_expected_to_take_what_those_before_it_took() -> None:
    now = [0.0]

    def slow(tiles: FloatArray) -> FloatArray:
        now[0] += tiles.size / 1000
        return normalised(tiles)

    work = Anytime(replace(predictor(), engines=[Toy(slow)]), image(50, 40, 36), Stopwatch(lambda: now[0]))
    work.look()
    work.order()
    before = now[0]
    assert work.next_seconds == pytest.approx(32**3 / 1000)
    work.advance()
    assert now[0] - before == pytest.approx(32**3 / 1000)
