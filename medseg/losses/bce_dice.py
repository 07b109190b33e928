"""Dice and binary cross-entropy together, for overlapping regions.

The binary cross-entropy is the mean over voxels and regions: a sum would dwarf the Dice.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from medseg.losses.combined import DiceAndCrossEntropy
from medseg.losses.dice import at_least_float32, check_regions, weights_like


class BCEDiceLoss(DiceAndCrossEntropy):
    """ce_weight BCE + dice_weight (1 - Dice), with BCE = mean(-w_k (g ln p + (1 - g) ln(1 - p))).

    Args: see `DiceAndCrossEntropy`.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against regions (B, K, *S) of any type.

        Raises:
            UsageError: the shapes differ, or the number of class weights.
        """
        check_regions(logits, target)
        wide = at_least_float32(logits)
        truth = target.to(wide.dtype)
        weights = weights_like(self.class_weights, wide)
        if weights is not None:
            weights = weights.reshape(-1, *(1,) * (wide.ndim - 2))
        bce = functional.binary_cross_entropy_with_logits(wide, truth, weight=weights)
        return self.ce_weight * bce + self.dice_weight * self.dice.of_regions(wide.sigmoid(), truth)
