"""The picture of draws: grid lines where positions say, outlines, one size for all columns."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.reporting.drawing.draws import Column, Panel, draws_png, panel_of
from medseg.reporting.drawing.planes import planes

SHAPE = (30, 24, 1)
STRUCTURES = from_labels([Structure(1, "liver", colour="#e6194b")])
NONE: StructureSet = from_labels({})


def panel(*, spread: float = 1.0, lit: bool = False, mm: float = 1.0) -> Panel:
    positions = np.indices(SHAPE, np.float32) * spread
    labels = np.zeros(SHAPE, np.uint8)
    if lit:
        labels[8:20, 6:16] = 1
    (axial,) = planes(Grid(SHAPE, np.diag([1.0, mm, 1.0, 1.0])))
    return panel_of(axial, 0, np.zeros(SHAPE, np.float32), labels, positions)


def pixels(*panels: Panel, structures: StructureSet = NONE) -> np.ndarray:
    columns = [Column(f"draw {n}", ("bent",), (one,)) for n, one in enumerate(panels)]
    data = draws_png(columns, structures, window=(0.0, 1.0), heading="x", dots_per_inch=80)
    return matplotlib.image.imread(io.BytesIO(data))[..., :3]


def cyan(picture: np.ndarray) -> int:
    red, green, blue = np.moveaxis(picture, -1, 0)
    return int(((green > red + 0.15) & (blue > red + 0.15)).sum())


def test_a_panel_holds_millimetres_along_the_images_own_axes() -> None:
    found = panel(mm=2.0)
    assert found.pixels.shape == (24, 30)
    assert found.size_mm == (48.0, 30.0)
    assert (found.down_mm[0, 0], found.along_mm[0, 0]) == (23 * 2.0, 29.0)  # A on top, R on the left
    assert np.allclose(np.diff(found.down_mm, axis=0), -2.0)
    assert np.allclose(np.diff(found.along_mm, axis=1), -1.0)


def test_lines_lie_as_close_as_the_voxels_were_read_apart() -> None:
    """Read half as far apart, the patch shows half the scan, and half the lines."""
    wide, narrow, none = (cyan(pixels(panel(spread=s))) for s in (1.0, 0.5, 0.0))
    assert none == 0
    assert 1.5 < wide / narrow < 3.0


def test_structures_are_outlined() -> None:
    def reddish(picture: np.ndarray) -> int:
        red, green, blue = np.moveaxis(picture, -1, 0)
        return int(((red > green + 0.3) & (red > blue + 0.3)).sum())

    assert reddish(pixels(panel(), structures=STRUCTURES)) == 0
    assert reddish(pixels(panel(lit=True), structures=STRUCTURES)) > 100


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1)])
def test_a_row_of_voxels_has_no_lines(shape: tuple[int, int, int]) -> None:
    plane = planes(Grid(shape, np.eye(4)))[0]
    one = panel_of(
        plane, 0, np.zeros(shape, np.float32), np.zeros(shape, np.uint8), np.indices(shape, np.float32)
    )
    assert cyan(pixels(one)) == 0


def test_more_columns_make_it_wider_and_no_higher() -> None:
    few, many = pixels(*[panel()] * 3), pixels(*[panel()] * 6)
    assert few.shape[0] == many.shape[0]
    assert many.shape[1] > 1.5 * few.shape[1]
