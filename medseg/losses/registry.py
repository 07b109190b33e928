"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from medseg.core.errors import UsageError
from medseg.losses.bce_dice import BCEDiceLoss
from medseg.losses.boundary import BoundaryLoss
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.dice import DiceLoss
from medseg.losses.dice_ce import DiceCELoss
from medseg.losses.distances import SpacingMm
from medseg.losses.focal import FocalLoss
from medseg.losses.generalised_dice import GeneralisedDiceLoss
from medseg.losses.lovasz import LovaszLoss
from medseg.losses.scheduled import WeightedSum
from medseg.losses.spec import USED, LossSettings, LossSpec
from medseg.losses.tversky import FocalTverskyLoss, JaccardLoss, TverskyLoss

Maker = Callable[..., nn.Module]

# Each loss: what makes it from the settings it uses, and its outputs, labels (False) or regions (True).
LOSSES: Mapping[str, tuple[Maker, tuple[bool, ...]]] = {
    "dice": (DiceLoss, (False, True)),
    "jaccard": (JaccardLoss, (False, True)),
    "tversky": (TverskyLoss, (False, True)),
    "focal_tversky": (FocalTverskyLoss, (False, True)),
    "generalised_dice": (GeneralisedDiceLoss, (False, True)),
    "cross_entropy": (CrossEntropyLoss, (False, True)),
    "focal": (FocalLoss, (False, True)),
    "lovasz": (LovaszLoss, (False, True)),
    "boundary": (BoundaryLoss, (False, True)),
    "dice_ce": (DiceCELoss, (False,)),
    "bce_dice": (BCEDiceLoss, (True,)),
}

# Those that measure distances.
MEASURING = ("cross_entropy", "boundary")


def build(spec: LossSpec, *, regions: bool, spacing_mm: SpacingMm = (1.0, 1.0, 1.0)) -> nn.Module:
    """The loss of a spec: a module (logits (B, K, *S), target) -> scalar.

    Args:
        spec: what to build. A sum is `losses.scheduled.Scheduled`.
        regions: whether the network's outputs are overlapping regions, its targets (B, K, *S), rather
            than exclusive labels (B, *S).
        spacing_mm: of the axes of a patch, for losses that measure distances; of an image of two axes,
            the first two.

    Raises:
        UsageError: the loss, or a term of it, does not take such outputs.
    """
    if spec.name != "sum":
        return _one(spec, regions, spacing_mm)
    weights = [(t.weight, t.weight if t.weight_end is None else t.weight_end) for t in spec.terms]
    return WeightedSum([_one(term, regions, spacing_mm) for term in spec.terms], weights)


def _one(spec: LossSettings, regions: bool, spacing_mm: SpacingMm) -> nn.Module:
    make, takes = LOSSES[spec.name]
    if regions not in takes:
        fitting = ", ".join(name for name, (_, takes) in LOSSES.items() if regions in takes)
        raise UsageError(
            f"the loss {spec.name!r} does not take {'regions' if regions else 'labels'}",
            hint=f"choose one of {fitting}",
        )
    settings = {name: getattr(spec, name) for name in USED[spec.name]}
    given = {name: value for name, value in settings.items() if value is not None}
    measuring = {"spacing_mm": spacing_mm} if spec.name in MEASURING else {}
    return make(regions=regions, **given, **measuring)
