"""What losses share: outputs and targets that belong together, their probabilities, weighted means.

Every loss takes `kept`, bool (B, *S): voxels that count. What is left out has no part in any sum, number of
voxels or gradient, whatever the target says there (which must be an output); None keeps all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medseg.core.errors import UsageError

VECTOR_FLOATS = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
"""Values that torch's kernels on this CPU compute at once."""


def check_labels(logits: Tensor, target: Tensor) -> None:
    """Refuses labels that do not belong to the logits.

    Raises:
        UsageError: `target` is not (B, *S) for logits (B, K, *S) with K of 2 or more, or (on the CPU)
            holds a label that is no output.
    """
    if logits.ndim < 3 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise UsageError(
            f"labels of shape {tuple(target.shape)} do not fit logits of shape {tuple(logits.shape)}"
        )
    if logits.shape[1] < 2:
        raise UsageError(
            f"a softmax needs at least two outputs, but the logits have the shape {tuple(logits.shape)}"
        )
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

    Logits in a channels-last layout, as networks make them, are not copied, but for few outputs on a CPU:
    torch's kernel for the last axis computes those one by one, which takes two to four times as long.
    """
    wide = at_least_float32(logits)
    if wide.device.type == "cpu" and wide.shape[1] < VECTOR_FLOATS:
        return functional.log_softmax(wide, dim=1).movedim(1, -1)
    return functional.log_softmax(wide.movedim(1, -1), dim=-1)


def log_at(log_p: Tensor, labels: Tensor) -> Tensor:
    """Each voxel's log-probability of its own label: (B, *S) of (B, *S, K) at int64 (B, *S)."""
    return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def masks_of(labels: Tensor, outputs: int, first: int) -> Tensor:
    """The voxels of labels `first` to `outputs` - 1, each a mask: bool (B, K, *S) of (B, *S)."""
    numbers = torch.arange(first, outputs, device=labels.device)
    return labels.unsqueeze(1) == numbers.reshape(-1, *(1,) * (labels.ndim - 1))


def weights_tensor(weights: Sequence[float]) -> Tensor | None:
    """Class weights as a buffer has them; () is None."""
    return torch.tensor(weights) if weights else None


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


def per_region(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights as `weights_like` has them, of shape (K, 1, ...) to be multiplied with (B, K, *S)."""
    like = weights_like(weights, logits)
    return None if like is None else like.reshape(-1, *(1,) * (logits.ndim - 2))


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """sum(w v) / sum(w), or the mean without weights; 0 where no voxel weighs anything."""
    if weights is None:
        return values.mean()
    total = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return (weights * values).sum() / total


def mean_of_kept(values: Tensor, kept: Tensor | None) -> Tensor:
    """The mean of values (B, K, *S), or (B, *S), over kept voxels (B, *S); 0 where there is none."""
    if kept is None:
        return values.mean()
    weights = kept if kept.ndim == values.ndim else kept.unsqueeze(1).expand_as(values)
    return weighted_mean(values, weights.to(values.dtype))


def only_kept(values: Tensor, kept: Tensor | None) -> Tensor:
    """Values (B, K, *S) that are 0 where a voxel (B, *S) is left out."""
    return values if kept is None else torch.where(kept.unsqueeze(1), values, 0)


def kept_weights(weights: Tensor | None, kept: Tensor | None, like: Tensor) -> Tensor | None:
    """Weights of the voxels of `like`, (B, *S) or (B, K, *S), that are 0 where one is left out."""
    if kept is None:
        return weights
    counts = (kept if kept.ndim == like.ndim else kept.unsqueeze(1).expand_as(like)).to(like.dtype)
    return counts if weights is None else weights * counts


def at_least_float32(logits: Tensor) -> Tensor:
    """`logits`, in float32 where they were narrower."""
    return logits if logits.dtype == torch.float64 else logits.float()
