"""LossSpec: a loss described in data, and the table of losses by name. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from medseg.core.errors import UsageError, unknown_name
from medseg.core.registry import Registry

Denominator = Literal["linear", "squared"]
Form = Literal["linear", "log", "unetpp"]

Outputs = Literal["labels", "regions"]
"""Exclusive outputs (softmax), or overlapping ones (sigmoid)."""

SUM = "sum"
"""Name of the weighted sum of the terms of a `LossSpec`."""


@dataclass(frozen=True)
class Loss:
    """What a recipe must know of a loss before it is made; no torch is needed for it.

    Attributes:
        maker: where its class is defined, as "module:class". The class is made with the keyword `regions`
            and the settings below, and is a module (logits (B, K, *S), target, kept) -> scalar.
        settings: the fields of `LossSettings` that it uses.
        outputs: that it takes.
        distances: whether it measures distances, and is made with `spacing_mm`.
    """

    maker: str
    settings: tuple[str, ...] = ()
    outputs: tuple[Outputs, ...] = ("labels", "regions")
    distances: bool = False


_OVERLAP = ("include_background", "batch", "smooth")
_PAIR = ("denominator", *_OVERLAP, "dice_weight", "ce_weight", "class_weights")

LOSSES = Registry[Loss](
    "loss",
    "medseg.losses",
    {
        "dice": Loss("medseg.losses.dice:DiceLoss", ("denominator", *_OVERLAP)),
        "jaccard": Loss("medseg.losses.tversky:JaccardLoss", ("denominator", *_OVERLAP)),
        "tversky": Loss("medseg.losses.tversky:TverskyLoss", ("alpha", "beta", *_OVERLAP)),
        "focal_tversky": Loss(
            "medseg.losses.tversky:FocalTverskyLoss", ("alpha", "beta", "gamma", *_OVERLAP)
        ),
        "generalised_dice": Loss("medseg.losses.generalised_dice:GeneralisedDiceLoss", _OVERLAP),
        "cross_entropy": Loss(
            "medseg.losses.cross_entropy:CrossEntropyLoss",
            ("class_weights", "w0", "sigma_mm"),
            distances=True,
        ),
        "focal": Loss("medseg.losses.focal:FocalLoss", ("gamma", "alpha", "class_weights")),
        "top_k": Loss("medseg.losses.top_k:TopKLoss", ("share", "class_weights")),
        "lovasz": Loss("medseg.losses.lovasz:LovaszLoss", ("include_background", "batch")),
        "boundary": Loss("medseg.losses.boundary:BoundaryLoss", ("include_background",), distances=True),
        "dice_ce": Loss("medseg.losses.dice_ce:DiceCELoss", _PAIR, ("labels",)),
        "bce_dice": Loss("medseg.losses.bce_dice:BCEDiceLoss", (*_PAIR, "form"), ("regions",)),
    },
    lambda found: isinstance(found, Loss),
)
"""One row a loss (see docs/extending.md)."""


@dataclass(frozen=True)
class LossSettings:
    """A loss by name, with what it is given; each loss uses the settings that its row of `LOSSES` lists.

    Attributes:
        name: in `LOSSES`, or "sum": the sum of the terms of a `LossSpec`. "dice_ce" is for
            labels (softmax), "bce_dice" for regions (sigmoid), the others for either.
        denominator: of the soft Dice: sum(p) + sum(g), or V-Net's sum(p^2) + sum(g^2).
        include_background: whether label outputs average over the background too.
        batch: pool the voxels of the batch before the ratio, rather than average one per sample.
        smooth: voxels added to numerator and denominator of the overlap; above 0.
        dice_weight: factor of the Dice part.
        ce_weight: factor of the cross-entropy.
        class_weights: factor of each output in the cross-entropy; () for 1 each.
        alpha: weight of false positives (Tversky); of a region's voxels, against 1 - alpha of the others
            (focal, regions alone). None is the paper's: 0.3, and 0.25.
        beta: weight of false negatives; None is the paper's 0.7.
        gamma: focusing exponent (focal), or its inverse (focal Tversky); None is the papers' 2, and 4/3.
        w0: height of the border map of the cross-entropy; 0 for no map, U-Net's 10.
        sigma_mm: its width. U-Net's 5 are pixels: where voxels have no size, they count as 1 mm.
        share: of the voxels that count, the hardest ones (top-k, or OHEM).
        form: of BCE-Dice: "linear" with 1 - D, "log" with -ln D, "unetpp" as in UNet++ (`losses.bce_dice`).

    Raises:
        UsageError: a value is out of range, or not used by the loss.
    """

    name: str = "dice_ce"
    denominator: Denominator = "linear"
    include_background: bool = False
    batch: bool = True
    smooth: float = 1.0
    dice_weight: float = 1.0
    ce_weight: float = 1.0
    class_weights: tuple[float, ...] = ()
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    w0: float = 0.0
    sigma_mm: float = 5.0
    share: float = 0.1
    form: Form = "linear"

    def __post_init__(self) -> None:
        settings = () if self.name == SUM else LOSSES.find(self.name, SUM).settings
        for setting in fields(LossSettings)[1:]:
            if getattr(self, setting.name) != setting.default and setting.name not in settings:
                used = ", ".join(settings) or ("only terms" if self.name == SUM else "none")
                raise UsageError(f"the loss {self.name!r} does not use {setting.name}; it uses {used}")
        if self.denominator not in get_args(Denominator):
            raise unknown_name("Dice denominator", self.denominator, get_args(Denominator))
        if self.form not in get_args(Form):
            raise unknown_name("form of BCE-Dice", self.form, get_args(Form))
        for name in ("smooth", "sigma_mm", "gamma"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value}")
        if not 0 < self.share <= 1:
            raise UsageError(f"share must be above 0 and at most 1, not {self.share}")
        _check_weights(self.dice_weight, self.ce_weight, *self.class_weights, self.w0, self.alpha, self.beta)
        if self.name == "focal" and self.alpha is not None and self.alpha > 1:
            raise UsageError(f"alpha of the focal loss must be 1 or less, not {self.alpha}")


@dataclass(frozen=True)
class LossTerm(LossSettings):
    """One loss of a sum.

    Attributes:
        weight: its factor, at the beginning of the training where `weight_end` is given.
        weight_end: its factor at the end; linear in between. None keeps `weight`.

    Raises:
        UsageError: a value is out of range, or the term is a sum itself.
    """

    weight: float = 1.0
    weight_end: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == SUM:
            raise UsageError("a term of a sum cannot be a sum itself", hint="list its terms directly")
        _check_weights(self.weight, self.weight_end)


@dataclass(frozen=True)
class LossSpec(LossSettings):
    """The loss of a recipe: one, or the weighted sum of several.

    Attributes:
        terms: of the loss "sum", each with settings of its own.

    Raises:
        UsageError: a value is out of range, a sum has no terms, or another loss has some.
    """

    terms: tuple[LossTerm, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == SUM and not self.terms:
            raise UsageError(
                "a sum of losses needs terms", hint="add [[loss.terms]] with a name and a weight"
            )
        if self.terms and self.name != SUM:
            raise UsageError(f"the loss {self.name!r} does not take terms", hint='set name = "sum"')


def _check_weights(*weights: float | None) -> None:
    given = tuple(w for w in weights if w is not None)
    if not all(0 <= w < math.inf for w in given):
        raise UsageError(f"loss weights must be finite and not negative, not {given}")
