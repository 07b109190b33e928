"""Objects of slices that follow one another become one object of a volume."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.instances.linking import linked
from medseg.instances.painting import Located, painted

FULL = np.ones((4, 4), np.float32)


def flat(*ends: float, label: int = 0, score: float = 0.5, mask: np.ndarray = FULL) -> Located:
    return Located(np.array(ends, np.float64), label, score, mask)


def test_what_overlaps_from_slice_to_slice_is_one_object() -> None:
    slices = [
        [],
        [flat(2, 2, 8, 8, score=0.4), flat(20, 20, 24, 24, score=0.9)],
        [flat(2, 3, 8, 8, score=0.8)],
        [flat(2, 3, 8, 9, score=0.6), flat(20, 20, 24, 24, score=0.7)],
    ]
    found = linked(slices)
    assert [one.score for one in found] == pytest.approx([0.9, 0.7, 0.6])
    assert found[2].box.tolist() == [2, 2, 1, 8, 9, 4]
    assert [one.box[2::3].tolist() for one in found[:2]] == [[1, 2], [3, 4]], "a slice without it parts two"
    numbers, kept = painted(found, (32, 32, 4))
    assert len(kept) == 3
    assert not numbers[..., 0].any()
    own = numbers == 3
    assert [int(own[..., k].sum()) for k in range(4)] == pytest.approx([0, 36, 30, 36], abs=6)


def test_objects_of_two_structures_are_never_one() -> None:
    found = linked([[flat(2, 2, 8, 8, label=0)], [flat(2, 2, 8, 8, label=1)]])
    assert sorted(one.label for one in found) == [0, 1]


def test_an_object_goes_on_once() -> None:
    found = linked([[flat(2, 2, 8, 8, score=0.9), flat(2, 2, 8, 7, score=0.3)], [flat(2, 2, 8, 8)]])
    assert sorted(one.box[5] - one.box[2] for one in found) == [1, 2]
    assert max(found, key=lambda one: one.box[5] - one.box[2]).score == pytest.approx(0.7)


def test_nothing_is_nothing() -> None:
    assert linked([[], []]) == []
