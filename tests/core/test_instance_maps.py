"""Measures of single objects: sizes, boxes in mm, and the longest diameter."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.instances import instance_map, longest_mm
from medseg.core.structures import from_labels
from medseg.core.volume import Grid


def brute_force(mask: np.ndarray, to_mm: np.ndarray, flat: list[int]) -> float:
    """The largest of all distances between corners."""
    steps = [(0,) if axis in flat else (0, 1) for axis in range(3)]
    corners = np.array([at + np.array(step) for at in np.argwhere(mask) for step in product(*steps)])
    placed = corners @ to_mm.T
    return float(np.sqrt(((placed[:, None] - placed[None]) ** 2).sum(-1)).max())


@examples(50)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([[], [0], [2], [0, 1]]),
    st.floats(0.02, 1.0),
)
def test_the_longest_diameter_is_the_largest_distance_between_corners(
    seed: int, shape: tuple[int, int, int], flat: list[int], share: float
) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.random(tuple(1 if axis in flat else n for axis, n in enumerate(shape))) < share
    mask[0, 0, 0] = True
    to_mm = draw.normal(size=(3, 3)) + 3 * np.eye(3)
    assert longest_mm(mask, to_mm, flat) == pytest.approx(brute_force(mask, to_mm, flat), rel=1e-9)


@pytest.mark.parametrize("size", [3, 40], ids=["few corners", "their hull"])
def test_the_longest_diameter_of_a_box_is_its_diagonal(size: int) -> None:
    mask = np.ones((size, size, size), bool)
    assert longest_mm(mask, np.diag([1.0, 2.0, 3.0])) == pytest.approx(size * 14**0.5)
    assert longest_mm(mask[:, :, :1], np.diag([3.0, 4.0, 9.0]), flat=[2]) == pytest.approx(size * 5.0)


def test_instances_are_measured_in_the_order_of_their_numbers() -> None:
    numbers = np.zeros((8, 6, 5), np.uint16)
    numbers[1:4, 2, 2], numbers[6, 4, 1:5] = 2, 7
    lesion, node = from_labels({3: "lesion", 5: "node"})
    grid = Grid((8, 6, 5), np.diag([1.0, 2.0, 3.0, 1.0]))
    found = instance_map(numbers, {2: node, 7: lesion, 9: node}, grid, scores={7: 0.5})
    first, second = found.items
    assert (first.number, first.structure, first.value, first.voxels, first.score) == (2, "node", 5, 3, None)
    assert (second.number, second.structure, second.voxels, second.score) == (7, "lesion", 4, 0.5)
    assert first.box_mm(grid) == ((1.0, 4.0, 6.0), (4.0, 6.0, 9.0))
    assert second.volume_ml == pytest.approx(0.024)
    assert second.longest_mm == pytest.approx((1 + 4 + 12.0**2) ** 0.5)
