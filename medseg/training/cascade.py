"""Training of a recipe in its stages: the coarse one first, where it is a cascade."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medseg.model.file import load_model
from medseg.training.loop import Epoch
from medseg.training.options import TrainOptions
from medseg.training.recipe import Recipe, coarse_stage
from medseg.training.run import COARSE, Run
from medseg.training.train import Say, TrainResult, require_trainable, train


def train_stages(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: TrainOptions,
    *,
    say: Say,
    on_epoch: Callable[[Epoch], None],
) -> TrainResult:
    """Train the network of a recipe; if it is a cascade, its coarse stage first, as a run in the run.

    Both stages train on the same cases and hold the same out. They share the time budget; the coarse stage
    is given `cascade.time_share` of it, and the fine stage the rest. A model to start from, and parts to
    freeze, are those of the fine stage. The same call goes on where it stopped.

    Returns:
        That of the fine stage, whose model contains the coarse one, with the seconds of both.

    Raises:
        UsageError: the folder holds something else.
        MedsegError: see `train`.
    """
    if recipe.cascade is None:
        return train(recipe, data, out, options, say=say, on_epoch=on_epoch)
    team, run = options.team, Run(out)
    if team.leads and not run.settings_path.exists():
        run.require_empty()
    require_trainable(recipe, options)
    began = time.monotonic()
    budget, share = options.time_budget_s, recipe.cascade.time_share
    own = replace(
        options,
        time_budget_s=None if budget is None else share * budget,
        spent_s=share * options.spent_s,
        init=None,
        frozen=(),
    )
    say(f"coarse stage: voxels of {_by(recipe.cascade.spacing_mm)} mm")
    stage = coarse_stage(recipe, recipe.cascade)
    try:
        first = train(stage, data, out / COARSE, own, say=say, on_epoch=on_epoch)
    finally:
        if team.leads and out.is_dir() and not any(out.iterdir()):  # it failed at once
            out.rmdir()
    say("fine stage")
    spent = options.spent_s + time.monotonic() - began
    rest = replace(options, coarse=load_model(team.agreed(first.model_path)), spent_s=spent)
    done = train(recipe, data, out, rest, say=say, on_epoch=on_epoch)
    return replace(done, seconds=first.seconds + done.seconds)


def _by(sizes: tuple[float, ...]) -> str:
    return "x".join(f"{mm:.3g}" for mm in sizes)
