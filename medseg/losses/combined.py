"""What the pairs of Dice and cross-entropy share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.losses.dice import DiceLoss


class DiceAndCrossEntropy(nn.Module):
    """The parts and factors of dice_weight (1 - Dice) + ce_weight CE.

    Args:
        dice: the Dice part.
        dice_weight: its factor.
        ce_weight: the factor of the cross-entropy.
        class_weights: of the cross-entropy, one an output; () for 1 each.
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
