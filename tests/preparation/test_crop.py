"""Boxes: the smallest one that holds everything, out and back."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.boxes import Box, whole
from medseg.core.errors import GeometryError, InputError
from medseg.core.volume import Grid
from medseg.preparation.crop import corner_values, foreground_box, object_box


def test_the_box_is_the_smallest_that_holds_every_voxel() -> None:
    array = np.zeros((7, 8, 9))
    array[2, 3, 4] = array[4, 3, 6] = -1.0
    assert foreground_box(array) == Box((2, 3, 4), (5, 4, 7))


def test_any_channel_counts() -> None:
    array = np.zeros((2, 7, 8, 9), np.int16)
    array[0, 1, 1, 1] = array[1, 5, 6, 7] = 3
    assert foreground_box(array) == Box((1, 1, 1), (6, 7, 8))


def test_the_margin_stops_at_the_array() -> None:
    array = np.zeros((7, 8, 9))
    array[1, 4, 8] = 1
    assert foreground_box(array, margin_voxels=2) == Box((0, 2, 6), (4, 7, 9))


def test_the_background_is_what_all_corners_share() -> None:
    array = np.full((3, 7, 8, 9), -0.25, np.float32)
    array[1] = 4.0
    array[2, 0, 0, 0] = 1.0
    array[0, 2, 3, 4] = 0.0
    assert corner_values(array) == [-0.25, 4.0, None]
    assert foreground_box(array[:2], background=corner_values(array[:2])) == Box((2, 3, 4), (3, 4, 5))
    assert foreground_box(array, background=corner_values(array)) == whole((7, 8, 9))


def test_nothing_to_crop_to_is_refused() -> None:
    with pytest.raises(InputError, match="background"):
        foreground_box(np.zeros((3, 3, 3)))


@pytest.mark.parametrize(("start", "stop"), [((0, 0, 0), (2, 0, 2)), ((-1, 0, 0), (2, 2, 2))])
def test_an_impossible_box_is_refused(start: tuple[int, int, int], stop: tuple[int, int, int]) -> None:
    with pytest.raises(GeometryError):
        Box(start, stop)


def test_the_box_of_everything_is_the_array() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(array[whole((2, 3, 4)).slices], array)


def test_the_crop_stays_in_its_place_in_the_world() -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    grid = Box((1, 2, 3), (4, 5, 6)).grid(Grid((5, 6, 7), affine))
    assert grid.shape == (3, 3, 3)
    np.testing.assert_allclose(grid.affine[:3, 3], [5 - 2 * 2, 6 + 1 * 1, 7 + 3 * 3])


def test_a_box_beyond_the_grid_is_refused() -> None:
    with pytest.raises(GeometryError, match="fit"):
        Box((0, 0, 0), (4, 4, 4)).grid(Grid((4, 4, 3), np.eye(4)))


@pytest.mark.parametrize("inverted", [False, True])
def test_an_object_stands_out_from_noisy_air(inverted: bool) -> None:
    rng = np.random.default_rng(0)
    array = np.abs(rng.normal(0, 2, (1, 40, 44, 48)))
    array[0, 10:30, 12:30, 20:44] += 100
    array = 200 - array if inverted else array
    assert object_box(array, (0, 0, 0)) == Box((10, 12, 20), (30, 30, 44))
    assert object_box(array, (3, 3, 6)) == Box((7, 9, 14), (33, 33, 48))


def test_specks_are_no_object_and_noise_is_no_background() -> None:
    array = np.zeros((1, 40, 40, 40))
    array[0, 10:30, 10:30, 10:30] = 100
    array[0, 2, 2, 2] = array[0, 38, 38, 38] = 100
    assert object_box(array, (0, 0, 0)) == Box((10, 10, 10), (30, 30, 30))
    noise = np.random.default_rng(0).normal(100, 20, (1, 20, 20, 20))
    assert object_box(noise, (0, 0, 0)) == whole((20, 20, 20))
    assert object_box(np.full((1, 6, 6, 6), 3.0), (1, 1, 1)) == whole((6, 6, 6))
