"""The grid CRF: cuts against all labelings of small grids, moves that never raise the energy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg.classical.graph_cut import Moves, Neighbours, energy, in_units, least_energy
from medseg.classical.spec import GridCrfSpec
from medseg.core.errors import UsageError

SPACING_MM = (1.0, 1.3, 2.0)


def problem(
    seed: int, shape: tuple[int, int, int], outputs: int, *, weight: float | None = None
) -> tuple[np.ndarray, Neighbours]:
    """Random costs (K, N) and neighbours of a random image."""
    rng = np.random.default_rng(seed)
    costs = in_units(-np.log(rng.dirichlet(np.ones(outputs), int(np.prod(shape)))).T)
    pairs = Neighbours.of(
        rng.random(shape),
        SPACING_MM,
        weight=float(rng.random() * 2) if weight is None else weight,
        intensity=0.4,
        neighbours=(6, 26)[seed % 2],
    )
    return costs, pairs


def lowest(costs: np.ndarray, pairs: Neighbours) -> int:
    """Of all labelings."""
    every = product(range(len(costs)), repeat=costs.shape[1])
    return min(energy(costs, pairs, np.array(labels)) for labels in every)


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_the_best_of_all_labelings(seed: int) -> None:
    costs, pairs = problem(seed, (2, 2, 3), 2)
    assert energy(costs, pairs, least_energy(costs, pairs)) == lowest(costs, pairs)


@pytest.mark.parametrize("moves", ["expansion", "swap"])
@pytest.mark.parametrize("seed", range(6))
def test_moves_come_near_the_best_of_all_labelings(seed: int, moves: Moves) -> None:
    costs, pairs = problem(seed, (2, 2, 2), 3, weight=1.0)
    found = energy(costs, pairs, least_energy(costs, pairs, moves=moves))
    assert lowest(costs, pairs) <= found <= 1.1 * lowest(costs, pairs)


@pytest.mark.parametrize("moves", ["expansion", "swap"])
@pytest.mark.parametrize("seed", range(6))
def test_moves_never_raise_the_energy_from_any_start(seed: int, moves: Moves) -> None:
    costs, pairs = problem(seed, (4, 5, 3), 4, weight=1.5)
    rng = np.random.default_rng(seed)
    for start in (rng.integers(0, 4, 60), np.full(60, seed % 4), costs.argmin(axis=0)):
        kept = start.copy()
        found = least_energy(costs, pairs, moves=moves, start=start)
        assert energy(costs, pairs, found) <= energy(costs, pairs, start)
        np.testing.assert_array_equal(start, kept)
        again = least_energy(costs, pairs, moves=moves, start=found)
        assert energy(costs, pairs, again) == energy(costs, pairs, found)


@pytest.mark.parametrize("outputs", [2, 3])
def test_without_weight_each_voxel_has_its_cheapest_label(outputs: int) -> None:
    costs, pairs = problem(0, (4, 5, 3), outputs, weight=0.0)
    np.testing.assert_array_equal(least_energy(costs, pairs), costs.argmin(axis=0))


@pytest.mark.parametrize("outputs", [2, 3])
def test_an_enormous_weight_leaves_one_label(outputs: int) -> None:
    costs, pairs = problem(0, (4, 5, 3), outputs, weight=1e9)
    found = least_energy(costs, pairs)
    assert len(np.unique(found)) == 1
    assert found[0] == costs.sum(axis=1).argmin()


def test_neighbours_are_weighted_by_distance_and_likeness() -> None:
    image = np.zeros((2, 1, 2))
    image[1, 0, 1] = 1.0
    pairs = Neighbours.of(image, (1.0, 1.0, 2.0), weight=1.0, intensity=1.0, neighbours=26)
    found = {(a, b): c for a, b, c in zip(pairs.first, pairs.second, pairs.cost, strict=True)}
    edge = np.exp(-0.5)
    assert found == {
        (0, 1): 500,
        (0, 2): 1000,
        (1, 2): round(1000 / 5**0.5),
        (0, 3): round(1000 * edge / 5**0.5),
        (1, 3): round(1000 * edge),
        (2, 3): round(500 * edge),
    }
    assert len(Neighbours.of(image, (1, 1, 2), weight=1.0, intensity=1.0).cost) == 4


def test_a_cut_removes_noise_and_keeps_edges() -> None:
    rng = np.random.default_rng(1)
    labels = gaussian_filter(rng.normal(size=(16, 16, 16)), 2) > 0
    image = labels + 0.2 * rng.normal(size=labels.shape)
    chance = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(size=labels.shape))))
    costs = in_units(-np.log(np.stack([1 - chance, chance]).reshape(2, -1)))
    pairs = Neighbours.of(image, (1, 1, 1), weight=1.0, intensity=0.5)
    found = least_energy(costs, pairs).reshape(labels.shape)
    assert ((chance > 0.5) == labels).mean() < 0.9
    assert (found == labels).mean() > 0.98


def test_the_cut_is_that_of_pymaxflow() -> None:
    maxflow = pytest.importorskip("maxflow", reason="PyMaxflow is not installed")
    costs, pairs = problem(3, (12, 12, 12), 2, weight=0.7)
    graph = maxflow.Graph[int](costs.shape[1], len(pairs.cost))
    nodes = graph.add_nodes(costs.shape[1])
    for first, second, cost in zip(pairs.first, pairs.second, pairs.cost, strict=True):
        graph.add_edge(int(first), int(second), int(cost), int(cost))
    for node, zero, one in zip(nodes, *costs, strict=True):
        graph.add_tedge(int(node), int(one), int(zero))
    graph.maxflow()
    theirs = np.array([graph.get_segment(int(n)) for n in nodes])
    ours = least_energy(costs, pairs)
    assert energy(costs, pairs, ours) == energy(costs, pairs, theirs)
    assert (ours == theirs).mean() > 0.99


def test_settings_out_of_range_are_refused_with_their_value() -> None:
    with pytest.raises(UsageError, match=r"grid_crf.weight must be at least 0, not -1"):
        GridCrfSpec(weight=-1)
    with pytest.raises(UsageError, match=r"grid_crf.intensity must be positive, not 0"):
        GridCrfSpec(intensity=0)
