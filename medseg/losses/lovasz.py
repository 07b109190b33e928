"""Lovasz losses (Berman et al. 2018, arXiv:1705.08790): the Jaccard loss of masks, extended to errors.

With the errors m of one structure sorted from the largest, the loss is sum_i m_i (J_i - J_{i-1}), J_i being
the Jaccard loss 1 - IoU when the first i voxels alone are wrong. Of errors 0 and 1 it is exactly 1 - IoU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medseg.core.keywords import hinted
from medseg.losses.base import Loss, Reduction
from medseg.losses.outputs import at_least_float32, check_labels, check_regions, masks_of, only_kept


class LovaszLoss(Loss):
    """Softmax for labels, hinge for regions.

    For labels, the errors are |g - p|, and the loss is the mean over the structures present, in [0, 1]; 0 if
    no structure is present. For regions, the errors are max(0, 1 - z (2g - 1)) of logits z, and the loss is
    the mean over the regions, 0 or more; the loss of a region without a voxel is its largest error.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        include_background: whether softmax output 0 counts; regions have no background.
        batch: pool the batch, rather than average one loss a sample.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.

    >>> import torch
    >>> from medseg.losses import LovaszLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(LovaszLoss()(logits, labels)), 4)
    0.5
    """

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        include_background: bool = False,
        batch: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(regions=regions, reduction=reduction)
        self.first = 0 if include_background else 1
        self.batch = batch

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        if self.regions:
            check_regions(logits, target)
            return self._hinge(at_least_float32(logits), target > 0, kept)
        check_labels(logits, target)
        p = at_least_float32(logits).softmax(1)[:, self.first :]
        return self._softmax(p, masks_of(target, logits.shape[1], self.first), kept)

    def _hinge(self, logits: Tensor, masks: Tensor, kept: Tensor | None) -> Tensor:
        errors = only_kept(functional.relu(1 - logits * torch.where(masks, 1, -1)), kept)
        return lovasz_extension(self._rows(errors), self._rows(_known(masks, kept))).mean()

    def _softmax(self, p: Tensor, masks: Tensor, kept: Tensor | None) -> Tensor:
        truth = self._rows(_known(masks, kept))
        losses = lovasz_extension(self._rows(only_kept((masks.to(p.dtype) - p).abs(), kept)), truth)
        present = truth.any(-1)
        return ((losses * present).sum(-1) / present.sum(-1).clamp_min(1)).mean()

    def _rows(self, values: Tensor) -> Tensor:
        """(B, K, V) of (B, K, *S), or (1, K, B V) when the batch is pooled."""
        flat = values.flatten(2)
        return flat.transpose(0, 1).flatten(1).unsqueeze(0) if self.batch else flat


def _known(masks: Tensor, kept: Tensor | None) -> Tensor:
    """Masks (B, K, *S) without what is left out, whose error of 0 comes last and adds nothing."""
    return masks if kept is None else masks & kept.unsqueeze(1)


def lovasz_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """The extension along the last axis: (...) of errors and bool masks (..., V)."""
    largest_first, order = errors.sort(dim=-1, descending=True)
    return (largest_first * _increments(truth.gather(-1, order), errors.dtype)).sum(-1)


def _increments(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """J_i - J_{i-1} of masks (..., V) in the order of their errors, written out: nothing cancels.

    A missed voxel shrinks the intersection by 1, which is 1/union; a false one makes the union larger by 1.
    """
    voxels = truth.sum(-1, keepdim=True)
    missed = truth.cumsum(-1)
    false = torch.arange(1, truth.shape[-1] + 1, device=truth.device) - missed
    union = voxels + false
    widened = (voxels - missed).to(dtype) / (union * (union - 1).clamp_min(1)).to(dtype)
    first = (
        torch.arange(truth.shape[-1], device=truth.device) == 0
    )  # of an empty mask, it takes J from 0 to 1
    return torch.where(truth, 1 / union.to(dtype), torch.where((voxels == 0) & first, 1, widened))
