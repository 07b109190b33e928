"""Losses made from their specs."""

from __future__ import annotations

from torch import nn

from medseg.core.errors import UsageError
from medseg.core.registry import located
from medseg.losses.distances import SpacingMm
from medseg.losses.scheduled import WeightedSum
from medseg.losses.spec import LOSSES, SUM, LossSettings, LossSpec


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
    if spec.name != SUM:
        return _one(spec, regions, spacing_mm)
    weights = [(t.weight, t.weight if t.weight_end is None else t.weight_end) for t in spec.terms]
    return WeightedSum([_one(term, regions, spacing_mm) for term in spec.terms], weights)


def _one(spec: LossSettings, regions: bool, spacing_mm: SpacingMm) -> nn.Module:
    loss, outputs = LOSSES.find(spec.name), "regions" if regions else "labels"
    if outputs not in loss.outputs:
        fitting = ", ".join(name for name, other in LOSSES.items() if outputs in other.outputs)
        raise UsageError(f"the loss {spec.name!r} does not take {outputs}", hint=f"choose one of {fitting}")
    settings = {name: getattr(spec, name) for name in loss.settings}
    given = {name: value for name, value in settings.items() if value is not None}
    measuring = {"spacing_mm": spacing_mm} if loss.distances else {}
    made: nn.Module = located(loss.maker)(regions=regions, **given, **measuring)
    return made
