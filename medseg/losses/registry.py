"""Losses by name."""

from __future__ import annotations

from torch import nn

from medseg.errors import UsageError
from medseg.losses.bce_dice import BCEDiceLoss
from medseg.losses.dice import DiceLoss
from medseg.losses.dice_ce import DiceCELoss
from medseg.losses.spec import LossSpec

# Each loss, and which outputs it takes: labels (False), regions (True).
LOSSES: dict[str, tuple[bool, ...]] = {"dice": (False, True), "dice_ce": (False,), "bce_dice": (True,)}


def build(spec: LossSpec, *, regions: bool) -> nn.Module:
    """The loss of a spec: a module (logits (B, K, *S), target) -> scalar.

    Args:
        spec: what to build.
        regions: whether the network's outputs are overlapping regions, its targets (B, K, *S), rather
            than exclusive labels (B, *S).

    Raises:
        UsageError: the name is unknown, or the loss does not take such outputs.
    """
    if spec.name not in LOSSES:
        raise UsageError(f"no loss named {spec.name!r}; there are {', '.join(LOSSES)}")
    if regions not in LOSSES[spec.name]:
        fitting = ", ".join(name for name, takes in LOSSES.items() if regions in takes)
        raise UsageError(
            f"the loss {spec.name!r} does not take {'regions' if regions else 'labels'}",
            mend=f"choose one of {fitting}",
        )
    dice = DiceLoss(
        regions=regions,
        denominator=spec.denominator,
        include_background=spec.include_background,
        batch=spec.batch,
        smooth=spec.smooth,
    )
    if spec.name == "dice":
        return dice
    combined = BCEDiceLoss if regions else DiceCELoss
    return combined(
        dice, dice_weight=spec.dice_weight, ce_weight=spec.ce_weight, class_weights=spec.class_weights
    )
