"""What the pairs of Dice and cross-entropy share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from medseg.losses.dice import DiceLoss
from medseg.losses.outputs import weights_tensor
from medseg.losses.overlap import Counting
from medseg.losses.spec import Denominator


class Pair(Counting, total=False):
    """Arguments of `DiceAndCrossEntropy`."""

    denominator: Denominator
    dice_weight: float
    ce_weight: float
    class_weights: Sequence[float]


class DiceAndCrossEntropy(nn.Module):
    """The parts and factors of dice_weight (1 - Dice) + ce_weight CE.

    Args:
        denominator: of the Dice, "linear" or "squared".
        dice_weight: its factor.
        ce_weight: the factor of the cross-entropy.
        class_weights: of the cross-entropy, one an output; () for 1 each.
        counting: of the Dice, see `OverlapLoss`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        denominator: Denominator = "linear",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        class_weights: Sequence[float] = (),
        **counting: Unpack[Counting],
    ) -> None:
        super().__init__()
        self.dice = DiceLoss(denominator=denominator, **counting)
        self.dice_weight = dice_weight
        self.ce_weight = ce_weight
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)
