"""Sums of losses whose weights may change in the course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Scheduled(Protocol):
    """A loss that must be told how far the training is.

    Attributes:
        progress: the share of its steps that are done, in [0, 1].
    """

    progress: float


class WeightedSum(nn.Module):
    """The sum of losses, each multiplied by a weight that changes linearly from its first value to its last.

    Args:
        terms: the losses, for one kind of target.
        weights: (at the beginning, at the end) for each term.

    >>> import torch
    >>> from medseg.losses import CrossEntropyLoss, DiceLoss, WeightedSum
    >>> loss = WeightedSum([DiceLoss(), CrossEntropyLoss()], [(1.0, 1.0), (1.0, 0.0)])
    >>> loss.progress = 0.5
    >>> round(float(loss(torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 4, 4, 4))), 4)
    1.3163
    """

    def __init__(self, terms: Sequence[nn.Module], weights: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.weights = tuple(weights)
        self.progress = 0.0

    def forward(self, logits: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against what the terms take, at the voxels kept.

        Raises:
            UsageError: the shapes do not belong together.
        """
        weighted = [
            (start + (end - start) * self.progress) * term(logits, target, kept)
            for term, (start, end) in zip(self.terms, self.weights, strict=True)
        ]
        return torch.stack(weighted).sum(0)
