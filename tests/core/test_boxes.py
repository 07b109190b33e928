"""Boxes: around what there is, united, widened, and where an array ends."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.boxes import (
    MOST_NUMBERS,
    Box,
    around,
    bounding_box,
    centroid,
    faces_reached,
    label_boxes,
    profiles,
    relative,
    union,
    widened,
)
from medseg.core.errors import GeometryError
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid

SHAPE = (7, 8, 9)


def cube(value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    labels = np.zeros(SHAPE, dtype)
    labels[1:3, 2:5, 4] = value
    return labels


CUBE = (slice(1, 3), slice(2, 5), slice(4, 5))


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float32, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_bounding_box_holds_every_voxel_that_is_not_zero(dtype: type, order: str) -> None:
    assert bounding_box(np.asarray(cube(1, dtype), order=order)) == CUBE
    assert bounding_box(np.zeros(SHAPE, dtype)) is None
    assert bounding_box(np.zeros((0, 2, 2), dtype)) is None
    assert bounding_box(np.ones(SHAPE, dtype)) == tuple(slice(0, n) for n in SHAPE)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(3, np.uint8), (300, np.uint16), (MOST_NUMBERS + 1, np.int32), (2**63, np.uint64), (-3, np.int16)],
)
def test_the_box_of_a_label_does_not_depend_on_its_value(value: int, dtype: type) -> None:
    labels = cube(value, dtype)
    labels[6, 7, 8] = 1
    assert label_boxes(labels, [value, 5]) == {value: CUBE}
    assert label_boxes(labels, [1])[1] == (slice(6, 7), slice(7, 8), slice(8, 9))
    assert label_boxes(labels, []) == label_boxes(labels[:0], [value]) == {}


def test_values_that_the_type_cannot_hold_have_no_box() -> None:
    assert label_boxes(cube(), [1, 257, -255]) == {1: CUBE}


def test_a_region_has_the_box_of_all_its_members() -> None:
    labels = cube(1)
    labels[5, 5, 5] = 4
    regions = (Structure(1, "whole", members=(1, 2, 4)), Structure(2, "core", members=(2,)))
    found = StructureSet(regions).boxes(labels)
    assert found == {"whole": (slice(1, 6), slice(2, 6), slice(4, 6))}
    assert union([CUBE, (slice(5, 6),) * 3]) == found["whole"]


def test_boxes_are_widened_within_the_array() -> None:
    assert widened(CUBE, 3, SHAPE) == (slice(0, 6), slice(0, 8), slice(1, 8))
    assert widened(CUBE, (0, 1, 9), SHAPE) == (slice(1, 3), slice(1, 6), slice(0, 9))
    assert widened(CUBE, 0, SHAPE) == CUBE
    assert relative(CUBE, widened(CUBE, 1, SHAPE)) == (slice(1, 3), slice(1, 4), slice(1, 2))


def test_a_box_reaches_the_faces_that_its_voxels_lie_in() -> None:
    assert faces_reached(CUBE, SHAPE) == ()
    assert faces_reached(CUBE, (3, 5, 5)) == ((0, -1), (1, -1), (2, -1))
    assert faces_reached((slice(0, 3), slice(0, 1), slice(1, 2)), (4, 4, 4)) == ((0, 0), (1, 0))
    assert faces_reached((slice(0, 2), slice(0, 2), slice(0, 1)), (4, 4, 1)) == ((0, 0), (1, 0))


def test_a_box_keeps_its_place_in_the_world() -> None:
    box = Box.of(CUBE)
    assert box.moved((1, 0, -2)).slices == (slice(2, 4), slice(2, 5), slice(2, 3))
    assert around([box, box.moved((1, 0, 0))]) == Box((1, 2, 4), (4, 5, 5))
    grid = Grid(SHAPE, np.diag([2.0, 3.0, 4.0, 1.0]))
    assert box.grid(grid).affine[:3, 3].tolist() == [2.0, 6.0, 16.0]
    with pytest.raises(GeometryError, match="does not fit"):
        box.moved((0, 0, 7)).grid(grid)


def test_the_centroid_is_the_mean_of_the_voxels() -> None:
    mask = np.random.default_rng(0).random(SHAPE) < 0.1
    found = profiles(mask)
    assert [counts.sum() for counts in found] == [mask.sum()] * 3
    np.testing.assert_allclose(centroid(found), np.argwhere(mask).mean(axis=0), rtol=1e-12)
