"""`medseg train`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from medseg.cli import options as opt
from medseg.cli.plan import (
    Data,
    Fold,
    Folds,
    MaxMemory,
    Names,
    Profile,
    asked,
    choices,
    choices_json,
    plan_options,
    progress,
    understood,
)
from medseg.cli.terminal import duration, result, rewrite, say, table
from medseg.core.errors import UsageError, counted

if TYPE_CHECKING:
    from medseg.cli.plan import Asked
    from medseg.metrics.case import CaseResult
    from medseg.model.file import Model
    from medseg.training.loop import Epoch
    from medseg.training.options import TrainOptions
    from medseg.training.planning.dataset import PlanOptions
    from medseg.training.planning.plan import Reason
    from medseg.training.team import Team
    from medseg.training.train import TrainResult

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
    bool,
    typer.Option(
        "--dry-run",
        help="Print what was found in the data, and the plan or what a recipe makes; write nothing.",
    ),
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
    max_memory: MaxMemory = None,
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
    said = _said(context)
    from medseg.training.options import TrainOptions
    from medseg.training.team import started

    with started() as team:
        same: dict[str, Any] = {"epochs": epochs, "seed": seed, "folds": folds, "threads": threads}
        options = TrainOptions(
            **same,
            time_budget_s=said.seconds,
            fold=said.fold,
            device=device,
            max_memory=said.max_memory,
            init=_model(init),
            frozen=opt.words(freeze),
            overwrite=overwrite,
            reading=said.reading,
            team=team,
        )
        planning = plan_options(said, options)
        if recipe is None:
            recipe, options, folds = _planned(data, out, options, planning, _Asked(dry_run, quiet, as_json))
        elif dry_run:
            _tell_rehearsal(recipe, data, options, as_json)
        if slurm:
            _tell_script(recipe, data, out, folds, _given(context))
        elif not dry_run:
            done = _train(recipe, data, out, options, every=said.every, quiet=quiet)
            _tell_result(done, team, as_json=as_json, quiet=quiet)


CONTRADICTIONS = (
    ("epochs", "time_budget", "--epochs and --time-budget exclude each other"),
    ("slurm", "fold", "--slurm trains every fold as a job, and --fold asks for one"),
    ("slurm", "time_budget", "--slurm needs a length that does not depend on the machine, not --time-budget"),
    ("slurm", "dry_run", "--slurm writes a plan for its jobs, and --dry-run writes nothing"),
    ("recipe", "names", "--names is for a plan, and a recipe has a card with names"),
    ("recipe", "profile", "--profile is for a plan, and a recipe is one"),
    ("recipe", "max_memory", "--max-memory is for a plan, and a recipe is one"),
)
"""Parameters that cannot both be given, and why."""


def _said(context: typer.Context) -> Asked:
    """What the options say by themselves.

    Raises:
        UsageError: a value is none that there can be, two options contradict each other, or there is no such
            recipe.
    """
    from medseg.training.recipe import load_recipe
    from medseg.training.spec import TrainingSpec

    said, given = asked(context.params), {name for name, value in context.params.items() if value}
    for one, other, fault in CONTRADICTIONS:
        if {one, other} <= given:
            raise UsageError(fault, hint="give only one of them")
    if "freeze" in given and "init" not in given:
        raise UsageError(
            f"--freeze {context.params['freeze']!r} keeps weights that are random without --init",
            hint="give the model to start from with --init, or leave --freeze out",
        )
    TrainingSpec(seed=context.params["seed"] or 0)
    if "recipe" in given:
        load_recipe(context.params["recipe"])
    return said


def _tell_rehearsal(recipe: str, data: Path, options: TrainOptions, as_json: bool) -> None:
    from medseg.training.recipe import load_recipe
    from medseg.training.train import rehearsed

    if options.team.leads:
        lines = rehearsed(load_recipe(recipe), data, options)
        result(json.dumps(lines) if as_json else "\n".join(lines))


def _tell_script(recipe: str, data: Path, out: Path, folds: int | None, more: list[str]) -> None:
    from medseg.training.slurm import array_script
    from medseg.training.split import USUAL_FOLDS

    result(array_script(recipe, data, out, folds or USUAL_FOLDS, more).rstrip())


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
) -> tuple[str, TrainOptions, int | None]:
    """The recipe of a run that is planned for its data, or was when it began; tells what was found.

    With it come the options with the time that all trainings may take, and what of it is spent; and how many
    folds there are.
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
    options = replace(options, time_budget_s=seconds, spent_s=time.monotonic() - began)
    return str(path), options, planning.folds


def _say_lines(text: str) -> None:
    """A table and an empty line after it."""
    rewrite("")
    for line in (*text.splitlines(), ""):
        say(line)


def _tell_result(done: _Done, team: Team, *, as_json: bool, quiet: bool) -> None:
    from medseg.evaluation.scores import cohort_table, instance_table
    from medseg.metrics.cohort import summarise

    if not team.leads:
        return
    if as_json:
        result(json.dumps(done.content))
        return
    if not quiet:
        say(done.told)
    if done.validation:
        rows = summarise(done.validation)
        result(table(cohort_table(rows)))
        if any(row.metric == "pq" for row in rows):
            result("")
            result(table(instance_table(rows)))


def _tell(epoch: Epoch) -> None:
    known = {name: value for name, value in epoch.scores.items() if not math.isnan(value)}
    scores = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
    judged = f"{epoch.measure} {scores}  best mean {epoch.best:.3f}  " if known else ""
    say(
        f"epoch {epoch.number}/{epoch.of}  loss {epoch.loss:.3f}  {judged}{duration(epoch.seconds_left)} left"
    )
    rewrite("")


def _nothing(*_: object) -> None:
    """For --quiet."""


def _model(name: str) -> Model | None:
    """The model to start from, if there is one."""
    from medseg.model.file import load_model

    return load_model(name) if name else None
