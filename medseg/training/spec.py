"""Settings of a training (no torch here: recipes are read without it)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.augment.spec import CoarseSpec
from medseg.core.errors import UsageError


@dataclass(frozen=True)
class TrainingSpec:
    """How a network is trained.

    Attributes:
        patch: patch size in voxels of the prepared grid.
        batch: patches a step.
        epochs: length of the training; `--epochs` and `--time-budget` override it.
        steps_per_epoch: optimiser steps between two validations and checkpoints.
        optimizer: "adamw", "sgd" with Nesterov momentum, or "rmsprop" without any.
        learning_rate: its highest value.
        momentum: of SGD.
        weight_decay: decoupled for AdamW, L2 for the others; not applied to biases and norms.
        warmup_steps: steps of linear warm-up.
        schedule_power: exponent of the polynomial decay to zero after the warm-up.
        epoch_decay: factor of the learning rate after each epoch; with a power of 0, the whole schedule.
        foreground_share: share of patches centred on a structure.
        ema_decay: of the exponential moving average of the weights, which is what is validated
            and kept; 0 switches it off.
        sampled_loss: compute logits and loss at one in eight voxels, drawn again at each step, with networks
            that can (`fast_unet`); a fraction of the cost of the full resolution.
        deep_supervision: take the loss of every head of a network that has several (`unetpp`,
            `plain_unet`), each with its weight.
        frozen_norm_share: share of the steps, at the end, in which batch norm computes with its averaged
            statistics, as it will in prediction, and no longer with those of the batch.
        clip_norm: limit of the gradient's norm.
        precision: "bf16" autocast, "f32", or "auto": bf16 where the processor computes in it.
        frozen: parts of the network whose weights do not change, such as "encoder".
        selection_share: share of the training cases that choose the checkpoint; with 0 all train, and
            the last one is kept.
        patience: epochs without a better checkpoint after which the training ends early; 0 trains on.
        seed: of everything random.

    Raises:
        UsageError: a value is out of range.
    """

    patch: tuple[int, int, int] = (64, 64, 64)
    batch: int = 2
    epochs: int = 100
    steps_per_epoch: int = 100
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 3e-3
    momentum: float = 0.99
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    schedule_power: float = 0.9
    epoch_decay: float = 1.0
    foreground_share: float = 0.5
    ema_decay: float = 0.998
    sampled_loss: bool = False
    deep_supervision: bool = False
    frozen_norm_share: float = 0.0
    clip_norm: float = 12.0
    precision: Literal["auto", "f32", "bf16"] = "auto"
    frozen: tuple[str, ...] = ()
    selection_share: float = 0.1
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "epochs", "steps_per_epoch"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("warmup_steps", "weight_decay", "schedule_power", "patience"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "finite and at least 0")
        for name in ("learning_rate", "clip_norm"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "finite and above 0")
        for name in ("momentum", "ema_decay", "selection_share"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(0 < self.epoch_decay <= 1, "epoch_decay", self.epoch_decay, "above 0 and at most 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2^63")
        for name in ("foreground_share", "frozen_norm_share"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        _require(min(self.patch) >= 1, "patch", self.patch, "three positive sizes")


@dataclass(frozen=True)
class CascadeSpec:
    """A coarse stage that is trained first, on whole scans, and whose answer the recipe's network is given.

    In all that is not listed here, the coarse stage has the settings of the recipe.

    Attributes:
        spacing_mm: voxels that it sees.
        patch: patch size in these voxels; a whole scan, or as much of it as names a structure.
        widths, kernels, strides: of its network, see `NetworkSpec`; the recipe's widths where there are none.
        time_share: share of a time budget that it is trained for.
        augmentation: changes of its answer in the training of the fine stage.

    Raises:
        UsageError: a value is out of range.
    """

    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    widths: tuple[int, ...] = ()
    kernels: tuple[tuple[int, ...], ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    time_share: float = 0.25
    augmentation: CoarseSpec = CoarseSpec()

    def __post_init__(self) -> None:
        _require(min(self.spacing_mm) > 0, "cascade.spacing_mm", self.spacing_mm, "three positive sizes")
        _require(min(self.patch) >= 1, "cascade.patch", self.patch, "three positive sizes")
        _require(0 < self.time_share < 1, "cascade.time_share", self.time_share, "above 0 and below 1")


def _require(fits: bool, name: str, value: object, rule: str) -> None:
    if not fits:
        raise UsageError(f"{name} must be {rule}, not {value}")
