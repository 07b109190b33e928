"""Connected components: pieces of masks and of label maps."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.components import components


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_touch_at_corners(dtype: type, order: str) -> None:
    labels = np.zeros((5, 5, 5), dtype, order=order)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[4, 4, 4] = 1
    found = components(labels)
    assert found.max() == 2
    assert found[0, 0, 0] == found[1, 1, 1] != found[4, 4, 4]
    assert components(labels, 18).max() == 3
    assert not components(np.zeros_like(labels)).any()


def test_values_that_touch_are_pieces_of_their_own() -> None:
    assert len(np.unique(components(np.array([1, 2, 2, 1], np.uint8)[:, None, None]))) == 3


def test_a_mask_has_as_many_pieces_as_it_likes() -> None:
    mask = np.zeros((40, 40, 40), np.bool_)
    mask[::2, ::2, ::2] = True
    assert components(mask).max() == 8000


def test_an_array_that_cannot_be_written_is_taken() -> None:
    labels = np.ones((3, 3, 3), np.uint8)
    labels.flags.writeable = False
    assert components(labels).max() == 1
