"""From boxes with masks to a map of numbers: the surest object first, as panoptic segmentation merges them.

Kirillov et al. 2019, arXiv:1801.00868, section 5: an object of which more than half is covered by surer ones
is dropped; of the others the part that is free is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.boxes import label_boxes, widened
from medseg.instances.pooling import paste

Floats = NDArray[np.float64]

COVERED = 0.5
"""Share of an object's voxels, of surer objects, above which it is dropped."""

AGREEING = 0.5
"""Share of an object's voxels that a label map must say are of its structure, to be believed of the rest."""

BESIDE = 2
"""Voxels from an object's box up to which voxels that no object has may be its own."""

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


def outlined(
    numbers: NDArray[np.uint32], values: Sequence[int], labels: NDArray[np.integer[Any]]
) -> NDArray[np.uint32]:
    """Objects with the outlines of a label map, which is finer than masks of boxes are.

    What the label map says is of another structure leaves its object, but for objects of which it agrees to
    less than half. What is of the object's structure, near it, and no object's, is given to the nearest.

    Args:
        numbers: of the objects (*S), as they were painted.
        values: in the label map, of the structure of each object.
        labels: the label map (*S).
    """
    table = np.array([0, *values])
    places = label_boxes(numbers, range(1, len(table)))
    out = numbers.copy()
    for number, where in places.items():
        own = out[where] == number
        right = own & (labels[where] == table[number])
        if right.sum() >= AGREEING * own.sum():
            out[where][own & ~right] = 0
    grown = out.copy()
    for number, where in places.items():
        near = widened(where, BESIDE, out.shape)
        free = (out[near] == 0) & (labels[near] == table[number])
        grown[near][free & (_nearest(out[near], table, number) == number)] = number
    return grown


def _nearest(
    numbers: NDArray[np.uint32], values: NDArray[np.integer[Any]], number: int
) -> NDArray[np.uint32]:
    """The nearest object of the structure of one, at every voxel; 0 where there is none."""
    of_structure = (numbers > 0) & (values[numbers] == values[number])
    if not of_structure.any():
        return np.zeros_like(numbers)
    at = ndimage.distance_transform_edt(~of_structure, return_distances=False, return_indices=True)
    nearest: NDArray[np.uint32] = numbers[tuple(at)]
    return nearest


def _voxels(one: Located, shape: Sequence[int]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The voxels whose middles lie in the box, and which of them belong to the mask."""
    ends = np.clip(np.ceil(one.box.reshape(2, -1) - 0.5), 0, shape).astype(int)
    start, stop = ends[0], np.maximum(ends[0], ends[1])
    box = torch.from_numpy(one.box - np.tile(start, 2))[None]
    mask = paste(torch.from_numpy(one.mask).double()[None], box, (stop - start).tolist())[0]
    where = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
    return where, mask.numpy() >= INSIDE
