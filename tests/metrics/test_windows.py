"""Squares of distances in windows, against all pairs: none below the limit is wrong, none above is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medseg.metrics import windows
from medseg.metrics.windows import FARTHEST, Windows, nearest_squares

SPACINGS = pytest.mark.parametrize(
    "spacing",
    [
        (1.0, 1.0, 1.0),
        (0.7, 0.7, 0.7),
        (0.5859375, 0.5859375, 3.3),
        (3.0, 0.5, 0.5),
        (1.3, 0.41, 2.9),
        (0.8, 0.8),
        (0.3, 1.1),
        (1.1, 0.3),
    ],
)


def points(seed: int, many: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flat = rng.choice(np.prod(shape), many, replace=False)
    return np.stack(np.unravel_index(flat, shape)).astype(np.int32)


def in_mm2(squares: np.ndarray, of: Windows, spacing: tuple[float, ...]) -> np.ndarray:
    return squares * (spacing[0] ** 2 if of.whole else 1.0)


@SPACINGS
@pytest.mark.parametrize("cubes", [1, 4, 11, FARTHEST])
@pytest.mark.parametrize("block", [1, 1 << 19])
def test_a_square_within_the_limit_is_the_smallest_of_all(
    spacing: tuple[float, ...], cubes: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "BLOCK_VOXELS", block)
    shape = (40, 31, 23)[: len(spacing)]
    here, there = points(cubes, 120, shape), points(cubes + 1, 6, shape) + 9
    of = Windows.of(spacing, cubes)
    squares = nearest_squares(here, there, of)
    scale = np.array(spacing)
    nearest = cdist(here.T * scale, there.T * scale).min(axis=1) ** 2
    found = squares <= of.limit
    np.testing.assert_allclose(in_mm2(squares, of, spacing)[found], nearest[found], rtol=windows.ROUNDING)
    assert (nearest[~found] > in_mm2(of.limit, of, spacing) * (1 - windows.ROUNDING)).all()
    assert found.any() or cubes == 1
    assert squares.dtype == (np.uint16 if len(set(spacing)) == 1 else np.float32)


@SPACINGS
def test_what_is_farther_than_the_window_is_not_found(spacing: tuple[float, ...]) -> None:
    """Neither in the next row, nor behind the box, nor by squares that no longer fit in two bytes."""
    of = Windows.of(spacing, FARTHEST)
    for axis, reach in enumerate(of.reach):
        here = np.zeros((len(spacing), 1), np.int32)
        for away, near in ((reach, True), (reach + 1, False)):
            there = here.copy()
            there[axis] = away
            found = nearest_squares(here, there, of) <= of.limit
            sure = (away * spacing[axis]) ** 2 <= in_mm2(of.limit, of, spacing) * (1 + 1e-12)
            assert found.tolist() == [near and sure]
    corners = np.array([[0, 300]] * len(spacing), np.int32)
    assert (nearest_squares(corners, corners[:, :1], of) <= of.limit).tolist() == [True, False]


def test_the_second_pass_goes_along_the_coarsest_axis() -> None:
    assert Windows.of((3.0, 0.5, 0.6), 32).passes == (1, 0, 2)
    assert Windows.of((0.5, 0.5, 3.0), 32).passes[1] == 2
    assert Windows.of((3.0, 0.5), 32).passes == (1, 0)
