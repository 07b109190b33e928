"""Focal loss (Lin et al. 2017, arXiv:1708.02002, equation 5): cross-entropy of what is still uncertain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.losses.base import Loss, Reduction
from medseg.losses.outputs import (
    at_least_float32,
    check_labels,
    check_regions,
    log_at,
    log_softmax,
    mean_of_kept,
    per_region,
    weights_like,
    weights_tensor,
)


class FocalLoss(Loss):
    """The mean of -a (1 - p)^gamma ln p over voxels (and regions), p of the true class.

    For labels, a is the class weight. For regions, that is multiplied by `alpha` inside the region and by
    1 - `alpha` outside.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        gamma: 0 is cross-entropy.
        alpha: of regions; None is the paper's 0.25.
        class_weights: one per output; () for 1 each. The loss is not divided by their sum.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.

    Raises:
        UsageError: `alpha` is given for labels.

    >>> import torch
    >>> from medseg.losses import FocalLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(FocalLoss(gamma=2.0)(logits, labels)), 4)
    0.1733
    """

    class_weights: Tensor | None

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        gamma: float = 2.0,
        alpha: float | None = None,
        class_weights: Sequence[float] = (),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(regions=regions, reduction=reduction)
        if alpha is not None and not regions:
            raise UsageError(
                "alpha of the focal loss applies only to regions", hint="use class_weights for labels"
            )
        self.gamma = gamma
        self.alpha = 0.25 if alpha is None else alpha
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        if self.regions:
            check_regions(logits, target)
            return self._of_regions(at_least_float32(logits), target, kept)
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        weights = weights_like(self.class_weights, log_p.movedim(-1, 1))
        losses = self._focused(log_at(log_p, labels))
        return mean_of_kept(losses if weights is None else losses * weights[labels], kept)

    def _of_regions(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        truth = target.to(logits.dtype)
        sides = self.alpha * truth + (1 - self.alpha) * (1 - truth)
        losses = sides * self._focused(functional.logsigmoid(logits * (2 * truth - 1)))
        weights = per_region(self.class_weights, logits)
        return mean_of_kept(losses if weights is None else losses * weights, kept)

    def _focused(self, log_p: Tensor) -> Tensor:
        uncertain = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).eps)  # a root has no slope at 0
        return -uncertain.pow(self.gamma) * log_p
