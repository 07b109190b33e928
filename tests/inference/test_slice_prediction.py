"""Volumes predicted slice by slice: across one axis or several, with neighbours or without."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import UsageError
from medseg.inference.predictor import Predictor
from medseg.inference.slices import turned, with_neighbours
from medseg.inference.tiles import FloatArray

SHAPE = (6, 5, 7)


class Slope:
    """A stand-in for a 2D network: pixels differ along the first axis of a slice from those before them."""

    name, precision = "slope", "f32"

    def __call__(self, tiles: FloatArray) -> FloatArray:
        steps = np.diff(tiles, axis=2, prepend=tiles[:, :, :1])
        return np.concatenate([steps.sum(1, keepdims=True), tiles[:, -1:]], axis=1)


def predictor(axes: tuple[int, ...], context: int = 0, **settings: object) -> Predictor:
    return Predictor(
        engines=[Slope()],
        stride=(1, 1),
        radius=(1, 1),
        tile_independent=True,
        tile=(64, 64, 1),
        slice_axes=axes,
        context=context,
        **settings,  # type: ignore[arg-type]
    )


def image() -> FloatArray:
    return np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)


def by_hand(axis: int, context: int) -> FloatArray:
    """Softmax of the stand-in's answer to each slice, a slice at a time."""
    view = np.swapaxes(image()[0], axis, 2)
    out = np.empty((2, *view.shape), np.float32)
    for n in range(view.shape[2]):
        around = [view[..., min(max(n + o, 0), view.shape[2] - 1)] for o in range(-context, context + 1)]
        slopes = sum(np.diff(x, axis=0, prepend=x[:1]) for x in around)
        odds = np.exp(slopes - around[-1])
        out[:, :, :, n] = odds / (1 + odds), 1 / (1 + odds)
    return np.swapaxes(out, axis + 1, 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("context", [0, 1, 3])
def test_each_slice_is_answered_by_itself_and_its_neighbours(axis: int, context: int) -> None:
    found = predictor((axis,), context).probabilities(image())
    np.testing.assert_allclose(found, by_hand(axis, context), atol=1e-6)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0), (1, 2)])
def test_several_axes_are_averaged(axes: tuple[int, ...]) -> None:
    found = predictor(axes).probabilities(image())
    expected = np.mean([by_hand(axis, 0) for axis in axes], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (1,), (2, 1)])
def test_rows_come_once_and_in_order(axes: tuple[int, ...]) -> None:
    runs = [rows for rows, _ in predictor(axes, 1).rows(image())]
    assert [n for rows in runs for n in range(rows.start, rows.stop)] == list(range(SHAPE[0]))


def test_the_image_is_left_alone() -> None:
    given = image()
    given.setflags(write=False)
    predictor((0, 2), 1).probabilities(given)
    np.testing.assert_array_equal(given, image())
    assert with_neighbours(given, 0) is given
    assert np.shares_memory(turned(given, 0), given)


def test_mirrored_slices_are_refused_where_neighbours_would_trade_places() -> None:
    for axes, context, flips in (((0,), 0, ((1,),)), ((2,), 1, ((2,),)), ((1,), 1, ((0, 1),))):
        with pytest.raises(UsageError, match="cannot be averaged with mirrored slices"):
            predictor(axes, context, flips=flips)
    predictor((2,), 1, flips=((0,),))
