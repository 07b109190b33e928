"""Generalised Dice (Sudre et al. 2017, arXiv:1707.03237).

    D = (2 sum_k w_k sum(p_k g_k) + s) / (sum_k w_k (sum(p_k) + sum(g_k)) + s)

with w_k = (v / max(sum(g_k), v))^2, v the voxels of the smallest structure present. Up to a factor that
cancels these are the paper's weights 1 / sum(g_k)^2, and s is in voxels of the smallest structure. An absent
structure, whose weight in the paper is infinite, weighs as much as the smallest; where none is present, all
weigh 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.overlap import OverlapLoss, Sums


class GeneralisedDiceLoss(OverlapLoss):
    """1 - D, in [0, 1]. The paper counts the background as a structure: `include_background`.

    Args:
        others: see `OverlapLoss`.

    >>> import torch
    >>> from medseg.losses import GeneralisedDiceLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(GeneralisedDiceLoss(include_background=True)(logits, labels)), 4)
    0.6142
    """

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            regions=regions,
            include_background=include_background,
            batch=batch,
            smooth=smooth,
            reduction=reduction,
        )

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
