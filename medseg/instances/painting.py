"""From boxes with masks to a map of numbers: the surest object first, as panoptic segmentation merges them.

Kirillov et al. 2019, arXiv:1801.00868, section 5: an object of which more than half is covered by surer ones
is dropped; of the others the part that is free is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COVERED = 0.5
"""Share of an object's voxels, of surer objects, above which it is dropped."""

INSIDE = 0.5
"""Probability from which a voxel belongs to the mask."""


@dataclass(frozen=True, eq=False)
class Located:
    """An object that was found in a volume or an image.

    Attributes:
        box: (2n,), in voxels.
        label: index of its structure, from 0.
        score: in [0, 1].
        mask: probabilities (*bins) within the box.
    """

    box: Floats
    label: int
    score: float
    mask: NDArray[np.float32]


def painted(found: Sequence[Located], shape: Sequence[int]) -> tuple[NDArray[np.uint32], list[Located]]:
    """Numbers from 1 (*shape), and the objects of these numbers.

    Args:
        found: in any order; equal scores keep theirs.
        shape: of the volume.
    """
    numbers = np.zeros(tuple(shape), np.uint32)
    kept: list[Located] = []
    for one in sorted(found, key=lambda each: -each.score):
        where, mask = _voxels(one, shape)
        free = mask & (numbers[where] == 0)
        if not mask.any() or free.sum() < (1 - COVERED) * mask.sum():
            continue
        kept.append(one)
        numbers[where][free] = len(kept)
    return numbers, kept


def _voxels(one: Located, shape: Sequence[int]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The voxels whose middles lie in the box, and which of them belong to the mask."""
    axes = len(shape)
    low, high = one.box[:axes], one.box[axes:]
    where, mask = [], one.mask.astype(np.float64)
    for axis, n in enumerate(shape):
        start = int(np.clip(np.ceil(low[axis] - 0.5), 0, n))
        stop = int(np.clip(np.ceil(high[axis] - 0.5), start, n))
        where.append(slice(start, stop))
        share = (np.arange(start, stop) + 0.5 - low[axis]) / (high[axis] - low[axis])
        mask = np.moveaxis(np.moveaxis(mask, axis, -1) @ _tents(share, one.mask.shape[axis]).T, -1, axis)
    return tuple(where), mask >= INSIDE


def _tents(share: Floats, bins: int) -> Floats:
    """Weights (voxels, bins) of linear interpolation between the middles of bins."""
    at = np.clip(share * bins - 0.5, 0, bins - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(bins)), 0, None))
