"""`medseg train`."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.plan import Data, Names, Profile, choices, plan_options, progress, understood
from medseg.cli.terminal import duration, result, rewrite, say, table
from medseg.core.errors import UsageError, counted

if TYPE_CHECKING:
    from medseg.training.loop import Epoch
    from medseg.training.planning.dataset import PlanOptions
    from medseg.training.train import TrainResult

Folds = Annotated[int, typer.Option("--folds", min=2, help="Number of cross-validation folds.")]
Fold = Annotated[
    str,
    typer.Option("--fold", help="Hold out and measure this fold, counted from 0, or none."),
]


def command(
    data: Data,
    out: Annotated[Path, typer.Option("--output", "-o", help="Write the run to this folder.")],
    recipe: Annotated[
        str | None,
        typer.Argument(help="Recipe: its name, or a .toml file. Default: planned for the data."),
    ] = None,
    names: Names = "",
    profile: Profile = "standard",
    max_memory: opt.MaxMemory = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what was found in the data and the plan; write nothing.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Number of epochs (overrides the recipe).")
    ] = None,
    time_budget: opt.TimeBudget = "",
    folds: Folds = 5,
    fold: Fold = "0",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Random seed (overrides the recipe).")
    ] = None,
    init: Annotated[
        str,
        typer.Option("--init", help="Start from this model, a file or a name, of the same network."),
    ] = "",
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    device: opt.Device = "auto",
    threads: opt.Threads = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run and start again.")] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a network, by a recipe or as planned for the data.

    Running the same command again resumes a run that was stopped.
    """
    from medseg.model.file import load_model
    from medseg.training.recipe import load_recipe
    from medseg.training.train import TrainOptions, train

    began = time.monotonic()
    if epochs is not None and time_budget:
        raise UsageError("--epochs and --time-budget exclude each other", hint="give one")
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series)
    if recipe is None:
        planning = plan_options(names, profile, time_budget, max_memory, device, threads, reading)
        recipe = _planned(data, out, planning, overwrite=overwrite, dry_run=dry_run, quiet=quiet)
        time_budget = time_budget or ("" if epochs else f"{planning.seconds:g}")
    if dry_run:
        return
    loaded = load_recipe(recipe)
    options = TrainOptions(
        epochs=epochs,
        time_budget_s=opt.budget(time_budget),
        seed=seed,
        folds=folds,
        fold=_fold(fold),
        device=device,
        threads=threads,
        init=load_model(init) if init else None,
        overwrite=overwrite,
        reading=reading,
        spent_s=time.monotonic() - began,
    )
    done = train(
        loaded,
        data,
        out,
        options,
        say=_nothing if quiet else say,
        on_epoch=_nothing if quiet else _tell,
    )
    if as_json:
        content = {"model": str(done.model_path), "epochs": done.epochs, "seconds": round(done.seconds, 1)}
        result(json.dumps(content))
    else:
        _tell_result(done, quiet)


def _planned(
    data: Path, out: Path, options: PlanOptions, *, overwrite: bool, dry_run: bool, quiet: bool
) -> str:
    """The recipe of a run that is planned for its data, or was when it began; tells what was found."""
    from medseg.training.planning.dataset import planned, survey, write_plan
    from medseg.training.run import Run

    run = Run(out)
    if run.settings_path.is_file() and run.recipe_path.is_file() and not overwrite:
        return str(run.recipe_path)
    seen = survey(data, options, _nothing if quiet else progress)
    rewrite("")
    if not quiet:
        say(understood(seen))
    made = planned(seen, options)
    if not quiet:
        say(f"\n{choices(made)}\n")
    return str(run.recipe_path if dry_run else write_plan(made, out, overwrite=overwrite))


def _tell_result(done: TrainResult, quiet: bool) -> None:
    from medseg.evaluation.scores import cohort_table
    from medseg.metrics.cohort import summarise

    if not quiet:
        say(f"trained {counted(done.epochs, 'epoch')} in {duration(done.seconds)}: {done.model_path}")
    if done.validation:
        result(table(cohort_table(summarise(done.validation))))


def _tell(epoch: Epoch) -> None:
    known = {name: value for name, value in epoch.dice.items() if not math.isnan(value)}
    dice = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
    judged = f"Dice {dice}  best mean {epoch.best:.3f}  " if known else ""
    say(
        f"epoch {epoch.number}/{epoch.of}  loss {epoch.loss:.3f}  {judged}{duration(epoch.seconds_left)} left"
    )
    rewrite("")


def _nothing(*_: object) -> None:
    """For --quiet."""


def _fold(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdigit():
        raise UsageError(f"--fold {text!r} is not a fold", hint="give a number from 0, or none")
    return int(text)
