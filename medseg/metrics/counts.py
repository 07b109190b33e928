"""Counts: how reference and prediction agree voxel by voxel, from one joint histogram.

Every voxel is looked at once, whatever the number of structures: the histogram of (reference
value, predicted value) pairs holds the counts of each structure, and those of a region are sums
over its members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.metrics.masks import require_same_shape
from medseg.metrics.value import Status

SLAB_VOXELS = 1 << 16
"""Voxels histogrammed at once: their pair codes, 512 KiB, stay in the processor's cache."""

TABLE_SPAN = 1 << 16
"""Value range up to which values are looked up in a table instead of searched for."""


@dataclass(frozen=True)
class Counts:
    """Voxels of one structure: true positive, false positive, false negative, true negative."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def reference(self) -> int:
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        return self.tp + self.fp

    @property
    def status(self) -> Status:
        """Which of the two masks have no voxel.

        >>> Counts(tp=0, fp=3, fn=0, tn=5).status
        'ref_empty'
        """
        if not self.reference:
            return "ref_empty" if self.predicted else "both_empty"
        return "ok" if self.predicted else "pred_empty"


@dataclass(frozen=True, eq=False)
class JointHistogram:
    """Voxels of every (reference value, predicted value) pair.

    Attributes:
        values: the K label values told apart; all others share index 0.
        table: int64 (K + 1, K + 1), reference index by predicted index.
    """

    values: tuple[int, ...]
    table: NDArray[np.int64]

    def counts(self, members: Iterable[int]) -> Counts:
        """Counts of the union of the member values.

        Raises:
            KeyError: a member is none of `values`.
        """
        position = {v: n + 1 for n, v in enumerate(self.values)}
        at = [position[v] for v in dict.fromkeys(members)]
        tp = int(self.table[np.ix_(at, at)].sum())
        reference = int(self.table[at].sum())
        predicted = int(self.table[:, at].sum())
        total = int(self.table.sum())
        return Counts(tp, predicted - tp, reference - tp, total - reference - predicted + tp)


def index_map(labels: NDArray[np.integer], values: Sequence[int]) -> NDArray[np.integer]:
    """Labels renumbered: `values[n]` becomes n + 1, every other value 0.

    Args:
        labels: integers of any shape.
        values: distinct label values.

    Returns:
        The smallest unsigned integers that hold the indices, in the shape of `labels`.

    >>> index_map(np.array([0, 7, 3, 9]), (3, 7))
    array([0, 2, 1, 0], dtype=uint8)
    """
    dtype = np.min_scalar_type(len(values))
    if labels.size == 0 or not values:
        return np.zeros(labels.shape, dtype)
    low, high = int(labels.min()), int(labels.max())
    if high - low < TABLE_SPAN:
        lookup = np.zeros(high - low + 1, dtype)
        for n, value in enumerate(values):
            if low <= value <= high:
                lookup[value - low] = n + 1
        return lookup[labels if low == 0 else labels.astype(np.int64) - low]
    order = np.argsort(values)
    ranked = np.asarray(values, dtype=np.int64)[order]
    at = np.minimum(np.searchsorted(ranked, labels), len(ranked) - 1)
    return np.where(ranked[at] == labels, order[at] + 1, 0).astype(dtype)


def present_values(labels: NDArray[np.integer]) -> dict[int, int]:
    """Label values of an array, ascending, with their voxels; quicker than sorting for labels.

    >>> present_values(np.array([5, 0, 5]))
    {0: 1, 5: 2}
    """
    if labels.size == 0:
        return {}
    low, high = int(labels.min()), int(labels.max())
    if high - low >= TABLE_SPAN:
        values, voxels = np.unique(labels, return_counts=True)
        return dict(zip(values.tolist(), voxels.tolist(), strict=True))
    total = np.zeros(high - low + 1, dtype=np.int64)
    flat = labels.reshape(-1, order="A")
    for start in range(0, flat.size, SLAB_VOXELS):
        slab = flat[start : start + SLAB_VOXELS].astype(np.int64) - low
        total += np.bincount(slab, minlength=total.size)
    return {n + low: int(total[n]) for n in np.flatnonzero(total).tolist()}


def histogram_of_indices(
    reference: NDArray[np.integer], predicted: NDArray[np.integer], values: Sequence[int]
) -> JointHistogram:
    """Joint histogram of two index maps of the same shape (see `index_map`), in slabs."""
    size = len(values) + 1
    order: Literal["C", "F"] = "F" if reference.flags.fnc and predicted.flags.fnc else "C"
    flat_reference, flat_predicted = reference.reshape(-1, order=order), predicted.reshape(-1, order=order)
    total = np.zeros(size * size, dtype=np.int64)
    for start in range(0, flat_reference.size, SLAB_VOXELS):
        slab = slice(start, start + SLAB_VOXELS)
        pairs = flat_reference[slab].astype(np.intp) * size + flat_predicted[slab]
        total += np.bincount(pairs, minlength=size * size)
    return JointHistogram(tuple(values), total.reshape(size, size))


def joint_histogram(
    reference: NDArray[np.integer], predicted: NDArray[np.integer], values: Sequence[int]
) -> JointHistogram:
    """Joint histogram of two label arrays.

    Args:
        reference: labels (I, J, K).
        predicted: labels of the same shape.
        values: the label values to tell apart.

    Raises:
        GridMismatchError: the shapes differ.

    >>> h = joint_histogram(np.array([1, 1, 0, 2]), np.array([1, 0, 2, 2]), (1, 2))
    >>> h.counts([1])
    Counts(tp=1, fp=0, fn=1, tn=2)
    """
    require_same_shape(reference, predicted)
    return histogram_of_indices(index_map(reference, values), index_map(predicted, values), values)


def joint_counts(
    reference: NDArray[np.integer],
    predicted: NDArray[np.integer],
    structures: StructureSet,
    labelled: NDArray[np.bool_] | None = None,
) -> dict[str, Counts]:
    """Counts of every structure, by name, where the reference is labelled; else as `joint_histogram`."""
    if labelled is not None:
        reference, predicted = reference[labelled], predicted[labelled]
    histogram = joint_histogram(reference, predicted, structures.label_values)
    return {s.name: histogram.counts(s.label_values) for s in structures}
