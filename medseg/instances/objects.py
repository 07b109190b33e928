"""What a patch teaches of its objects: a box, a class and a mask each, from one map of codes.

A code says both which structure a voxel belongs to and which of its objects: index + 256 * number, with the
index of the structure as labels have it. Codes are warped like labels, and boxes are taken of what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.core.boxes import label_boxes
from medseg.core.structures import IGNORED
from medseg.instances.pooling import roi_align

OBJECT = IGNORED + 1
"""Codes from one object of a structure to its next."""

CUT_SHARE = 0.5
"""Of an object's voxels, below which what a patch holds of it teaches neither object nor background."""


def coded(indices: NDArray[np.uint8], numbers: NDArray[np.integer]) -> NDArray[np.int32]:
    """Codes of label indices and the numbers of objects; a voxel without an object has number 0.

    >>> coded(np.array([0, 1, 2], np.uint8), np.array([0, 3, 0])).tolist()
    [0, 769, 2]
    """
    return indices.astype(np.int32) + OBJECT * numbers.astype(np.int32)


def indices_of(codes: Tensor) -> Tensor:
    """Label indices of codes; bytes are indices themselves."""
    return codes if codes.dtype == torch.uint8 else codes % OBJECT


@dataclass(frozen=True)
class Objects:
    """The objects of one patch.

    Attributes:
        codes: of each, (B,).
        boxes: (B, 2n) float32, in voxels of the patch.
        classes: from 0, the first structure, (B,).
        whole: whether enough of the object lies in the patch, (B,).
    """

    codes: Tensor
    boxes: Tensor
    classes: Tensor
    whole: Tensor

    def __len__(self) -> int:
        return len(self.codes)


def sizes_of(codes: Tensor) -> dict[int, int]:
    """Voxels of every object of a case by its code; none of label indices, which are bytes."""
    if codes.dtype == torch.uint8:
        return {}
    known, counts = np.unique(codes.cpu().numpy(), return_counts=True)
    rows = zip(known.tolist(), counts.tolist(), strict=True)
    return {code: count for code, count in rows if code >= OBJECT and code % OBJECT}


def objects_of(codes: Tensor, voxels: Mapping[int, int]) -> Objects:
    """The objects of a patch.

    Args:
        codes: (*S) of two or three axes.
        voxels: of every object of the case by its code; one that is not among them, as where a flip
            exchanged sides, is taken for whole.
    """
    inside = sizes_of(codes)
    boxes = label_boxes(codes.cpu().numpy(), inside)
    found = sorted(boxes)
    ends = [[*(s.start for s in boxes[c]), *(s.stop for s in boxes[c])] for c in found]
    whole = [inside[c] >= CUT_SHARE * voxels.get(c, 0) for c in found]
    return Objects(
        torch.tensor(found, dtype=torch.int64),
        torch.tensor(ends, dtype=torch.float32).reshape(len(found), 2 * codes.ndim),
        torch.tensor([c % OBJECT - 1 for c in found], dtype=torch.int64),
        torch.tensor(whole, dtype=torch.bool),
    )


def shares_of(codes: Tensor, own: Sequence[int], boxes: Tensor, bins: int) -> Tensor:
    """The share of each bin of a box that an object fills: (R, *bins).

    Args:
        codes: (*S) of a patch.
        own: code of the object of each box.
        boxes: (R, 2n).
        bins: along each axis.
    """
    sides = (bins,) * codes.ndim
    rows = zip(own, boxes, strict=True)
    masks = [roi_align((codes == code).float()[None], box[None], sides)[0, 0] for code, box in rows]
    return torch.stack(masks) if masks else boxes.new_zeros(0, *sides)
