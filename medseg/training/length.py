"""The length of a training: fixed once, by the recipe or by the time budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from medseg.core.errors import counted
from medseg.training.budget import Length, length_within
from medseg.training.clock import Clock
from medseg.training.ending import Ending
from medseg.training.loop import Trainer
from medseg.training.run import Begun, Run


def fix_length(
    trainer: Trainer,
    begun: Begun,
    run: Run,
    left_s: float | None,
    ending: Ending,
    say: Callable[[str], None],
) -> None:
    """How many epochs of how many steps: as the run began with, as fit into the time, or the recipe's.

    Args:
        trainer: whose length is set.
        begun: what `Run.begin` returned.
        run: the training's.
        left_s: of the time that was given; None where none was.
        ending: what follows the last step.
        say: called with what fits.
    """
    recipes = trainer.spec.steps_per_epoch
    begun, left_s = trainer.team.agreed((begun, left_s))
    epochs, steps = begun.epochs or trainer.spec.epochs, begun.steps_per_epoch
    if begun.epochs is None and left_s is not None:
        start = time.monotonic()
        length = length_within(trainer, left_s, ending)
        say(_fitting(length, recipes, left_s))
        epochs = length.epochs
        steps = None if length.steps_per_epoch == recipes else length.steps_per_epoch
        trainer.clock = Clock(
            start + left_s - length.ending_s, lambda fewer: run.fix_length(begun, fewer, steps)
        )
    run.fix_length(begun, epochs, steps)
    trainer.epochs = epochs
    trainer.spec = replace(trainer.spec, steps_per_epoch=steps or recipes)


def _fitting(length: Length, steps: int, left_s: float) -> str:
    """What fits into the time, and what does not."""
    end = f" (the end takes about {length.ending_s:.0f} s)"
    if length.steps_per_epoch == steps and length.whole_epoch_s <= left_s:
        fit = "fits" if length.epochs == 1 else "fit"
        epochs = counted(length.epochs, "epoch")
        return f"{epochs} of {counted(steps, 'step')} {fit} into the remaining {left_s:.0f} s{end}"
    if left_s <= 0:
        return (
            f"an epoch of {counted(steps, 'step')} takes {length.whole_epoch_s:.0f} s, and reading the cases "
            f"took the whole time budget and {-left_s:.0f} s more: the training is the shortest possible, of "
            f"{counted(length.steps_per_epoch, 'step')}; give more with --time-budget"
        )
    shorter = f"one of {counted(length.steps_per_epoch, 'step')} takes {length.seconds:.0f} s"
    over = ", the shortest possible epoch" if length.steps_per_epoch == 1 else ""
    return (
        f"an epoch of {counted(steps, 'step')} takes {length.whole_epoch_s:.0f} s, but only {left_s:.0f} s "
        f"remain{end}: {shorter}{over}"
    )
