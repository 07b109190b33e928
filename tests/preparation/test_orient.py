"""Axis order: a scan stays where it is in the world, and comes back as it was."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.volume import Grid
from medseg.preparation.orient import Reorientation, canonical

TURNS = [
    Reorientation(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
SHAPE = (4, 5, 6)


def turned(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """An affine with uneven spacing, turned about the three axes in order."""
    out = np.diag([0.9, 1.3, 2.1, 1.0])
    out[:3, 3] = -30.0, 12.5, 7.25
    for axis, angle in enumerate(degrees):
        a, b = (n for n in range(3) if n != axis)
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        step = np.eye(4)
        step[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
        out = step @ out
    return out


AFFINES = {
    "straight": turned((0.0, 0.0, 0.0)),
    "oblique": turned((13.0, -21.0, 34.0)),
    "tied": turned((0.0, 0.0, 45.0)),
}


def test_there_are_forty_eight() -> None:
    assert len(set(TURNS)) == 48


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_backward_undoes_forward_with_leading_axes_too(turn: Reorientation) -> None:
    array = np.arange(2 * 4 * 5 * 6).reshape(2, *SHAPE)
    np.testing.assert_array_equal(turn.backward(turn.forward(array)), array)
    np.testing.assert_array_equal(turn.backward(turn.forward(array[0])), array[0])


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_every_voxel_keeps_its_place_in_the_world(turn: Reorientation) -> None:
    grid = Grid(SHAPE, AFFINES["oblique"])
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = aff.apply(grid.affine, index).transpose(3, 0, 1, 2)
    new = turn.grid(grid)
    new_index = np.stack(np.meshgrid(*map(np.arange, new.shape), indexing="ij"), axis=-1)
    expected = aff.apply(new.affine, new_index).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(turn.forward(places), expected, atol=1e-9)


@pytest.mark.parametrize("name", AFFINES)
def test_all_48_ways_to_store_a_scan_have_one_canonical_form(name: str) -> None:
    array = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    grid = Grid(SHAPE, AFFINES[name])
    reference = canonical(grid)
    for turn in TURNS:
        stored = turn.grid(grid)
        again = canonical(stored)
        np.testing.assert_array_equal(again.forward(turn.forward(array)), reference.forward(array))
        np.testing.assert_allclose(
            again.grid(stored).affine, reference.grid(grid).affine, atol=1e-9, err_msg=str(turn)
        )


@pytest.mark.parametrize("name", AFFINES)
def test_canonical_axes_grow_to_the_right_front_and_top(name: str) -> None:
    grid = Grid(SHAPE, AFFINES[name])
    assert canonical(grid).grid(grid).axis_codes == "RAS"


def test_canonical_matches_nibabel() -> None:
    nibabel = pytest.importorskip("nibabel")
    array = np.arange(math.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    for turn in TURNS:
        stored = turn.grid(Grid(SHAPE, AFFINES["oblique"]))
        values = np.ascontiguousarray(turn.forward(array))
        theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, stored.affine))
        ours = canonical(stored)
        np.testing.assert_array_equal(ours.forward(values), np.asarray(theirs.dataobj))
        np.testing.assert_allclose(ours.grid(stored).affine, theirs.affine, atol=1e-6)


def test_a_header_that_says_left_for_right_changes_the_answer() -> None:
    array = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    affine = AFFINES["straight"]
    mirrored = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    here = canonical(Grid(SHAPE, affine)).forward(array)
    there = canonical(Grid(SHAPE, mirrored)).forward(array)
    np.testing.assert_array_equal(there, here[::-1])
    assert not np.array_equal(there, here)
