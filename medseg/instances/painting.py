"""From boxes with masks to a map of numbers: the surest object first, as panoptic segmentation merges them.

Kirillov et al. 2019, arXiv:1801.00868, section 5: an object of which more than half is covered by surer ones
is dropped; of the others the part that is free is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.instances.pooling import paste

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
    ends = np.clip(np.ceil(one.box.reshape(2, -1) - 0.5), 0, shape).astype(int)
    start, stop = ends[0], np.maximum(ends[0], ends[1])
    box = torch.from_numpy(one.box - np.tile(start, 2))[None]
    mask = paste(torch.from_numpy(one.mask).double()[None], box, (stop - start).tolist())[0]
    where = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
    return where, mask.numpy() >= INSIDE
