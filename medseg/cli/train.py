"""`medseg train`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from medseg.cli import options as opt
from medseg.cli.plan import Data, Names, Profile, choices, plan_options, progress, understood
from medseg.cli.terminal import duration, result, rewrite, say, table
from medseg.core.errors import UsageError, counted

if TYPE_CHECKING:
    from medseg.metrics.case import CaseResult
    from medseg.training.loop import Epoch
    from medseg.training.options import TrainOptions
    from medseg.training.planning.dataset import PlanOptions
    from medseg.training.team import Team
    from medseg.training.train import TrainResult

FOLDS = 5
"""Of which the first is held out, where nobody says otherwise."""

Folds = Annotated[
    int | None,
    typer.Option(
        "--folds", min=2, help="Train and measure every one of this many folds. Default: the first of 5."
    ),
]
Fold = Annotated[
    str,
    typer.Option("--fold", help="Train for this fold alone, counted from 0; none trains on every case."),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Train this many epochs (overrides the recipe).")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Use this random seed (overrides the recipe).")
]
Init = Annotated[
    str, typer.Option("--init", help="Start from this model, a file or a name, of the same network.")
]
Freeze = Annotated[
    str,
    typer.Option("--freeze", help="Keep the weights of these parts of the network, such as encoder."),
]
Anew = Annotated[bool, typer.Option("--overwrite", help="Delete the run and start again.")]
Slurm = Annotated[
    bool,
    typer.Option("--slurm", help="Print a SLURM script that trains each fold as a job; train nothing."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what was found in the data and the plan; write nothing.")
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
    dry_run: DryRun = False,
    epochs: Epochs = None,
    time_budget: opt.TimeBudget = "",
    folds: Folds = None,
    fold: Fold = "",
    seed: Seed = None,
    init: Init = "",
    freeze: Freeze = "",
    slurm: Slurm = False,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    device: opt.Device = "auto",
    threads: opt.Threads = 0,
    overwrite: Anew = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a network, by a recipe or as planned for the data. Resumes a stopped run if repeated."""
    from medseg.model.file import load_model
    from medseg.training.options import TrainOptions
    from medseg.training.team import started

    began = time.monotonic()
    with started() as team:
        options = TrainOptions(
            epochs=epochs,
            time_budget_s=_seconds(epochs, time_budget),
            seed=seed,
            folds=folds or FOLDS,
            fold=_fold(fold or "0"),
            device=device,
            threads=threads,
            init=load_model(init) if init else None,
            frozen=opt.words(freeze),
            overwrite=overwrite,
            reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
            team=team,
        )
        if recipe is None:
            planning = plan_options(names, profile, max_memory, options, 1 if fold else folds or 1)
            recipe = _planned(data, out, planning, overwrite=overwrite, dry_run=dry_run, quiet=quiet)
            seconds = None if epochs else planning.all_seconds
            options = replace(options, time_budget_s=seconds, spent_s=time.monotonic() - began)
        if slurm:
            _tell_script(recipe, data, out, options, time_budget)
        elif not dry_run:
            done = _train(recipe, data, out, options, every=bool(folds and not fold), quiet=quiet)
            _tell_result(done, team, as_json=as_json, quiet=quiet)


def _tell_script(recipe: str, data: Path, out: Path, options: TrainOptions, time_budget: str) -> None:
    from medseg.training.slurm import array_script

    if time_budget:
        raise UsageError("--slurm needs a length that does not depend on the machine", hint="give --epochs")
    words = [] if options.epochs is None else ["--epochs", str(options.epochs)]
    result(array_script(recipe, data, out, options.folds, words).rstrip())


def _seconds(epochs: int | None, time_budget: str) -> float | None:
    if epochs is not None and time_budget:
        raise UsageError("--epochs and --time-budget exclude each other", hint="give only one of them")
    return opt.budget(time_budget)


class _Done(NamedTuple):
    """What a training of one or of all folds came to."""

    content: dict[str, object]
    told: str
    validation: Sequence[CaseResult]


def _train(name: str, data: Path, out: Path, options: TrainOptions, *, every: bool, quiet: bool) -> _Done:
    from medseg.training.cascade import train_stages
    from medseg.training.folds import train_folds
    from medseg.training.recipe import load_recipe

    recipe = load_recipe(name)

    silent = quiet or not options.team.leads
    speak: Callable[[str], None] = _nothing if silent else say
    on_epoch: Callable[[Epoch], None] = _nothing if silent else _tell
    runs: Sequence[TrainResult]
    if every:
        joined = train_folds(recipe, data, out, options, say=speak, on_epoch=on_epoch)
        runs, model, validation = joined.folds, joined.folder, joined.validation
    else:
        one = train_stages(recipe, data, out, options, say=speak, on_epoch=on_epoch)
        runs, model, validation = (one,), one.model_path, one.validation
    epochs, seconds = sum(run.epochs for run in runs), sum(run.seconds for run in runs)
    content = {"model": str(model), "epochs": epochs, "seconds": round(seconds, 1)}
    of = f" of {counted(len(runs), 'fold')}" if every else ""
    return _Done(
        content, f"trained {counted(epochs, 'epoch')}{of} in {duration(seconds)}: {model}", validation
    )


def _planned(
    data: Path, out: Path, options: PlanOptions, *, overwrite: bool, dry_run: bool, quiet: bool
) -> str:
    """The recipe of a run that is planned for its data, or was when it began; tells what was found."""
    from medseg.training.planning.dataset import plan_of_run, planned, survey

    if dry_run:
        seen = survey(data, options, progress)
        _say_lines(understood(seen))
        _say_lines(choices(planned(seen, options)))
        return ""
    if quiet:
        return str(plan_of_run(data, out, options, overwrite=overwrite))
    path = plan_of_run(
        data,
        out,
        options,
        overwrite=overwrite,
        on_case=progress,
        on_survey=lambda seen: _say_lines(understood(seen)),
        on_plan=lambda made: _say_lines(choices(made)),
    )
    return str(path)


def _say_lines(text: str) -> None:
    """A table and an empty line after it."""
    rewrite("")
    for line in (*text.splitlines(), ""):
        say(line)


def _tell_result(done: _Done, team: Team, *, as_json: bool, quiet: bool) -> None:
    from medseg.evaluation.scores import cohort_table
    from medseg.metrics.cohort import summarise

    if not team.leads:
        return

    if as_json:
        result(json.dumps(done.content))
        return
    if not quiet:
        say(done.told)
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
        raise UsageError(f"--fold {text!r} is not a fold", hint="give a number from 0 upwards, or none")
    return int(text)
