"""Dice and cross-entropy together, for exclusive labels.

The pairing of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.combined import DiceAndCrossEntropy
from medseg.losses.outputs import (
    check_labels,
    kept_weights,
    log_at,
    log_softmax,
    weighted_mean,
    weights_like,
)
from medseg.losses.spec import Denominator


class DiceCELoss(DiceAndCrossEntropy):
    """dice_weight (1 - Dice) + ce_weight CE, with CE = sum(-w_t ln p_t) / sum(w_t) over voxels of label t.

    Args: see `DiceAndCrossEntropy`.

    >>> import torch
    >>> from medseg.losses import DiceCELoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(DiceCELoss()(logits, labels)), 4)
    1.3462
    """

    @hinted
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
        if regions:
            raise UsageError("Dice-CE takes labels, not regions", hint="choose BCEDiceLoss for regions")
        super().__init__(
            regions=False,
            denominator=denominator,
            dice_weight=dice_weight,
            ce_weight=ce_weight,
            class_weights=class_weights,
            include_background=include_background,
            batch=batch,
            smooth=smooth,
            reduction=reduction,
        )

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S)."""
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        at_label = log_at(log_p, labels)
        dice = self.dice.of_labels(log_p, at_label, labels, kept)
        weights = weights_like(self.class_weights, log_p.movedim(-1, 1))
        per_voxel = kept_weights(None if weights is None else weights[labels], kept, at_label)
        cross_entropy = -weighted_mean(at_label, per_voxel)
        return self.dice_weight * dice + self.ce_weight * cross_entropy
