"""Dice and binary cross-entropy together, for overlapping regions.

The binary cross-entropy is the mean over voxels and regions: a sum would dwarf the Dice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.losses.dice import DiceLoss, at_least_float32, check_regions, weights_like


class BCEDiceLoss(nn.Module):
    """ce_weight BCE + dice_weight (1 - Dice), with BCE = mean(-w_k (g ln p + (1 - g) ln(1 - p))).

    Args:
        dice: the Dice part, of regions.
        dice_weight: its factor.
        ce_weight: the factor of the cross-entropy.
        class_weights: w, one a region; () for 1 each.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        dice: DiceLoss,
        *,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        class_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.dice = dice
        self.dice_weight = dice_weight
        self.ce_weight = ce_weight
        weights = torch.tensor(class_weights) if class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

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
