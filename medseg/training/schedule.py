"""Optimiser, learning rate and averaged weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from medseg.training.spec import TrainingSpec


def build_optimizer(network: nn.Module, spec: TrainingSpec) -> Optimizer:
    """Weight decay acts on weights of convolutions only, not on biases, norms and slopes."""
    trained = [p for p in network.parameters() if p.requires_grad]
    weights = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": spec.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if spec.optimizer == "sgd":
        return SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.momentum > 0)
    if spec.optimizer == "rmsprop":
        return RMSprop(groups, lr=spec.learning_rate)
    return AdamW(groups, lr=spec.learning_rate, fused=True)


def learning_rate(step: int, total_steps: int, spec: TrainingSpec) -> float:
    """Linear warm-up, then (1 - progress)^power; both times the decay of the epochs before.

    >>> learning_rate(0, 10, TrainingSpec(warmup_steps=0, learning_rate=1.0))
    1.0
    """
    highest = spec.learning_rate * spec.epoch_decay ** (step // spec.steps_per_epoch)
    if step < spec.warmup_steps:
        return highest * (step + 1) / spec.warmup_steps
    progress = (step - spec.warmup_steps) / max(1, total_steps - spec.warmup_steps)
    return float(highest * max(0.0, 1.0 - progress) ** spec.schedule_power)


BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def frozen_from(total_steps: int, spec: TrainingSpec) -> int:
    """The step from which batch norm's statistics are frozen.

    >>> frozen_from(100, TrainingSpec(frozen_norm_share=0.25))
    75
    """
    return total_steps - round(total_steps * spec.frozen_norm_share)


def freeze_norms(network: nn.Module, averaged: AveragedWeights, *, first: bool) -> None:
    """Have batch norm compute with its stored statistics, which are the averaged ones from the first time on.

    Statistics of a few scans of unlike contrast are noise that prediction does not have; the last steps
    adapt the weights to what it has. (Affine parameters go on being learnt.)
    """
    for name, module in network.named_modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()
            if first:
                for key in ("running_mean", "running_var"):
                    getattr(module, key).copy_(averaged.tensors[f"{name}.{key}"])


class AveragedWeights:
    """Exponential moving average of parameters and floating-point buffers.

    The decay rises with the number n of updates, so that short trainings average over a share of
    their steps and not over the initial weights: min(decay, (1 + n) / (10 + n)).

    Args:
        network: whose `state_dict` is averaged.
        decay: share of the old average that an update keeps; 0 keeps nothing.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in network.state_dict().items():
            mine = self.tensors[key]
            if mine.is_floating_point():
                mine.lerp_(value, 1.0 - decay)
            else:
                mine.copy_(value)

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Go on from an average of before.

        Raises:
            KeyError: a tensor is missing.
        """
        for key, mine in self.tensors.items():
            mine.copy_(tensors[key])
        self.updates = updates
