"""What every loss is: a module of logits and a target, in the shapes that training loops have them in.

A target is taken as labels (B, *S), as (B, 1, *S), or one-hot (B, K, *S), in any type whose values are whole
numbers; of a loss of regions it is (B, K, *S), for one region also (B, *S). Private: the losses themselves
are the names of `medseg.losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError, unknown_name

Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module, ABC):
    """A loss of logits (B, K, *S).

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        reduction: "mean" is one number of the whole batch; "none" is one number per image, (B,); "sum" is
            the sum of those.

    Raises:
        UsageError: the reduction does not exist.
    """

    def __init__(self, *, regions: bool, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        self.regions = regions
        self.reduction: Reduction = reduction

    @abstractmethod
    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""

    def forward(self, logits: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
        """The loss; below float32, as under autocast, it is computed in float32.

        Args:
            logits: (B, K, *S), any number of axes, on any device.
            target: labels (B, *S) or (B, 1, *S), or one-hot (B, K, *S); of regions (B, K, *S).
            kept: voxels (B, *S) or (B, 1, *S) that count; None for all.

        Returns:
            A scalar, or (B,) of the reduction "none".

        Raises:
            UsageError: shapes do not belong together, or the target is not whole numbers or not one-hot.
        """
        logits, target = plain(logits), plain(target)
        fitted = regions_of(logits, target) if self.regions else labels_of(logits, target)
        kept = None if kept is None else mask_of(logits, plain(kept))
        if self.reduction == "mean":
            return self.of(logits, fitted, kept)
        parts = [slice(n, n + 1) for n in range(len(logits))]
        each = torch.stack([self.of(logits[n], fitted[n], None if kept is None else kept[n]) for n in parts])
        return each.sum() if self.reduction == "sum" else each


def plain(tensor: Tensor) -> Tensor:
    """A tensor without the type that MONAI gives it; gradients pass."""
    as_tensor = getattr(tensor, "as_tensor", None)
    return tensor if as_tensor is None else cast(Tensor, as_tensor())


def labels_of(logits: Tensor, target: Tensor) -> Tensor:
    """Labels (B, *S) of any kind of target for exclusive outputs.

    Raises:
        UsageError: (on the CPU) a value is no whole number, or a voxel has not one output.
    """
    if target.ndim == logits.ndim and target.shape[1] == 1 < logits.shape[1]:
        target = target[:, 0]
    elif target.ndim == logits.ndim and target.shape == logits.shape:
        if target.device.type == "cpu" and not _is_one_hot(target):
            raise UsageError(
                f"a target with the shape of the logits, {tuple(target.shape)}, must be one-hot",
                hint="give labels (B, *S), or choose regions=True for overlapping outputs",
            )
        return target.argmax(1) if target.dtype != torch.bool else target.byte().argmax(1)
    return _whole(target)


def regions_of(logits: Tensor, target: Tensor) -> Tensor:
    """Regions (B, K, *S); those of a single region may lack their axis."""
    if logits.ndim > 1 and logits.shape[1] == 1 and target.ndim == logits.ndim - 1:
        return target.unsqueeze(1)
    return target


def mask_of(logits: Tensor, kept: Tensor) -> Tensor:
    """Voxels that count, bool (B, *S).

    Raises:
        UsageError: the shape is another.
    """
    mask = kept[:, 0] if kept.ndim == logits.ndim and kept.shape[1] == 1 else kept
    if mask.shape != (logits.shape[0], *logits.shape[2:]):
        raise UsageError(
            f"a mask of valid voxels of shape {tuple(kept.shape)} does not fit logits of shape "
            f"{tuple(logits.shape)}"
        )
    return mask.bool()


def _whole(target: Tensor) -> Tensor:
    """Labels as integers; of floats, as pipelines make them, those that are whole."""
    if target.dtype == torch.bool:
        return target.byte()
    if not target.is_floating_point():
        return target
    if target.device.type == "cpu" and not torch.equal(target, target.round()):
        raise UsageError(
            f"labels must be whole numbers, but these {target.dtype} values are not",
            hint="resample labels by nearest-neighbour interpolation",
        )
    return target.long()


def _is_one_hot(target: Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all() and (target.sum(1) == 1).all())
