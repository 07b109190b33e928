"""Grid CRF: neighbouring voxels prefer one label, unless an edge of the image lies between them.

    E(x) = sum_p D_p(x_p) + sum_{p, q neighbours} w_pq [x_p != x_q]
    w_pq = lambda exp(-(I_p - I_q)^2 / 2 sigma^2) / distance_mm(p, q)

(Boykov and Jolly 2001, doi:10.1109/ICCV.2001.937505, equations 1 to 3). Of two labels, a cut of a graph is
the minimum. Of several, cuts let voxels change to one label (expansion) or let two labels trade voxels (swap)
as long as that lowers E (Boykov, Veksler and Zabih 2001, doi:10.1109/34.969114, section 4), with edges as in
Kolmogorov and Zabih 2004 (doi:10.1109/TPAMI.2004.1262177, section 4). Costs are whole thousandths, so that
no rounding raises E.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Costs = NDArray[np.signedinteger]
Numbers = NDArray[np.signedinteger]
Mask = NDArray[np.bool_]
Moves = Literal["expansion", "swap"]

UNITS, MOST = 1000, 2**28
"""Costs are counted in thousandths, and what costs more units than the second costs that."""
ROUNDS = 10
"""Most rounds over all labels; two to four are usual."""
BYTES_PER_EDGE = 80
"""At most, what a cut holds for each neighbour of a voxel and for source and sink."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs of neighbours, and what it costs where their labels differ.

    Attributes:
        first, second: numbers of the voxels of each pair.
        cost: of each pair, in units.
    """

    first: Numbers
    second: Numbers
    cost: Costs

    @classmethod
    def of(
        cls,
        image: NDArray[np.floating[Any]],
        spacing_mm: Sequence[float],
        *,
        weight: float,
        intensity: float,
        neighbours: Literal[6, 26] = 6,
    ) -> Neighbours:
        """Of all voxels of an image (i, j, k); lambda is `weight`, sigma `intensity`."""
        numbers = np.arange(image.size, dtype=np.int32).reshape(image.shape)
        pairs = []
        for step in product((-1, 0, 1), repeat=3):
            if step <= (0, 0, 0) or (neighbours == 6 and np.abs(step).sum() > 1):
                continue
            ends = list(zip(step, image.shape, strict=True))
            here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in ends)
            there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in ends)
            distance = math.hypot(*(s * mm for s, mm in zip(step, spacing_mm, strict=True)))
            likeness = np.exp(-((image[here] - image[there]) ** 2) / (2 * intensity**2))
            pairs.append((numbers[here], numbers[there], in_units(likeness * (weight / distance))))
        first, second, cost = (np.concatenate([a.ravel() for a in part]) for part in zip(*pairs, strict=True))
        return cls(first, second, cost.astype(np.int32))

    def within(self, voxels: Numbers, size: int) -> Neighbours:
        """Those among some voxels of `size`, by their place in `voxels`."""
        place = np.full(size, -1, np.int32)
        place[voxels] = np.arange(len(voxels))
        first, second = place[self.first], place[self.second]
        inside = (first >= 0) & (second >= 0)
        return Neighbours(first[inside], second[inside], self.cost[inside])


def bytes_held(neighbours: Literal[6, 26], voxels: int) -> int:
    """An upper bound of what a cut holds."""
    return BYTES_PER_EDGE * (neighbours + 2) * voxels


def in_units(costs: NDArray[np.floating[Any]]) -> Costs:
    """Costs in whole units, none above `MOST`."""
    units: Costs = np.rint(np.minimum(costs * UNITS, MOST)).astype(np.int64)
    return units


def energy(data: Costs, pairs: Neighbours, labels: Numbers) -> int:
    """E of labels (N), for costs `data` (K, N)."""
    differ = labels[pairs.first] != labels[pairs.second]
    return int(data[labels, np.arange(len(labels))].sum()) + int(pairs.cost[differ].sum(dtype=np.int64))


def least_energy(
    data: Costs, pairs: Neighbours, *, moves: Moves = "expansion", start: Numbers | None = None
) -> Numbers:
    """Labels (N) of low energy: the lowest of two labels; of more, by expansion, at most twice the lowest.

    Args:
        data: what each label costs each voxel, (K, N), in units.
        pairs: the neighbours.
        moves: how more than two labels are found.
        start: labels to begin with; those of least data cost when None.
    """
    if len(data) == 2:
        return _cut(data[1] - data[0], pairs, pairs.cost, pairs.cost).astype(np.intp)
    labels = data.argmin(axis=0) if start is None else start
    lowest = energy(data, pairs, labels)
    for _ in range(ROUNDS):
        before = lowest
        for move in combinations(range(len(data)), 1 if moves == "expansion" else 2):
            moved = (_expanded if moves == "expansion" else _swapped)(data, pairs, labels, *move)
            if (reached := energy(data, pairs, moved)) < lowest:
                labels, lowest = moved, reached
        if lowest == before:
            break
    return labels


def _expanded(data: Costs, pairs: Neighbours, labels: Numbers, label: int) -> Numbers:
    """The best labels in which each voxel keeps its own or takes one."""
    first, second, cost = labels[pairs.first], labels[pairs.second], pairs.cost
    neither = np.where(first != second, cost, 0)
    by_second = np.where(first != label, cost, 0)
    by_first = np.where(second != label, cost, 0)
    change = data[label] - data[labels, np.arange(len(labels))]
    change += _sums(pairs.first, by_first - neither, len(labels)) - _sums(pairs.second, by_first, len(labels))
    forth = by_second + by_first - neither
    return np.where(_cut(change, pairs, forth, np.zeros_like(cost)), label, labels)


def _swapped(data: Costs, pairs: Neighbours, labels: Numbers, one: int, other: int) -> Numbers:
    """The best labels in which the voxels of two labels trade theirs."""
    voxels = np.flatnonzero((labels == one) | (labels == other))
    inner = pairs.within(voxels, len(labels))
    moved = labels.copy()
    takes = _cut((data[other] - data[one])[voxels], inner, inner.cost, inner.cost)
    moved[voxels] = np.where(takes, other, one)
    return moved


def _sums(voxels: Numbers, costs: Costs, size: int) -> Costs:
    return np.bincount(voxels, costs, size).astype(np.int64)


def _cut(change: Costs, pairs: Neighbours, forth: Costs, back: Costs) -> Mask:
    """The mask x that minimises sum change_p x_p + sum forth_pq (1 - x_p) x_q + back_pq x_p (1 - x_q).

    It is the side of the sink in a least cut: what the source does not reach in the residual graph.
    """
    size = len(change)
    change, voxels = np.clip(change, -MOST, MOST), np.arange(size, dtype=np.int32)
    ends = (
        (pairs.first, pairs.second, forth),
        (pairs.second, pairs.first, back),
        (np.full(size, size), voxels, np.maximum(change, 0)),
        (voxels, np.full(size, size + 1), np.maximum(-change, 0)),
    )
    rows, columns, capacity = (
        np.concatenate([p.astype(np.int32) for p in part]) for part in zip(*ends, strict=True)
    )
    graph = sparse.csr_array((capacity, (rows, columns)), shape=(size + 2, size + 2))
    left = graph - csgraph.maximum_flow(graph, size, size + 1).flow
    left.eliminate_zeros()
    sinks = np.ones(size + 2, np.bool_)
    sinks[csgraph.breadth_first_order(left, size, return_predecessors=False)] = False
    return sinks[:size]
