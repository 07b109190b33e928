"""Dice and cross-entropy together, for exclusive labels.

The pairing of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from torch import Tensor

from medseg.losses.combined import DiceAndCrossEntropy
from medseg.losses.outputs import (
    check_labels,
    kept_weights,
    log_at,
    log_softmax,
    weighted_mean,
    weights_like,
)


class DiceCELoss(DiceAndCrossEntropy):
    """dice_weight (1 - Dice) + ce_weight CE, with CE = sum(-w_t ln p_t) / sum(w_t) over voxels of label t.

    Args: see `DiceAndCrossEntropy`.
    """

    def forward(self, logits: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S), at the voxels kept.

        Raises:
            UsageError: the shapes or the number of class weights do not belong together.
        """
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        at_label = log_at(log_p, labels)
        dice = self.dice.of_labels(log_p, at_label, labels, kept)
        weights = weights_like(self.class_weights, log_p.movedim(-1, 1))
        per_voxel = kept_weights(None if weights is None else weights[labels], kept, at_label)
        cross_entropy = -weighted_mean(at_label, per_voxel)
        return self.dice_weight * dice + self.ce_weight * cross_entropy
