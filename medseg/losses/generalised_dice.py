"""Generalised Dice (Sudre et al. 2017, arXiv:1707.03237).

    D = (2 sum_k w_k sum(p_k g_k) + s) / (sum_k w_k (sum(p_k) + sum(g_k)) + s)

with w_k = (v / max(sum(g_k), v))^2, v the voxels of the smallest structure present. Up to a factor that
cancels these are the paper's weights 1 / sum(g_k)^2, and s is in voxels of the smallest structure. An absent
structure, whose weight in the paper is infinite, weighs as much as the smallest; where none is present, all
weigh 1.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from medseg.losses.overlap import Counting, OverlapLoss, Sums


class GeneralisedDiceLoss(OverlapLoss):
    """1 - D, in [0, 1]. The paper counts the background as a structure: `include_background`.

    Args:
        counting: see `OverlapLoss`.
    """

    def __init__(self, **counting: Unpack[Counting]) -> None:
        super().__init__(**counting)

    def ratio(self, sums: Sums) -> Tensor:
        """D of all structures together: a scalar, or (B,)."""
        weights = _weights(sums.reference)
        overlap = (weights * sums.overlap).sum(-1)
        total = (weights * (sums.predicted + sums.reference)).sum(-1)
        return (2 * overlap + self.smooth) / (total + self.smooth)


def _weights(voxels: Tensor) -> Tensor:
    present = torch.where(voxels > 0, voxels, torch.inf)
    smallest = present.amin(-1, keepdim=True)
    smallest = torch.where(smallest.isinf(), 1, smallest)
    return (smallest / voxels.maximum(smallest)).square()
