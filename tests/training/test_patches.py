"""Voxel size, patch and levels of a plan."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.training.planning.patches import MOST_COARSE, VOXELS_ACROSS, geometry

ISOTROPIC = (1.0, 1.0, 1.0)


def test_scans_that_fit_keep_their_voxels_and_are_seen_whole() -> None:
    found = geometry((36.0, 50.0, 35.0), ISOTROPIC, 15.0, 300_000)
    assert (found.spacing_mm, found.patch, found.whole) == (ISOTROPIC, (40, 56, 40), True)
    assert found.strides == ((2, 2, 2),) * 3
    assert found.kernels == ((3, 3, 3),) * 4


def test_larger_scans_get_longer_voxels_until_a_patch_holds_them() -> None:
    found = geometry((120.0, 90.0, 55.0), (0.625,) * 3, 45.0, 350_000)
    # 120 * 90 * 55 mm3 / 350000 voxels = 1.70 mm3, the cube of 1.19 mm
    assert found.spacing_mm == (1.19, 1.19, 1.19)
    assert found.whole


def test_voxels_are_made_longer_by_a_factor_of_two_at_most() -> None:
    found = geometry((400.0, 400.0, 300.0), (0.8, 0.8, 2.5), 60.0, 300_000)
    assert found.spacing_mm == (1.6, 1.6, 2.5)
    assert not found.whole


def test_the_thinnest_structure_keeps_voxels_across() -> None:
    found = geometry((200.0, 200.0, 200.0), ISOTROPIC, 24.0, 300_000)
    assert found.spacing_mm == (1.5, 1.5, 1.5)  # 24 mm in 16 voxels


def test_thick_slices_are_neither_pooled_nor_convolved_along_first() -> None:
    found = geometry((180.0, 180.0, 75.0), (0.6, 0.6, 3.6), 46.0, 300_000)
    assert found.strides[0] == (2, 2, 1)
    assert found.kernels[0] == (3, 3, 1)
    assert found.kernels[-1] == (3, 3, 3)


def test_slices_stay_slices() -> None:
    found = geometry((300.0, 300.0, 1.0), ISOTROPIC, 20.0, 300_000)
    assert found.patch[2] == 1
    assert all(sizes[2] == 1 for sizes in (*found.kernels, *found.strides))


@given(
    st.tuples(*[st.floats(1.0, 600.0)] * 3),
    st.tuples(*[st.floats(0.2, 6.0)] * 3),
    st.floats(1.0, 100.0),
    st.floats(32**3, 160**3),
)
def test_geometry_keeps_its_rules(
    extent: tuple[float, float, float],
    spacing: tuple[float, float, float],
    smallest: float,
    voxels: float,
) -> None:
    found = geometry(extent, spacing, smallest, voxels)
    steps = [math.prod(axis) for axis in zip(*found.strides, strict=True)] if found.strides else [1, 1, 1]
    assert all(n % s == 0 for n, s in zip(found.patch, steps, strict=True))
    assert len(found.kernels) == len(found.strides) + 1
    assert all(a >= b - 0.005 for a, b in zip(found.spacing_mm, spacing, strict=True))
    limit = max(min(spacing), min(MOST_COARSE * min(spacing), smallest / VOXELS_ACROSS))
    assert all(a <= max(b, limit) + 0.006 for a, b in zip(found.spacing_mm, spacing, strict=True))
    rounded = math.prod(max(8, s) if n > 1 else 1 for n, s in zip(found.patch, steps, strict=True))
    assert math.prod(found.patch) <= max(1.15 * voxels, rounded)


@pytest.mark.parametrize("voxels", [60_000, 250_000, 1_000_000])
def test_more_voxels_never_show_less(voxels: int) -> None:
    less, more = (geometry((150.0, 170.0, 140.0), ISOTROPIC, 30.0, n) for n in (voxels, 2 * voxels))
    seen = [math.prod(p * s for p, s in zip(g.patch, g.spacing_mm, strict=True)) for g in (less, more)]
    assert more.spacing_mm <= less.spacing_mm
    assert seen[1] >= 0.9 * seen[0]
