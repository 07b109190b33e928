"""Affine maths against hand calculations, and against what a rotation or a crop must leave alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from medseg.core import affine as aff

SHAPE = (5, 4, 3)
STORAGES = [(p, f) for p in itertools.permutations(range(3)) for f in itertools.product((1, -1), repeat=3)]


def oblique(degrees: tuple[float, float, float] = (20.0, -10.0, 5.0)) -> NDArray[np.float64]:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * (1.0, 2.0, 0.5)
    out[:3, 3] = (10.0, -20.0, 30.0)
    return out


def stored(affine: NDArray[np.float64], axes: tuple[int, ...], signs: tuple[int, ...]) -> NDArray[np.float64]:
    """The affine of the same voxels with their axes in another order and direction."""
    step = np.zeros((4, 4))
    step[3, 3] = 1.0
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        step[old, new] = sign
        step[old, 3] = 0 if sign > 0 else SHAPE[old] - 1
    return affine @ step


def test_spacing_and_voxel_volume_do_not_depend_on_the_pose() -> None:
    np.testing.assert_allclose(aff.spacing_mm(oblique()), (1.0, 2.0, 0.5))
    assert aff.voxel_volume_mm3(oblique()) == pytest.approx(1.0)
    assert aff.voxel_volume_mm3(np.diag([-1.0, 2.0, 3.0, 1.0])) == pytest.approx(6.0)


def test_a_sheared_voxel_is_as_large_as_its_base_times_its_height() -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 1.0
    assert aff.voxel_volume_mm3(sheared) == pytest.approx(1.0)
    assert aff.spacing_mm(sheared) == pytest.approx((1.0, np.sqrt(2), 1.0))


@pytest.mark.parametrize("degrees", [0.0, 0.5, 5.0, 40.0])
def test_shear_is_the_angle_an_axis_was_tilted_by(degrees: float) -> None:
    tilted = oblique()
    angle = np.radians(degrees)
    # Tilt the second axis towards the first, whatever their spacings.
    unit = tilted[:3, :3] / aff.spacing_mm(tilted)
    tilted[:3, 1] = 2.0 * (np.cos(angle) * unit[:, 1] + np.sin(angle) * unit[:, 0])
    assert aff.shear_degrees(tilted) == pytest.approx(degrees, abs=1e-6)


def test_points_go_through_the_affine() -> None:
    affine = np.array([[0, -2.0, 0, 10], [1.0, 0, 0, 20], [0, 0, 3.0, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(aff.apply(affine, (1, 2, 3)), (6.0, 21.0, 39.0))
    np.testing.assert_array_equal(aff.apply(affine, np.zeros((2, 5, 3))), np.full((2, 5, 3), (10, 20, 30)))


def test_corners_are_the_centres_of_corner_voxels() -> None:
    corners = aff.corner_centres_mm(np.diag([2.0, 2.0, 2.0, 1.0]), SHAPE)
    assert corners.shape == (8, 3)
    assert {tuple(c) for c in corners} == set(itertools.product((0.0, 8.0), (0.0, 6.0), (0.0, 4.0)))


@pytest.mark.parametrize(("axes", "signs"), STORAGES)
def test_axis_order_undoes_every_way_of_storing(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    world, directions = aff.axis_order(stored(oblique(), axes, signs))
    assert world == axes
    assert directions == signs


@pytest.mark.parametrize(
    "degrees", [(0.0, 0.0, 45.0), (45.0, 0.0, 0.0), (0.0, 45.0, 0.0), (45.0, 35.264, 0.0)]
)
def test_a_tie_is_broken_by_where_the_voxels_lie(degrees: tuple[float, float, float]) -> None:
    """Read in canonical order, all 48 storages of a grid at 45 degrees have one and the same affine."""
    found = []
    for axes, signs in STORAGES:
        held = stored(oblique(degrees), axes, signs)
        shape = [SHAPE[a] for a in axes]
        world, directions = aff.axis_order(held)
        turned = np.eye(4)
        for axis, (to, sign) in enumerate(zip(world, directions, strict=True)):
            turned[:3, to] = held[:3, axis] * sign
        origin = [0 if sign > 0 else n - 1 for sign, n in zip(directions, shape, strict=True)]
        turned[:3, 3] = aff.apply(held, origin)
        found.append(turned)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-9)


@pytest.mark.parametrize(
    ("diagonal", "codes"), [((1, 1, 1), "RAS"), ((-1, -1, 1), "LPS"), ((1, -1, -1), "RPI")]
)
def test_codes_name_the_ends_the_indices_grow_towards(diagonal: tuple[int, ...], codes: str) -> None:
    assert aff.axis_codes(np.diag([*diagonal, 1.0])) == codes
    assert aff.axis_codes(np.diag([*diagonal, 1.0])[:, [2, 0, 1, 3]]) == codes[2] + codes[:2]


def test_a_crop_moves_the_origin_only() -> None:
    moved = aff.shifted(oblique(), (1, 2, 3))
    np.testing.assert_array_equal(moved[:3, :3], oblique()[:3, :3])
    np.testing.assert_allclose(aff.apply(moved, (0, 0, 0)), aff.apply(oblique(), (1, 2, 3)))
    np.testing.assert_array_equal(aff.shifted(oblique(), (0, 0, 0)), oblique())


@pytest.mark.parametrize("new_shape", [(5, 4, 3), (10, 8, 6), (3, 9, 1)])
def test_rescaling_keeps_the_edges_of_the_box(new_shape: tuple[int, int, int]) -> None:
    rescaled = aff.rescaled(oblique(), SHAPE, new_shape)
    for end in itertools.product((0, 1), repeat=3):
        old = [e * n - 0.5 for e, n in zip(end, SHAPE, strict=True)]
        new = [e * n - 0.5 for e, n in zip(end, new_shape, strict=True)]
        np.testing.assert_allclose(aff.apply(rescaled, new), aff.apply(oblique(), old), atol=1e-9)


def test_nothing_is_written_into_the_affine_given() -> None:
    given = oblique()
    aff.shifted(given, (1, 1, 1))
    aff.rescaled(given, SHAPE, (1, 2, 3))
    np.testing.assert_array_equal(given, oblique())
