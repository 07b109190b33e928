"""`--time-budget`: how many epochs fit, by measuring a few steps that leave no trace."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time

import torch

from medseg.training.loop import Trainer

WARM_STEPS, MEASURED_STEPS = 2, 6
MARGIN = 0.97
"""Share of the budget that is planned; the rest is for what the few steps did not show."""


def epochs_within(trainer: Trainer, seconds: float) -> int:
    """Epochs that fit into `seconds`, validation included; at least one.

    The trainer's weights, optimiser and random state are as before afterwards, and so is torch's.
    """
    weights = copy.deepcopy(trainer.network.state_dict())
    try:
        with torch.random.fork_rng():
            step, validation = _seconds(_trial_of(trainer))
    finally:
        trainer.network.load_state_dict(weights)
        trainer.network.zero_grad(set_to_none=True)
    return max(1, int(MARGIN * seconds / (step * trainer.spec.steps_per_epoch + validation)))


def _trial_of(trainer: Trainer) -> Trainer:
    """A trainer of the same network, with an optimiser, averages and random state of its own."""
    return dataclasses.replace(trainer, progress=copy.copy(trainer.progress))


def _seconds(trial: Trainer) -> tuple[float, float]:
    """What a step takes, and a validation."""
    times = []
    for _ in range(WARM_STEPS + MEASURED_STEPS):
        start = time.monotonic()
        order = trial.sampler.order(trial.spec.batch, trial.generator)
        trial.step(trial.batch(order, trial.progress.step))
        times.append(time.monotonic() - start)
    start = time.monotonic()
    trial.validate(trial.averaged.tensors)
    return statistics.median(times[WARM_STEPS:]), time.monotonic() - start
