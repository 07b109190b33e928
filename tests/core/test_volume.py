"""Grids know where their voxels lie; volumes and label maps refuse what does not fit theirs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from medseg.core.errors import GeometryError, GridMismatchError
from medseg.core.volume import SAME_GRID_MM, Grid, LabelMap, Volume

SHAPE = (4, 3, 2)


def moved(x_mm: float) -> Grid:
    affine = np.eye(4)
    affine[0, 3] = x_mm
    return Grid(SHAPE, affine)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 1), (4, 0, 2), (4, -1, 2), (4, 2.5, 2)])
def test_a_shape_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="positive sizes"):
        Grid(shape, np.eye(4))


def with_entry(row: int, column: int, value: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        with_entry(0, 3, np.nan),
        with_entry(1, 1, np.inf),
        with_entry(2, 2, 0.0),
        with_entry(3, 0, 1.0),
        with_entry(3, 3, 2.0),
        with_entry(0, 0, 1e200),
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [[100, 100, 0, 0], [100, 100 + 1e-6, 0, 0], [0, 0, 100, 0], [0, 0, 0, 1]],
    ],
)
def test_an_affine_that_is_none_is_refused(affine: ArrayLike) -> None:
    with pytest.raises(GeometryError, match=r"affine"):
        Grid(SHAPE, affine)


@pytest.mark.parametrize("size", [1e-5, 1.0, 1e4])
def test_a_grid_may_have_any_scale(size: float) -> None:
    grid = Grid(SHAPE, np.diag([size, size, size, 1.0]))
    assert grid.spacing_mm == pytest.approx((size, size, size))
    assert grid.voxel_volume_mm3 == pytest.approx(size**3)


def test_a_grid_is_a_copy_that_cannot_be_changed() -> None:
    affine = np.eye(4)
    grid = Grid(np.array(SHAPE), affine)
    affine[0, 0] = 5.0
    assert grid.spacing_mm == (1.0, 1.0, 1.0)
    assert grid.shape == SHAPE
    assert grid.voxels == 24
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2.0


def test_grids_are_the_same_up_to_a_micrometre_at_the_corners() -> None:
    assert moved(0).matches(moved(0.9 * SAME_GRID_MM))
    assert not moved(0).matches(moved(1.1 * SAME_GRID_MM))
    assert moved(0).offset_mm(moved(3.0)) == pytest.approx(3.0)


def test_a_turn_counts_at_the_far_corner() -> None:
    """A tilt of 0.001 moves the last of a thousand voxels by a millimetre."""
    tilted = np.eye(4)
    tilted[1, 0] = 1e-3
    long = Grid((1001, 2, 2), np.eye(4))
    assert long.offset_mm(Grid((1001, 2, 2), tilted)) == pytest.approx(1.0)


def test_other_shapes_never_match() -> None:
    other = Grid((4, 3, 3), np.eye(4))
    assert moved(0).offset_mm(other) == np.inf
    assert not moved(0).matches(other, tolerance_mm=1e9)


def test_a_mismatch_is_told_with_both_grids_and_the_distance() -> None:
    moved(0).require(moved(0), "image and labels")
    with pytest.raises(GridMismatchError) as fault:
        moved(0).require(moved(2.5), "image and labels", source="a.nii.gz")
    text = str(fault.value)
    assert text.startswith("a.nii.gz: image and labels lie on different grids")
    assert "4x3x2 RAS at 1x1x1 mm" in text
    assert "2.5 mm apart (limit 0.001 mm)" in text
    assert fault.value.exit_code == 4


def test_a_volume_needs_an_array_for_its_channels_and_grid() -> None:
    volume = Volume(np.zeros((2, *SHAPE), np.int16), moved(0), ("flair", "t1"))
    assert volume.spatial_shape == SHAPE
    for shape in ((1, *SHAPE), SHAPE, (2, 3, 4, 2)):
        with pytest.raises(GeometryError, match="channels need"):
            Volume(np.zeros(shape), moved(0), ("flair", "t1"))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.complex64])
def test_labels_are_integers(dtype: type) -> None:
    with pytest.raises(GeometryError, match="integers"):
        LabelMap(np.zeros(SHAPE, dtype), moved(0))


def test_labels_need_an_array_for_their_grid() -> None:
    LabelMap(np.zeros(SHAPE, np.uint8), moved(0))
    with pytest.raises(GeometryError, match="and the grid"):
        LabelMap(np.zeros((3, 4, 2), np.uint8), moved(0))


def test_voxels_are_read_only_through_the_holder_and_not_copied() -> None:
    array = np.zeros(SHAPE, np.uint8)
    labels = LabelMap(array, moved(0))
    volume = Volume(array[None], moved(0), ("image",))
    assert np.shares_memory(labels.array, array)
    for held in (labels.array, volume.array):
        with pytest.raises(ValueError, match="read-only"):
            held[0] = 1
    array[0] = 1
