"""Losses of networks that find objects: of scores, boxes and masks, one number an object or point."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medseg.instances.boxes import giou


def focal(logits: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of every logit (Lin et al. 2017, arXiv:1708.02002, equation 5).

    Args:
        logits: of any shape.
        target: 0 or 1, of the same shape.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.sigmoid(logits) * target + (1 - torch.sigmoid(logits)) * (1 - target)
    return (alpha * target + (1 - alpha) * (1 - target)) * (1 - right) ** gamma * loss


def giou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU of boxes (N, 2n) with boxes (N, 2n): (N,)."""
    return 1 - giou(found, wanted)


def smooth_l1(found: Tensor, wanted: Tensor, beta: float = 1.0) -> Tensor:
    """The sum over a row of what is quadratic below `beta` and linear above (Girshick 2015, equation 3)."""
    return functional.smooth_l1_loss(found, wanted, beta=beta, reduction="none").sum(dim=1)


def mask_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross-entropy plus 1 - soft Dice of each mask: (R,).

    Args:
        logits: (R, *bins).
        wanted: shares in [0, 1], of the same shape.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").flatten(1).mean(1)
    found, true = torch.sigmoid(logits).flatten(1), wanted.flatten(1)
    dice = (2 * (found * true).sum(1) + 1) / (found.sum(1) + true.sum(1) + 1)
    return entropy + 1 - dice
