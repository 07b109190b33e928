"""LossSpec: a loss described in data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medseg.errors import UsageError

LossName = Literal["dice", "bce_dice", "dice_ce"]
Denominator = Literal["linear", "squared"]


@dataclass(frozen=True)
class LossSpec:
    """A loss by name, with what it is given.

    Attributes:
        name: key of `losses.registry`: "dice" for either kind of output, "dice_ce" for labels
            (softmax), "bce_dice" for regions (sigmoid).
        denominator: of the soft Dice: sum(p) + sum(g), or V-Net's sum(p^2) + sum(g^2).
        include_background: whether the Dice of label outputs averages over the background too.
        batch: pool the voxels of the batch before the ratio, rather than average one Dice a sample.
        smooth: voxels added to numerator and denominator of the Dice; above 0.
        dice_weight: factor of 1 - Dice.
        ce_weight: factor of the cross-entropy.
        class_weights: factor of each output in the cross-entropy; () for 1 each.

    Raises:
        UsageError: a value is out of range.
    """

    name: LossName = "dice_ce"
    denominator: Denominator = "linear"
    include_background: bool = False
    batch: bool = True
    smooth: float = 1.0
    dice_weight: float = 1.0
    ce_weight: float = 1.0
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.denominator not in get_args(Denominator):
            raise UsageError(f"no Dice denominator named {self.denominator!r}; there are linear, squared")
        if not self.smooth > 0:
            raise UsageError(f"smooth must be above 0, not {self.smooth}")
        weights = (self.dice_weight, self.ce_weight, *self.class_weights)
        if not all(0 <= w < float("inf") for w in weights):
            raise UsageError(f"loss weights must be finite and not negative, not {weights}")
