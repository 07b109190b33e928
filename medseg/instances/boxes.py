"""Boxes as a network learns them, in any number of dimensions: coded, compared, clipped.

A box is a row of 2n numbers, its n lower ends and its n upper ends, at the edges of voxels: see
`medseg.metrics.box_iou`, which measures and chooses; what is here has gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOST_GROWTH = math.log(1000.0 / 16.0)
"""Of a size over its anchor's, as a logarithm: more is cut off before it overflows (torchvision)."""


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes as what is to be added to anchors: shift of the centre over the size, logarithm of the growth.

    Args:
        boxes: (N, 2n).
        anchors: (N, 2n), each of a volume above 0.

    Returns:
        (N, 2n): n shifts, then n logarithms. Ren et al. 2015, arXiv:1506.01497, equation 2.

    >>> encode(torch.tensor([[2.0, 0.0, 6.0, 8.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])).tolist()
    [[0.5, 0.5, 0.0, 0.6931471824645996]]
    """
    (middle, size), (own, own_size) = _middle_and_size(boxes), _middle_and_size(anchors)
    return torch.cat(((middle - own) / own_size, torch.log(size / own_size)), dim=1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that offsets of anchors stand for; the inverse of `encode`.

    Args:
        offsets: (N, 2n).
        anchors: (N, 2n).
    """
    shift, growth = offsets.chunk(2, dim=1)
    middle, size = _middle_and_size(anchors)
    half = size * torch.exp(growth.clamp(max=MOST_GROWTH)) / 2
    middle = middle + shift * size
    return torch.cat((middle - half, middle + half), dim=1)


def around_points(distances: Tensor, points: Tensor) -> Tensor:
    """Boxes from the distances of their faces from a point inside.

    Args:
        distances: (N, 2n), n towards the lower ends and n towards the upper ones.
        points: (N, n).

    Tian et al. 2019, arXiv:1904.01355, equation 1.

    >>> around_points(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[5.0, 5.0]])).tolist()
    [[4.0, 3.0, 8.0, 9.0]]
    """
    low, high = distances.chunk(2, dim=1)
    return torch.cat((points - low, points + high), dim=1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 2n) with boxes (..., 2n); 0 where neither has a volume."""
    shared, united, _ = _volumes(first, second)
    return shared / united.clamp(min=torch.finfo(united.dtype).tiny)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of boxes (..., 2n) with boxes (..., 2n), in [-1, 1].

    Rezatofighi et al. 2019, arXiv:1902.09630, algorithm 1.
    """
    shared, united, around = _volumes(first, second)
    least = torch.finfo(united.dtype).tiny
    return shared / united.clamp(min=least) - (around - united) / around.clamp(min=least)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every box (N, 2n) with every box (M, 2n): (N, M)."""
    return iou(first[:, None], second[None])


def clipped(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Boxes cut off at the edges of an image of `shape`."""
    most = torch.tensor([*shape, *shape], dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), most)


def _middle_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes.chunk(2, dim=1)
    return (low + high) / 2, high - low


def _volumes(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What two boxes share, what they fill together, and the smallest box around both."""
    (a_low, a_high), (b_low, b_high) = first.chunk(2, dim=-1), second.chunk(2, dim=-1)
    shared = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    around = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1)
    united = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - shared
    return shared, united, around
