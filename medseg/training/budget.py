"""`--time-budget`: how many epochs fit, by measuring a few steps that leave no trace."""

from __future__ import annotations

import copy
import statistics
import time

from medseg.training.loop import Trainer

WARM_STEPS, MEASURED_STEPS = 2, 6
MARGIN = 0.97
"""Share of the budget that is planned; the rest is for what the few steps did not show."""


def epochs_within(trainer: Trainer, seconds: float) -> int:
    """Epochs that fit into `seconds`, validation included; at least one.

    The trainer's weights, optimiser and random state are as before afterwards.
    """
    network = copy.deepcopy(trainer.network.state_dict())
    trial = copy.copy(trainer)
    trial.progress = copy.copy(trainer.progress)
    trial.__post_init__()
    batch = trainer.spec.batch
    times = []
    for _ in range(WARM_STEPS + MEASURED_STEPS):
        start = time.monotonic()
        trial.step(trial.sampler.order(batch, trial.generator))
        times.append(time.monotonic() - start)
    start = time.monotonic()
    trial.validate(trial.averaged.tensors)
    validation = time.monotonic() - start
    trainer.network.load_state_dict(network)
    step = statistics.median(times[WARM_STEPS:])
    return max(1, int(MARGIN * seconds / (step * trainer.spec.steps_per_epoch + validation)))
