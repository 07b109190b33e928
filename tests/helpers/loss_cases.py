"""Losses of every kind with every choice that changes what they compute, and what they are given."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.losses.registry import build
from medseg.losses.spec import LOSSES, LossSpec, LossTerm

OUTPUTS = 3
WEIGHTS = (0.5, 2.0, 1.0)
CHOICES: dict[str, list[dict[str, Any]]] = {
    "cross_entropy": [{}, {"class_weights": WEIGHTS}, {"w0": 10.0, "sigma_mm": 2.0}],
    "focal": [{}, {"gamma": 0.5, "class_weights": WEIGHTS}],
    "top_k": [{}, {"share": 0.5, "class_weights": WEIGHTS}],
    "dice_ce": [{}, {"class_weights": WEIGHTS}],
    "bce_dice": [{}, {"class_weights": WEIGHTS}, {"form": "log"}, {"form": "unetpp"}],
}
TERMS = (
    LossTerm("tversky", weight=0.5),
    LossTerm("cross_entropy", w0=10.0, weight=2.0, weight_end=0.0),
    LossTerm("lovasz"),
)


class Variant(NamedTuple):
    """A loss for labels or for regions, with settings."""

    name: str
    regions: bool
    settings: dict[str, Any]

    def __str__(self) -> str:
        chosen = (f"{key}={value}" for key, value in self.settings.items() if key != "terms")
        return "-".join([self.name, "regions" if self.regions else "labels", *chosen])

    @property
    def measures(self) -> bool:
        """Whether it matters where the voxels lie."""
        return self.name in ("boundary", "sum") or "w0" in self.settings

    def build(self, **settings: Any) -> nn.Module:
        return loss(self.name, self.regions, **self.settings, **settings)


def loss(name: str, regions: bool, **settings: Any) -> nn.Module:
    spacing_mm = settings.pop("spacing_mm", (1.0, 1.0, 1.0))
    return build(LossSpec(name, **settings), regions=regions, spacing_mm=spacing_mm)  # type: ignore[arg-type]


def _variants(name: str) -> list[dict[str, Any]]:
    denominators: list[dict[str, Any]] = [{}]
    pooling: list[dict[str, Any]] = [{}]
    if "denominator" in LOSSES[name].settings:
        denominators.append({"denominator": "squared"})
    if "batch" in LOSSES[name].settings:
        pooling.append({"batch": False})
    parts = itertools.product(CHOICES.get(name, [{}]), denominators, pooling)
    return [choice | denominator | pool for choice, denominator, pool in parts]


VARIANTS = [
    Variant(name, regions, settings)
    for name, row in LOSSES.items()
    for regions in (outputs == "regions" for outputs in row.outputs)
    for settings in _variants(name)
] + [Variant("sum", regions, {"terms": TERMS}) for regions in (False, True)]


def case(
    regions: bool, *, batch: int = 2, size: tuple[int, ...] = (3, 4, 5), dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Random logits (B, K, *S), and labels (B, *S) or regions (B, K, *S)."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(batch, OUTPUTS, *size, generator=generator, dtype=dtype)
    if regions:
        return logits, torch.randint(0, 2, logits.shape, generator=generator)
    return logits, torch.randint(0, OUTPUTS, (batch, *size), generator=generator)


def certain(regions: bool, target: Tensor) -> Tensor:
    """Logits that say the target, and leave no doubt."""
    if regions:
        return (target.double() - 0.5) * 400
    return functional.one_hot(target, OUTPUTS).movedim(-1, 1).double() * 400
