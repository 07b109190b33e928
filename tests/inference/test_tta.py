"""Mirrored views come back to where they were, left and right with their own names."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ModelError, UsageError
from medseg.core.structures import from_labels
from medseg.inference.tta import View, views

TWINS = from_labels({1: "left kidney", 2: "right kidney", 3: "liver"}).twin_channels()


def tiles(channels=4):
    return np.random.default_rng(0).random((2, channels, 3, 4, 5), dtype=np.float32)


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_back_undoes_forth(axes):
    view = View(axes)
    np.testing.assert_array_equal(view.backward(view.forward(tiles())), tiles())


@pytest.mark.fault("reliability 53")
def test_a_left_right_flip_trades_the_outputs_of_twins():
    logits = tiles()
    back = View((0,), TWINS).backward(logits)
    np.testing.assert_array_equal(back, logits[:, [0, 2, 1, 3], ::-1])


def test_a_flip_that_leaves_left_and_right_keeps_the_outputs():
    logits = tiles()
    np.testing.assert_array_equal(View((1,), TWINS).backward(logits), logits[:, :, :, ::-1])


def test_outputs_must_be_as_many_as_the_structures_make():
    with pytest.raises(ModelError, match=r"5 outputs.*4"):
        View((0,), TWINS).backward(tiles(5))


@pytest.mark.parametrize("flips", [((),), ((3,),), ((0, 0),), ((0, 1), (1, 0)), ((-1,),)])
def test_flips_that_make_no_sense_are_refused(flips):
    with pytest.raises(UsageError, match="flips"):
        views(flips, ())
