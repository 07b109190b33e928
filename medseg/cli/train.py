"""`medseg train`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import duration, result, rewrite, say, seconds_of, table
from medseg.core.errors import UsageError, counted

if TYPE_CHECKING:
    from medseg.training.loop import Epoch
    from medseg.training.train import TrainResult

TimeBudget = Annotated[
    str,
    typer.Option(
        "--time-budget",
        help="Train as many epochs as fit into this time, such as 20m or 2h, at their measured speed.",
    ),
]
Folds = Annotated[
    int, typer.Option("--folds", min=2, help="Split the cases into this many cross-validation folds.")
]
Fold = Annotated[
    str,
    typer.Option("--fold", help="Hold out and measure this fold, counted from 0, or none."),
]


def command(
    recipe: Annotated[str, typer.Argument(help="Recipe: its name, or a .toml file.")],
    data: Annotated[Path, typer.Option("--data", help="Read the dataset in this folder.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Write the run to this folder.")],
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Train this many epochs (overrides the recipe).")
    ] = None,
    time_budget: TimeBudget = "",
    folds: Folds = 5,
    fold: Fold = "0",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Use this random seed (overrides the recipe).")
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
    """Train a network. Resumes a stopped run if the same command is repeated."""
    from medseg.model.file import load_model
    from medseg.training.recipe import load_recipe
    from medseg.training.train import TrainOptions, train

    loaded = load_recipe(recipe)
    if epochs is not None and time_budget:
        raise UsageError("--epochs and --time-budget exclude each other", hint="give only one of them")
    options = TrainOptions(
        epochs=epochs,
        time_budget_s=_budget(time_budget),
        seed=seed,
        folds=folds,
        fold=_fold(fold),
        device=device,
        threads=threads,
        init=load_model(init) if init else None,
        overwrite=overwrite,
        reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
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


def _nothing(_: object) -> None:
    """For --quiet."""


def _budget(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = seconds_of(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"--time-budget {text!r} is not a duration", hint="write 90s, 20m or 1.5h")
    return seconds


def _fold(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdigit():
        raise UsageError(f"--fold {text!r} is not a fold", hint="give a number from 0 upwards, or none")
    return int(text)
