"""Soft Dice (Milletari et al. 2016, arXiv:1606.04797, section 3).

For one structure with predicted probabilities p and reference g, over all voxels of a batch or sample,

    D = (2 sum(p g) + s) / (sum(p) + sum(g) + s)              "linear"
    D = (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s)          "squared", the paper's with s = 0

Of an absent structure the gradient is never beyond 1/s (2/s when squared).
"""

from __future__ import annotations

from torch import Tensor

from medseg.losses.overlap import OverlapLoss, Sums


class DiceLoss(OverlapLoss):
    """1 - the mean soft Dice of the structures, in [0, 1].

    Args: see `OverlapLoss`.

    >>> import torch
    >>> from medseg.losses import DiceLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(DiceLoss()(logits, labels)), 4)
    0.6531
    """

    def ratio(self, sums: Sums) -> Tensor:
        """D of each structure."""
        return (2 * sums.overlap + self.smooth) / (sums.predicted + sums.reference + self.smooth)
