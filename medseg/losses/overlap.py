"""What the losses of overlap share: sums over voxels, taken once, and ratios of them.

The smoothing s, in voxels, stands in numerator and denominator of every ratio. It decides what a structure
without a reference voxel is worth: s / (what was predicted of it + s), which is 1 when nothing is predicted
and falls with every voxel of false positives. Such a structure counts in the mean like any other.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from medseg.core.keywords import hinted
from medseg.losses.base import Loss, Reduction
from medseg.losses.outputs import (
    at_least_float32,
    check_labels,
    check_regions,
    log_at,
    log_softmax,
    only_kept,
)
from medseg.losses.spec import Denominator


class Sums(NamedTuple):
    """What an overlap is made of, each (B, K), or (K,) of a pooled batch: sums over voxels."""

    overlap: Tensor
    predicted: Tensor
    reference: Tensor


class OverlapLoss(Loss):
    """1 - the mean overlap of the structures; how it is measured is said by `ratio`.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        denominator: sum(p) and sum(g) ("linear"), or sum(p^2) and sum(g^2) ("squared").
        include_background: whether softmax output 0 counts; regions have no background.
        batch: pool the batch before the ratio.
        smooth: s above, in voxels.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.
    """

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        denominator: Denominator = "linear",
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(regions=regions, reduction=reduction)
        self.denominator: Denominator = denominator
        self.first = 0 if regions or include_background else 1
        self.batch = batch
        self.smooth = smooth

    @abstractmethod
    def ratio(self, sums: Sums) -> Tensor:
        """The overlap of each structure, in [0, 1]: (K,) or (B, K)."""

    def cost(self, sums: Sums) -> Tensor:
        """The loss, a scalar, of the sums of the structures that count."""
        return 1 - self.ratio(sums).mean()

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        if self.regions:
            check_regions(logits, target)
            return self.of_regions(torch.sigmoid(at_least_float32(logits)), target, kept)
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        return self.of_labels(log_p, log_at(log_p, labels), labels, kept)

    def of_labels(
        self, log_p: Tensor, log_at_label: Tensor, labels: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The loss of log-probabilities (B, *S, K), with `log_at(log_p, labels)` of int64 labels (B, *S)."""
        batch, outputs = log_p.shape[0], log_p.shape[-1]
        rows = (batch, -1, labels.shape[-1])
        at_label = log_at_label.exp()
        at_label = (at_label if kept is None else torch.where(kept, at_label, 0)).reshape(rows)
        # One sum a row of voxels, then one over the rows: a single running float32 sum would lose count.
        by_row = at_label.new_zeros(batch, at_label.shape[1], outputs)
        overlap = by_row.scatter_add(2, labels.reshape(rows), at_label).sum(1)
        sample = torch.arange(batch, device=labels.device).reshape(-1, *(1,) * (labels.ndim - 1))
        numbered = labels + sample * outputs
        numbered = numbered.flatten() if kept is None else numbered[kept]
        counts = torch.bincount(numbered, minlength=batch * outputs)
        reference = counts.reshape(batch, outputs).to(overlap.dtype)
        p = only_kept(log_p.exp().movedim(-1, 1), kept)
        return self.cost(self._counted(overlap, self._total(p), reference))

    def of_regions(self, probabilities: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
        """The loss of probabilities (B, K, *S) against regions (B, K, *S)."""
        return self.cost(self.region_sums(probabilities, target, kept))

    def region_sums(self, probabilities: Tensor, target: Tensor, kept: Tensor | None = None) -> Sums:
        """The sums of probabilities (B, K, *S) against regions (B, K, *S)."""
        probabilities = only_kept(probabilities, kept)
        truth = only_kept(target.to(probabilities.dtype), kept)
        overlap = (probabilities * truth).flatten(2).sum(2)
        return self._counted(overlap, self._total(probabilities), self._total(truth))

    def _total(self, values: Tensor) -> Tensor:
        flat = values.flatten(2)
        return flat.sum(2) if self.denominator == "linear" else flat.square().sum(2)

    def _counted(self, overlap: Tensor, predicted: Tensor, reference: Tensor) -> Sums:
        counted = (s[:, self.first :] for s in (overlap, predicted, reference))
        return Sums(*(s.sum(0) if self.batch else s for s in counted))
