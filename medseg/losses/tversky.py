"""Soft Jaccard, and the Tversky family that it and the Dice belong to.

With the true positives TP = sum(p g), false positives FP = sum(p) - TP and false negatives FN = sum(g) - TP,

    J = (TP + s) / (TP + FP + FN + s)
    T = (TP + s) / (TP + alpha FP + beta FN + s)

T with alpha = beta = 1 is J; with 1/2 it is the linear Dice, whose smoothing is then 2s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.overlap import OverlapLoss, Sums


class JaccardLoss(OverlapLoss):
    """1 - the mean soft Jaccard of the structures, in [0, 1]; with squared sums it is 0 only for p = g.

    Args: see `OverlapLoss`.

    >>> import torch
    >>> from medseg.losses import JaccardLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(JaccardLoss()(logits, labels)), 4)
    0.7805
    """

    def ratio(self, sums: Sums) -> Tensor:
        """J of each structure."""
        union = sums.predicted + sums.reference - sums.overlap
        return (sums.overlap + self.smooth) / (union + self.smooth)


class TverskyLoss(OverlapLoss):
    """1 - the mean T of the structures, in [0, 1] (Salehi et al. 2017, arXiv:1706.05721).

    Args:
        alpha: weight of a false positive.
        beta: weight of a false negative.
        others: see `OverlapLoss`.

    >>> import torch
    >>> from medseg.losses import TverskyLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(TverskyLoss(alpha=0.3, beta=0.7)(logits, labels)), 4)
    0.5872
    """

    @hinted
    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
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
        self.alpha = alpha
        self.beta = beta

    def ratio(self, sums: Sums) -> Tensor:
        """T of each structure."""
        hits = sums.overlap
        faults = self.alpha * (sums.predicted - hits) + self.beta * (sums.reference - hits)
        return (hits + self.smooth) / (hits + faults + self.smooth)


class FocalTverskyLoss(TverskyLoss):
    """The mean of (1 - T)^(1/gamma), in [0, 1] (Abraham and Khan 2018, arXiv:1810.07842).

    Its gradient has no bound as T approaches 1; within floating-point precision of 1 it is set to 0.

    Args:
        gamma: above 1, structures that overlap well have larger gradients.
        others: see `TverskyLoss`; alpha weights false positives and beta false negatives here too.

    >>> import torch
    >>> from medseg.losses import FocalTverskyLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(FocalTverskyLoss()(logits, labels)), 4)
    0.6708
    """

    @hinted
    def __init__(
        self,
        *,
        gamma: float = 4 / 3,
        alpha: float = 0.3,
        beta: float = 0.7,
        regions: bool = False,
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            alpha=alpha,
            beta=beta,
            regions=regions,
            include_background=include_background,
            batch=batch,
            smooth=smooth,
            reduction=reduction,
        )
        self.gamma = gamma

    def cost(self, sums: Sums) -> Tensor:
        """The loss, a scalar."""
        missing = 1 - self.ratio(sums)
        return missing.clamp_min(torch.finfo(missing.dtype).eps).pow(1 / self.gamma).mean()
