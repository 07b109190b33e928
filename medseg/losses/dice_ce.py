"""Dice and cross-entropy together, for exclusive labels.

The pairing of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.combined import DiceAndCrossEntropy
from medseg.losses.dice import check_labels, log_at, log_softmax, weights_like


class DiceCELoss(DiceAndCrossEntropy):
    """dice_weight (1 - Dice) + ce_weight CE, with CE = sum(-w_t ln p_t) / sum(w_t) over voxels of label t.

    Args: see `DiceAndCrossEntropy`.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S).

        Raises:
            UsageError: the shapes or the number of class weights do not belong together.
        """
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        at_label = log_at(log_p, labels)
        dice = self.dice.of_labels(log_p, at_label, labels)
        weights = weights_like(self.class_weights, log_p.movedim(-1, 1))
        return self.dice_weight * dice + self.ce_weight * _cross_entropy(at_label, labels, weights)


def _cross_entropy(log_at_label: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return -log_at_label.mean()
    voxels = weights[labels]
    total = voxels.sum().clamp_min(torch.finfo(voxels.dtype).tiny)  # 0 when no label of the batch counts
    return -(voxels * log_at_label).sum() / total
