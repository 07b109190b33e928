"""Surfaces of all labels in one pass: the same points as label by label."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from medseg.metrics import borders, surfels
from medseg.metrics.borders import Borders, Frame

Points = set[tuple[tuple[int, ...], int, int]]
SHAPES = pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8), (1, 4, 3)])


def random_labels(seed: int, shape: tuple[int, ...], count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, count + 1, shape).astype(np.uint8)
    labels[generator.random(shape) < 0.4] = 0
    return np.repeat(labels, 2, axis=0)


def found(labels: np.ndarray, frame: Frame, count: int, *, surfel: bool) -> Borders:
    with ThreadPoolExecutor(2) as pool:
        return borders.find_borders(labels, frame, count, pool, surfel=surfel)


def points_of(result: Borders, frame: Frame) -> Points:
    """Voxel coordinates in the label map, with label and pattern of corners."""
    where = np.stack(np.unravel_index(result.positions, frame.shape), axis=1) - frame.margin
    rows = zip(where.tolist(), result.labels.tolist(), result.codes.tolist(), strict=True)
    return {(tuple(at), label, code) for at, label, code in rows}


@SHAPES
@pytest.mark.parametrize("count", [1, 3, 200])
def test_cells_are_those_of_each_mask_alone(shape: tuple[int, ...], count: int) -> None:
    labels = random_labels(0, shape, count)
    frame = Frame(labels.shape, (2,) * labels.ndim)
    expected: Points = set()
    for label in range(1, count + 1):
        codes = surfels.codes(labels == label)
        surface = (codes != 0) & (codes != 2 ** (2**labels.ndim) - 1)
        where = (np.argwhere(surface) - 1).tolist()
        expected |= {(tuple(w), label, int(c)) for w, c in zip(where, codes[surface], strict=True)}
    result = found(labels, frame, count, surfel=True)
    assert points_of(result, frame) == expected
    assert len(expected) == result.positions.size


@SHAPES
@pytest.mark.parametrize("count", [1, 3, 200])
def test_border_voxels_are_those_of_each_mask_alone(shape: tuple[int, ...], count: int) -> None:
    labels = random_labels(1, shape, count)
    frame = Frame(labels.shape, (1,) * labels.ndim)
    expected: Points = set()
    for label in range(1, count + 1):
        mask = labels == label
        where = np.argwhere(mask & ~ndimage.binary_erosion(mask)).tolist()
        expected |= {(tuple(w), label, 0) for w in where}
    assert points_of(found(labels, frame, count, surfel=False), frame) == expected


@pytest.mark.parametrize("surfel", [True, False])
@pytest.mark.parametrize("count", [5, 63, 64, 200])
def test_members_are_the_labels_of_the_points(surfel: bool, count: int) -> None:
    labels = random_labels(2, (6, 5, 4), count)
    frame = Frame(labels.shape, (1, 1, 1))
    result = found(labels, frame, count, surfel=surfel)
    assert result.members.shape == (borders.words(count), result.cells.size)
    assert (np.diff(result.cells) > 0).all()
    by_cell = {
        int(cell): {64 * w + b for w, word in enumerate(words) for b in range(64) if int(word) >> b & 1}
        for cell, words in zip(result.cells, result.members.T, strict=True)
    }
    by_point: dict[int, set[int]] = {}
    for at, label in zip(result.positions.tolist(), result.labels.tolist(), strict=True):
        by_point.setdefault(at, set()).add(label)
    assert by_cell == by_point


@pytest.mark.parametrize("surfel", [True, False])
def test_slabs_change_nothing(surfel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = random_labels(3, (10, 6, 5), 4)
    frame = Frame(labels.shape, (3, 2, 2))
    whole = found(labels, frame, 4, surfel=surfel)
    monkeypatch.setattr(borders, "SLAB_VOXELS", 1)
    monkeypatch.setattr(borders, "SLAB_PLANES", 1)
    planes = found(labels, frame, 4, surfel=surfel)
    assert len(whole.starts) == 2
    assert len(planes.starts) == labels.shape[0] + 2
    assert points_of(planes, frame) == points_of(whole, frame)
    np.testing.assert_array_equal(planes.cells, whole.cells)
    np.testing.assert_array_equal(planes.members, whole.members)


@pytest.mark.parametrize("surfel", [True, False])
def test_a_map_of_background_has_no_surface(surfel: bool) -> None:
    frame = Frame((4, 3, 2), (1, 1, 1))
    result = found(np.zeros(frame.inner, np.uint8), frame, 3, surfel=surfel)
    assert result.positions.size == result.cells.size == result.starts[-1] == 0
