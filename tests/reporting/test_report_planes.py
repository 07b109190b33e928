"""The patient's left is on the right of the image, whatever the order of the array."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.core import affine as aff
from medseg.core.volume import FileForm, Grid
from medseg.reporting.drawing.planes import planes, position

LETTERS = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
SPACING_OF_WORLD = (1.5, 2.0, 3.0)
SIZE_OF_WORLD = (5, 7, 9)


def grids() -> list[Grid]:
    """All 48 ways an array can lie along the world's axes; spacing and size belong to the world axis."""
    out = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = 0
            for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[world, axis] = sign * SPACING_OF_WORLD[world]
            matrix[:3, 3] = (-4.0, 11.0, 2.5)
            out.append(Grid([SIZE_OF_WORLD[w] for w in order], matrix))
    return out


def corner_towards(grid: Grid, letters: str) -> tuple[int, ...]:
    """Index of the corner voxel furthest towards all the letters (say "LAS")."""
    towards = np.array([{"R": 1, "A": 1, "S": 1}.get(letter, -1) for letter in letters])
    corners = list(itertools.product(*((0, n - 1) for n in grid.shape)))
    reach = aff.apply(grid.affine, corners) @ towards
    return corners[int(np.argmax(reach))]


@pytest.mark.parametrize("grid", grids(), ids=lambda g: g.axis_codes)
def test_a_marked_corner_lands_where_its_letters_say(grid: Grid) -> None:
    for letters in map("".join, itertools.product("LR", "PA", "IS")):
        array = np.zeros(grid.shape)
        corner = corner_towards(grid, letters)
        array[corner] = 1
        for plane in planes(grid):
            image = plane.cut(array, corner[plane.axis])
            row, column = np.argwhere(image)[0]
            assert plane.letters is not None
            left, right, top, bottom = plane.letters
            assert (left if column == 0 else right) in letters
            assert (top if row == 0 else bottom) in letters
            assert column in (0, image.shape[1] - 1)


@pytest.mark.parametrize("grid", grids(), ids=lambda g: g.axis_codes)
def test_every_orientation_gives_the_same_three_images(grid: Grid) -> None:
    world = aff.apply(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    array = world @ (1.0, 100.0, 10000.0)
    for plane in planes(grid):
        assert plane.letters == LETTERS[plane.name]
        image = plane.cut(array, 0)
        along, down = (
            (100.0 if plane.name == "sagittal" else 1.0),
            (100.0 if plane.name == "axial" else 10000.0),
        )
        step_along, step_down = np.diff(image, axis=1), np.diff(image, axis=0)
        np.testing.assert_allclose(step_along, -along * plane.pixel_mm[1], rtol=1e-9)
        np.testing.assert_allclose(step_down, -down * plane.pixel_mm[0], rtol=1e-9)


def test_a_voxel_on_the_patients_left_is_on_the_right_of_the_image() -> None:
    grid = Grid((4, 4, 4), np.eye(4))  # x grows to the patient's right, so index 0 is leftmost
    array = np.zeros(grid.shape)
    array[0, 1, 2] = 1
    axial = planes(grid)[0].cut(array, 2)
    assert np.argwhere(axial).tolist() == [[2, 3]]


def test_the_size_of_a_slice_is_physical() -> None:
    grid = Grid((10, 20, 4), np.diag([1.0, 1.0, 5.0, 1.0]))
    sizes = {p.name: p.size_mm(grid.shape) for p in planes(grid)}
    assert sizes == {"axial": (20.0, 10.0), "coronal": (20.0, 10.0), "sagittal": (20.0, 20.0)}


@pytest.mark.parametrize(("thin", "name"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_a_scan_of_one_slice_has_one_view(thin: int, name: str) -> None:
    shape = [6, 6, 6]
    shape[thin] = 1
    assert [p.name for p in planes(Grid(shape, np.eye(4)))] == [name]


def test_a_single_row_of_voxels_still_has_a_view() -> None:
    assert len(planes(Grid((1, 1, 8), np.eye(4)))) == 1


def test_without_an_orientation_there_are_no_letters_and_no_positions() -> None:
    grid = Grid((3, 4, 5), np.diag([-1.0, 1.0, 1.0, 1.0]))
    array = np.arange(60).reshape(grid.shape)
    views = planes(grid, orientation_known=False)
    assert all(p.letters is None and position(grid, p, (0, 0, 0)) == "" for p in views)
    np.testing.assert_array_equal(views[0].cut(array, 2), array[:, :, 2].T)  # I across, J down, as stored


def test_a_file_without_codes_has_no_orientation() -> None:
    assert not FileForm(sform_code=0, qform_code=0).orientation_known
    assert FileForm(sform_code=0, qform_code=1).orientation_known


def test_the_tilt_is_the_angle_of_the_rotation() -> None:
    angle = np.radians(17.0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert aff.tilt_degrees(matrix) == pytest.approx(17.0)


def test_a_position_names_its_side_of_the_origin() -> None:
    grid = Grid((9, 9, 9), aff.shifted(np.eye(4), (-4, -4, -4)))
    where = {p.name: position(grid, p, (1, 6, 4)) for p in planes(grid)}
    assert where == {"axial": "S 0.0 mm", "coronal": "A 2.0 mm", "sagittal": "L 3.0 mm"}
