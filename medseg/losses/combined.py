"""What the pairs of Dice and cross-entropy share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg.losses.base import Loss, Reduction
from medseg.losses.dice import DiceLoss
from medseg.losses.outputs import weights_tensor
from medseg.losses.spec import Denominator


class DiceAndCrossEntropy(Loss):
    """The parts and factors of dice_weight (1 - Dice) + ce_weight CE.

    Args:
        denominator: of the Dice, "linear" or "squared".
        dice_weight: its factor.
        ce_weight: the factor of the cross-entropy.
        class_weights: of the cross-entropy, one per output; () for 1 each.
        regions, include_background, batch, smooth: of the Dice, see `OverlapLoss`.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        regions: bool = False,
        denominator: Denominator = "linear",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        class_weights: Sequence[float] = (),
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(regions=regions, reduction=reduction)
        self.dice = DiceLoss(
            regions=regions,
            denominator=denominator,
            include_background=include_background,
            batch=batch,
            smooth=smooth,
        )
        self.dice_weight = dice_weight
        self.ce_weight = ce_weight
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)
