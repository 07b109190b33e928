"""The facet areas of a cell: marching cubes as an independent oracle, and the cell's symmetries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area

from medseg.metrics.surfels import areas_mm2, codes

SPACING = (1.3, 0.7, 2.9)


def cell_of(code: int, dimensions: int = 3) -> np.ndarray:
    bits = [bool(code >> bit & 1) for bit in range(2**dimensions)]
    return np.array(bits).reshape((2,) * dimensions)


def code_of(cell: np.ndarray) -> int:
    """The code of the cell in the middle of a mask of one voxel a corner."""
    return int(codes(cell)[(1,) * cell.ndim])


def test_a_code_lists_the_corners() -> None:
    assert [code_of(cell_of(c)) for c in range(256)] == list(range(256))
    assert [code_of(cell_of(c, 2)) for c in range(16)] == list(range(16))


def test_areas_are_those_of_marching_cubes() -> None:
    areas = areas_mm2(SPACING)
    assert areas[0] == areas[255] == 0
    for code in range(1, 255):
        cell = cell_of(code)
        minority = cell if cell.sum() <= 4 else ~cell
        mesh = marching_cubes(minority.astype(float), 0.5, spacing=SPACING, method="lorensen")
        assert areas[code] == pytest.approx(mesh_surface_area(*mesh[:2]), rel=1e-5)


def test_inside_and_outside_may_trade_places() -> None:
    np.testing.assert_array_equal(areas_mm2(SPACING), areas_mm2(SPACING)[::-1])
    np.testing.assert_array_equal(areas_mm2(SPACING[:2]), areas_mm2(SPACING[:2])[::-1])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_turning_the_cell_turns_the_spacing(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    turned = areas_mm2([SPACING[axis] for axis in order])
    moved = [code_of(np.flip(cell_of(c), flips).transpose(order)) for c in range(256)]
    np.testing.assert_allclose(turned[moved], areas_mm2(SPACING), rtol=1e-14)


def test_contour_lengths_by_hand() -> None:
    lengths = areas_mm2((3.0, 4.0))
    corner = 0.5 * 5.0
    for code in range(16):
        cell = cell_of(code, 2)
        rows, columns = cell.any(axis=1).sum(), cell.any(axis=0).sum()
        kind = {0: 0.0, 1: corner, 2: {(2, 1): 3.0, (1, 2): 4.0, (2, 2): 2 * corner}, 3: corner, 4: 0.0}[
            cell.sum()
        ]
        assert lengths[code] == (kind[rows, columns] if isinstance(kind, dict) else kind)


def test_the_surface_of_a_box_loses_only_its_edges() -> None:
    """Faces count fully; the bevel of marching cubes takes its share at edges and corners."""
    n, (a, b, c) = 8, SPACING
    area = areas_mm2(SPACING)[codes(np.ones((n, n, n), bool))].sum()
    faces = 2 * (n - 1) ** 2 * (a * b + b * c + a * c)
    edges = 4 * (n - 1) * (a * np.hypot(b, c) + b * np.hypot(a, c) + c * np.hypot(a, b)) / 2
    corners = 8 * np.linalg.norm([a * b, b * c, a * c]) / 8
    assert area == pytest.approx(faces + edges + corners, rel=1e-12)


def test_the_table_cannot_be_spoilt_by_a_caller() -> None:
    areas_mm2(SPACING)[:] = 0
    assert areas_mm2(SPACING)[1] > 0
