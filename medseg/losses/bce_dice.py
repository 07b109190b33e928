"""Dice and binary cross-entropy together, for overlapping regions, in three forms.

    "linear"   ce_weight BCE + dice_weight (1 - D)
    "log"      ce_weight BCE - dice_weight ln D
    "unetpp"   ce_weight 1/2 mean(-g ln p) + dice_weight (1 - D)

D is the mean Dice of the regions; -ln D pulls the harder the worse it is. "unetpp" is the formula of UNet++
(Zhou et al. 2018, arXiv:1807.10165, section 3.2) plus 1, so that a perfect prediction costs nothing: a Dice
of each image, and a cross-entropy of the regions' own voxels alone. In every form the cross-entropy is the
mean over voxels and regions: a sum, as "log" and "unetpp" may also be read, would dwarf the Dice.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.combined import DiceAndCrossEntropy
from medseg.losses.outputs import at_least_float32, check_regions, mean_of_kept, per_region
from medseg.losses.spec import Denominator, Form


class BCEDiceLoss(DiceAndCrossEntropy):
    """One of the forms above, with BCE = mean(-w_k (g ln p + (1 - g) ln(1 - p))).

    Args:
        form: "linear", "log" or "unetpp", which pools no batch whatever `batch` is.
        others: see `DiceAndCrossEntropy`.

    >>> import torch
    >>> from medseg.losses import BCEDiceLoss
    >>> masks = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 1, 4, 4, 4)
    >>> round(float(BCEDiceLoss()(logits, masks)), 4)
    1.3462
    """

    @hinted
    def __init__(
        self,
        *,
        form: Form = "linear",
        regions: bool = True,
        denominator: Denominator = "linear",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        class_weights: Sequence[float] = (),
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        if not regions:
            raise UsageError("BCE-Dice takes regions, not labels", hint="choose DiceCELoss for labels")
        super().__init__(
            regions=True,
            denominator=denominator,
            dice_weight=dice_weight,
            ce_weight=ce_weight,
            class_weights=class_weights,
            include_background=include_background,
            batch=batch and form != "unetpp",
            smooth=smooth,
            reduction=reduction,
        )
        self.form: Form = form

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against regions (B, K, *S)."""
        check_regions(logits, target)
        wide = at_least_float32(logits)
        truth = target.to(wide.dtype)
        entropy = self._cross_entropy(wide, truth, per_region(self.class_weights, wide), kept)
        return self.ce_weight * entropy + self.dice_weight * self._dice_part(wide, truth, kept)

    def _cross_entropy(
        self, logits: Tensor, truth: Tensor, weights: Tensor | None, kept: Tensor | None
    ) -> Tensor:
        if self.form == "unetpp":
            within = -truth * functional.logsigmoid(logits)
            return mean_of_kept(within if weights is None else within * weights, kept) / 2
        if kept is None:
            return functional.binary_cross_entropy_with_logits(logits, truth, weight=weights)
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight=weights, reduction="none")
        return mean_of_kept(entropy, kept)

    def _dice_part(self, logits: Tensor, truth: Tensor, kept: Tensor | None) -> Tensor:
        p = logits.sigmoid()
        if self.form != "log":
            return self.dice.of_regions(p, truth, kept)
        return -self.dice.ratio(self.dice.region_sums(p, truth, kept)).mean().log()
