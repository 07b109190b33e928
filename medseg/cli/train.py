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
from medseg.cli.plan import (
    Data,
    Names,
    Profile,
    choices,
    choices_json,
    plan_options,
    progress,
    understood,
)
from medseg.cli.terminal import duration, result, rewrite, say, table
from medseg.core.errors import UsageError, counted

if TYPE_CHECKING:
    from medseg.metrics.case import CaseResult
    from medseg.model.file import Model
    from medseg.training.loop import Epoch
    from medseg.training.options import TrainOptions
    from medseg.training.planning.dataset import PlanOptions
    from medseg.training.planning.plan import Reason
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
    context: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("--output", "-o", help="Write the run to this folder.")],
    recipe: Annotated[
        str | None,
        typer.Argument(help="Recipe: its name, or a .toml file. Default: planned for the data."),
    ] = None,
    names: Names = "",
    profile: Profile = "",
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
    from medseg.training.options import TrainOptions
    from medseg.training.team import started

    with started() as team:
        options = TrainOptions(
            epochs=epochs,
            time_budget_s=_seconds(epochs, time_budget),
            seed=seed,
            folds=folds or FOLDS,
            fold=_fold(fold, folds, slurm=slurm),
            device=device,
            threads=threads,
            init=_model(init),
            frozen=_frozen(freeze, init),
            overwrite=overwrite,
            reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
            team=team,
        )
        if recipe is None:
            planning = plan_options(names, profile, max_memory, options, 1 if fold else folds or 1)
            how = _Asked(dry_run, quiet, as_json)
            recipe, options = _planned(data, out, options, planning, how)
        if slurm:
            _tell_script(recipe, data, out, options, _given(context))
        elif not dry_run:
            done = _train(recipe, data, out, options, every=bool(folds and not fold), quiet=quiet)
            _tell_result(done, team, as_json=as_json, quiet=quiet)


def _tell_script(recipe: str, data: Path, out: Path, options: TrainOptions, more: list[str]) -> None:
    from medseg.training.slurm import array_script

    if "--time-budget" in more:
        raise UsageError("--slurm needs a length that does not depend on the machine", hint="give --epochs")
    result(array_script(recipe, data, out, options.folds, more).rstrip())


OF_SCRIPT = (
    "data", "out", "recipe", "folds", "fold", "slurm", "names", "profile", "max_memory", "dry_run",
    "overwrite", "as_json",
)  # fmt: skip
"""Parameters that the jobs of a script are not given as they are: it states them itself, or the plan does."""


def _given(context: typer.Context) -> list[str]:
    """The other options of a command line, in the order of its help."""
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in OF_SCRIPT or source is None or source.name != "COMMANDLINE":
            continue
        words.append(next(word for word in parameter.opts if word.startswith("--")))
        value = context.params[name]
        words += [] if value is True else [str(value)]
    return words


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


class _Asked(NamedTuple):
    """How a plan is told, as the options of the same names say."""

    dry_run: bool
    quiet: bool
    as_json: bool


def _planned(
    data: Path, out: Path, options: TrainOptions, planning: PlanOptions, how: _Asked
) -> tuple[str, TrainOptions]:
    """The recipe of a run that is planned for its data, or was when it began; tells what was found.

    With it come the options with the time that all trainings may take, and what of it is spent.
    """
    from medseg.training.planning.dataset import plan_of_run

    began = time.monotonic()
    told = not (how.quiet or how.as_json)

    def shown(reasons: Sequence[Reason]) -> None:
        if told:
            _say_lines(choices(reasons))
        if how.dry_run and how.as_json:
            result(choices_json(reasons))

    path, planning = plan_of_run(
        data,
        out,
        planning,
        overwrite=options.overwrite,
        write=not how.dry_run,
        on_case=_nothing if how.quiet else progress,
        on_survey=(lambda seen: _say_lines(understood(seen))) if told else _nothing,
        on_plan=shown,
        say=_nothing if how.quiet else say,
    )
    seconds = None if options.epochs else planning.all_seconds
    return str(path), replace(options, time_budget_s=seconds, spent_s=time.monotonic() - began)


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


def _fold(text: str, folds: int | None, *, slurm: bool) -> int | None:
    """The fold to train for; None for none.

    Raises:
        UsageError: it is not a fold, or other options contradict it.
    """
    if slurm and text:
        raise UsageError(
            f"--slurm trains every fold as a job, and --fold {text} asks for one",
            hint="leave one of them out",
        )
    if text == "none" and folds is not None:
        raise UsageError(
            f"--fold none trains on every case, and --folds {folds} holds some out",
            hint="give only one of them",
        )
    if text == "none":
        return None
    if text and not text.isdigit():
        raise UsageError(f"--fold {text!r} is not a fold", hint="give a number from 0 upwards, or none")
    return int(text or 0)


def _model(name: str) -> Model | None:
    """The model to start from, if there is one."""
    from medseg.model.file import load_model

    return load_model(name) if name else None


def _frozen(freeze: str, init: str) -> tuple[str, ...]:
    """The parts of the network to freeze.

    Raises:
        UsageError: their weights would be random.
    """
    if freeze and not init:
        raise UsageError(
            f"--freeze {freeze!r} keeps weights that are random without --init",
            hint="give the model to start from with --init, or leave --freeze out",
        )
    return opt.words(freeze)
