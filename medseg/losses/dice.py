"""Soft Dice (Milletari et al. 2016, arXiv:1606.04797, section 3).

For one structure with predicted probabilities p and reference g, over all voxels of a batch or sample,

    D = (2 sum(p g) + s) / (sum(p) + sum(g) + s)              "linear"
    D = (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s)          "squared", the paper's with s = 0

The smoothing s, in voxels, decides what a structure without a reference voxel is worth: D = s / (sum(p) + s),
which is 1 when nothing is predicted and falls with every voxel of false positives, its gradient never beyond
1/s (2/s when squared). It counts in the mean like any other structure.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import UsageError
from medseg.losses.spec import Denominator


class Sums(NamedTuple):
    """What a Dice is made of, each (B, K): sums over the voxels of a sample."""

    overlap: Tensor
    predicted: Tensor
    reference: Tensor


class DiceLoss(nn.Module):
    """1 - the mean soft Dice of the structures, in [0, 1].

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        denominator: "linear" or "squared".
        include_background: whether softmax output 0 counts; regions have no background.
        batch: pool the batch before the ratio.
        smooth: s above, in voxels.
    """

    def __init__(
        self,
        *,
        regions: bool = False,
        denominator: Denominator = "linear",
        include_background: bool = False,
        batch: bool = True,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.denominator: Denominator = denominator
        self.first = 0 if regions or include_background else 1
        self.batch = batch
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: (B, K, *S); below float32 they are computed in float32.
            target: labels (B, *S) of any integer type, or regions (B, K, *S).

        Raises:
            UsageError: the shapes do not belong together.
        """
        if self.regions:
            check_regions(logits, target)
            return self.of_regions(torch.sigmoid(at_least_float32(logits)), target)
        check_labels(logits, target)
        log_p = log_softmax(logits)
        labels = target.long()
        return self.of_labels(log_p, log_at(log_p, labels), labels)

    def of_labels(self, log_p: Tensor, log_at_label: Tensor, labels: Tensor) -> Tensor:
        """The loss of log-probabilities (B, *S, K), with `log_at(log_p, labels)` of int64 labels (B, *S)."""
        batch, outputs = log_p.shape[0], log_p.shape[-1]
        rows = (batch, -1, labels.shape[-1])
        at_label = log_at_label.exp().reshape(rows)
        # One sum a row of voxels, then one over the rows: a single running float32 sum would lose count.
        by_row = at_label.new_zeros(batch, at_label.shape[1], outputs)
        overlap = by_row.scatter_add(2, labels.reshape(rows), at_label).sum(1)
        sample = torch.arange(batch, device=labels.device).reshape(-1, *(1,) * (labels.ndim - 1))
        counts = torch.bincount((labels + sample * outputs).flatten(), minlength=batch * outputs)
        reference = counts.reshape(batch, outputs).to(overlap.dtype)
        return self._loss(Sums(overlap, self._total(log_p.exp().movedim(-1, 1)), reference))

    def of_regions(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """The loss of probabilities (B, K, *S) against regions (B, K, *S)."""
        truth = target.to(probabilities.dtype)
        return self._loss(
            Sums((probabilities * truth).flatten(2).sum(2), self._total(probabilities), self._total(truth))
        )

    def _total(self, values: Tensor) -> Tensor:
        flat = values.flatten(2)
        return flat.sum(2) if self.denominator == "linear" else flat.square().sum(2)

    def _loss(self, sums: Sums) -> Tensor:
        counted = (s[:, self.first :] for s in sums)
        overlap, predicted, reference = (s.sum(0) if self.batch else s for s in counted)
        dice = (2 * overlap + self.smooth) / (predicted + reference + self.smooth)
        return 1 - dice.mean()


def check_labels(logits: Tensor, target: Tensor) -> None:
    """Refuses labels that do not belong to the logits.

    Raises:
        UsageError: `target` is not (B, *S) for logits (B, K, *S) with K of 2 or more, is not of integers, or
            (on the CPU) holds a label that is no output.
    """
    if logits.ndim < 3 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise UsageError(
            f"labels of shape {tuple(target.shape)} do not fit logits of shape {tuple(logits.shape)}"
        )
    if logits.shape[1] < 2:
        raise UsageError(
            f"a softmax needs two outputs or more, and the logits have shape {tuple(logits.shape)}"
        )
    if target.is_floating_point():
        raise UsageError(f"labels must be integers, not {target.dtype}")
    if target.device.type == "cpu" and target.numel():  # elsewhere the look would hold up the queue
        low, high = (int(v) for v in target.aminmax())
        if low < 0 or high >= logits.shape[1]:
            raise UsageError(f"labels from {low} to {high} do not fit {logits.shape[1]} outputs")


def check_regions(logits: Tensor, target: Tensor) -> None:
    """Refuses regions that do not belong to the logits.

    Raises:
        UsageError: the shapes differ.
    """
    if logits.shape != target.shape:
        raise UsageError(
            f"regions of shape {tuple(target.shape)} do not fit logits of shape {tuple(logits.shape)}"
        )


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities (B, *S, K), float32 or float64, of logits (B, K, *S).

    Of logits in a channels-last layout, as networks on a CPU make them, nothing is copied.
    """
    return functional.log_softmax(at_least_float32(logits).movedim(1, -1), dim=-1)


def log_at(log_p: Tensor, labels: Tensor) -> Tensor:
    """Each voxel's log-probability of its own label: (B, *S) of (B, *S, K) at int64 (B, *S)."""
    return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def weights_like(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights in the type and place of logits (B, K, *S).

    Raises:
        UsageError: there are not K.
    """
    if weights is None:
        return None
    if len(weights) != logits.shape[1]:
        raise UsageError(f"{len(weights)} class weights do not fit {logits.shape[1]} outputs")
    return weights.to(logits)


def at_least_float32(logits: Tensor) -> Tensor:
    """`logits`, in float32 where they were narrower."""
    return logits if logits.dtype == torch.float64 else logits.float()
