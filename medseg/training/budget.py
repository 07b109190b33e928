"""`--time-budget`: the number of epochs that fit, by timing a few steps that are then undone."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
import time
from dataclasses import dataclass

import torch

from medseg.training.ending import Ending
from medseg.training.loop import Trainer

WARM_STEPS, MEASURED_STEPS = 2, 8
TRIAL_SHARE = 0.2
"""Of the budget, that steps may be measured for."""

MARGIN = 0.95
"""Share of the budget that is planned; the rest is for what the few steps did not show."""


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        epochs: how many.
        steps_per_epoch: of each; fewer than the recipe's where one whole epoch does not fit.
        seconds: that they take.
        whole_epoch_s: what an epoch of the recipe takes.
        ending_s: what is kept for the end.
    """

    epochs: int
    steps_per_epoch: int
    seconds: float
    whole_epoch_s: float
    ending_s: float


def length_within(trainer: Trainer, seconds: float, ending: Ending) -> Length:
    """The training that fits into `seconds`, this measuring, validation and the end included.

    It is at least one step.

    All processes of a team measure together, and the first one's clock counts.

    The trainer's weights, optimiser and random state are as before afterwards, and so is torch's.
    """
    start = time.monotonic()
    weights = copy.deepcopy(trainer.network.state_dict())
    try:
        with torch.random.fork_rng():
            step, validation = _seconds(_trial_of(trainer), seconds * TRIAL_SHARE)
    finally:
        trainer.network.load_state_dict(weights)
        trainer.network.zero_grad(set_to_none=True)
    step, validation, spent = trainer.team.agreed((step, validation, time.monotonic() - start))
    ending_s = ending.seconds(step / (trainer.spec.batch * math.prod(trainer.spec.patch)))
    left = MARGIN * (seconds - spent) - ending_s
    steps = trainer.spec.steps_per_epoch
    whole = step * steps + validation
    epochs = max(1, int(left / whole))
    if left < whole:
        steps = min(steps, max(1, int((left - validation) / step)))
    return Length(epochs, steps, epochs * (step * steps + validation), whole, ending_s)


def _trial_of(trainer: Trainer) -> Trainer:
    """A trainer of the same network, with an optimiser, averages and random state of its own."""
    return dataclasses.replace(trainer, progress=copy.copy(trainer.progress))


def _seconds(trial: Trainer, most_s: float) -> tuple[float, float]:
    """What a step takes, and a validation; once two steps are measured, none begins after `most_s`.

    It is the mean, for some patches are deformed and take longer.
    """
    times: list[float] = []
    for _ in range(WARM_STEPS + MEASURED_STEPS):
        if trial.team.agreed(len(times) > 1 and sum(times) > most_s):
            break
        start = time.monotonic()
        order = trial.team.share(trial.sampler.order(trial.spec.batch, trial.generator))
        trial.step(trial.batch(order, trial.progress.step))
        times.append(time.monotonic() - start)
    start = time.monotonic()
    if trial.team.leads:
        trial.validate(trial.averaged.tensors)
    return statistics.mean(times[WARM_STEPS:] or times[-1:]), time.monotonic() - start
