"""From a folder of scans and labels to a plan, and from a plan to its files."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from medseg.core import specs
from medseg.core.errors import UsageError, counted
from medseg.core.structures import StructureSet, from_labels
from medseg.data.cards import Card, load_card
from medseg.data.fingerprint import Fingerprint, fingerprint
from medseg.data.layouts import layout_of
from medseg.data.source import Origin, cards, found_in, origin
from medseg.io import ReadOptions
from medseg.io.atomic import write_text
from medseg.model.spec import ModelSpec
from medseg.training.ending import Ending
from medseg.training.planning.kept import (
    kept_length,
    lasting,
    made_for,
    read_reasons,
    refuse_contradictions,
    told,
)
from medseg.training.planning.limits import Limits, least_step_bytes
from medseg.training.planning.memory import (
    longest_voxels,
    memory_of_steps,
    need,
    prepared_voxels,
    require_some,
)
from medseg.training.planning.plan import Plan, Reason, kept_network, plan, told_duration
from medseg.training.planning.profiles import PROFILES, USUAL_PROFILE
from medseg.training.planning.speed import Speed, measured_network, measured_speed
from medseg.training.recipe import Recipe, load_recipe
from medseg.training.run import CARD, REASONS, RECIPE, require_place
from medseg.training.split import fewer_folds, require_folds
from medseg.training.team import ALONE, Team

MORE_TIME = "give more with --time-budget"

SHORT = 0.5
"""Share of the time below which it is told that reading and measuring leave little of it for training."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan keeps to.

    Attributes:
        profile: one of `PROFILES`: how long a training is whose length nobody states; None for the usual.
        time_budget_s: how long all trainings together may take; None for the profile's, each.
        trainings: one, or one for each fold.
        max_memory: bytes it may need; None for half of what is free.
        names: of label values, instead of those that the dataset states; or all structures there are.
        device: "cpu", "cuda", "cuda:N", "mps" or "auto".
        threads: of the processor; 0 takes what there is.
        team: the processes that train together; the first plans.
        reading: decisions that the files leave open.
        start: the model whose weights the training starts from; its network and preparation are kept.
        folds: number of folds; None for the usual, see `split.require_folds`.
        fold: the fold that is measured at the end; None trains on every case.
        epochs: how many there will be, whatever is planned; None for as many as fit.
    """

    profile: str | None = None
    time_budget_s: float | None = None
    trainings: int = 1
    max_memory: int | None = None
    names: Mapping[int, str] | StructureSet | None = None
    device: str = "auto"
    threads: int = 0
    team: Team = ALONE
    reading: ReadOptions = ReadOptions()
    start: ModelSpec | None = None
    folds: int | None = None
    fold: int | None = 0
    epochs: int | None = None

    @property
    def seconds(self) -> float:
        """How long one training may take."""
        budget = self.time_budget_s
        return PROFILES[self.profile or USUAL_PROFILE] if budget is None else budget / self.trainings

    @property
    def all_seconds(self) -> float:
        """How long all trainings together may take."""
        return self.seconds * self.trainings


@dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        layout: it was read as.
        found: the dataset.
        like: what its cases are like.
        seconds: it took to read them.
        folds: how many there are.
    """

    layout: str
    found: Origin
    like: Fingerprint
    seconds: float
    folds: int


def survey(data: Path, options: PlanOptions, on_case: Callable[[int, int], None] = lambda *_: None) -> Survey:
    """Look at every case of a folder or a table.

    Raises:
        MedsegError: no dataset is found, its names can be read in two ways, a case is at fault, or there are
            too few for the folds.
        ResourceError: the memory does not suffice, whatever the cases are.
        UsageError: a name is given for a value that no case has.
    """
    require_some(options.max_memory, least_step_bytes(options.team.size, 2))
    began = time.monotonic()
    layout = layout_of(data)
    found = origin(data, layout, complete=True, reading=options.reading).for_training()
    if isinstance(options.names, StructureSet):
        found = replace(found, structures=options.names)
    elif options.names:
        found = replace(found, structures=_named(found.structures, options.names))
    folds = _folds(found, options)
    return Survey(layout, found, fingerprint(found, on_case), time.monotonic() - began, folds)


def _named(structures: StructureSet, names: Mapping[int, str]) -> StructureSet:
    """The structures by other names, with the sides and twins that these state."""
    unknown = sorted(set(names) - set(structures.values))
    if unknown:
        known = ", ".join(f"{s.value} ({s.name})" for s in structures)
        raise UsageError(f"no label has the value {unknown[0]}; there are {known}")
    kept = {s.value: names.get(s.value, s.name) for s in structures}
    if structures.are_regions:
        raise UsageError("structures that overlap have the names of their card", hint="leave --names out")
    return from_labels(kept, structures.ignore)


def planned(seen: Survey, options: PlanOptions) -> Plan:
    """The plan for a dataset on this machine; the speed of the machine is measured for some seconds.

    Raises:
        ResourceError: the memory does not suffice for the smallest patches.
    """
    channels, outputs = len(seen.found.channels), max(2, seen.found.structures.output_channels)
    kept = None if options.start is None else kept_network(options.start)
    spec = replace(kept or measured_network(), in_channels=channels, out_channels=outputs)
    least = least_step_bytes(options.team.size, outputs)
    needed = need(seen.like, longest_voxels(seen.like, options.start), spec)
    memory = memory_of_steps(options.max_memory, needed, least)
    began = time.monotonic()
    speed = measured_speed(spec, device=options.device, threads=options.threads)
    spent_s = seen.seconds + time.monotonic() - began
    limits = Limits(options.seconds, memory, speed, options.team.size, options.trainings, outputs)
    made = plan(seen.like, _card_of(seen), limits, options.start)
    finer = need(seen.like, made.recipe.preparation.spacing_mm or seen.like.spacing_mm, spec)
    limits = replace(
        limits,
        memory_bytes=max(least, memory - (finer.kept - needed.kept)),
        beside_s=_beside_s(seen, spent_s, made.recipe, speed, options),
    )
    made = plan(seen.like, made.card, limits, options.start)
    asked = made_for(seen.found, options.profile, options.time_budget_s, options.max_memory)
    return replace(made, reasons=(*asked, *made.reasons), warnings=_short(seen, limits, options))


def _beside_s(seen: Survey, spent_s: float, recipe: Recipe, speed: Speed, options: PlanOptions) -> float:
    """Seconds of a training that planning took, and that reading and predicting whole scans will take."""
    cases, stages = len(seen.like.cases), 1 if recipe.cascade is None else 2
    spacing = recipe.preparation.spacing_mm or seen.like.spacing_mm
    voxels = median(prepared_voxels(case, seen.like, spacing) for case in seen.like.cases)
    measured = 0.0 if options.fold is None else cases / seen.folds
    ending = Ending(voxels, cases, measured).seconds(speed.seconds_per_voxel)
    return spent_s / options.trainings + stages * (seen.seconds + ending)


def _short(seen: Survey, limits: Limits, options: PlanOptions) -> tuple[str, ...]:
    """What is to be said where little time is left for training, or none."""
    left = limits.seconds - limits.beside_s
    if options.epochs is not None or left >= SHORT * limits.seconds:
        return ()
    beside, budget, rest = (
        told_duration(options.trainings * seconds) for seconds in (limits.beside_s, limits.seconds, left)
    )
    cases = counted(len(seen.like.cases), "case")
    return (
        f"reading {cases} and predicting whole scans at the end are expected to take {beside}, and the time "
        f"budget is {budget}, which leaves {rest if left > 0 else 'no time'} for training",
    )


def _card_of(seen: Survey) -> Card:
    """The card of the dataset: that of its layout, or a new one."""
    named = cards().get(seen.layout)
    if named:
        return load_card(named)
    found = seen.found
    return Card(
        found.name,
        f"{counted(len(found.files.cases), 'case')} of {found.name}",
        seen.layout,
        found.channels,
        found.structures.items,
        found.licence,
        ignore=found.structures.ignore,
    )


def plan_of_run(
    data: Path,
    out: Path,
    options: PlanOptions,
    *,
    overwrite: bool = False,
    write: bool = True,
    on_case: Callable[[int, int], None] = lambda *_: None,
    on_survey: Callable[[Survey], None] = lambda _: None,
    on_plan: Callable[[Sequence[Reason]], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Path, PlanOptions]:
    """The recipe of a run: the one that lies there already, or one that is planned now and written there.

    Args:
        data: a folder of scans and labels, or a table.
        out: folder of the run.
        options: what the plan keeps to.
        overwrite: plan anew where a plan lies.
        write: the plan; False only shows it.
        on_case: called after each case with its number and how many there are.
        on_survey: called with what was found.
        on_plan: called with the choices of a plan that is made now, before it is written, or only shown.
        say: called where a plan lies, with which it is and what it was made for.

    Returns:
        The path of the recipe, and the options with the length that the plan was made for, and the number of
        folds.

    Raises:
        UsageError: the folder holds something else, or a plan that the options contradict.
        MedsegError: see `survey`.
    """
    path, length, folds = out / RECIPE, (options.profile, options.time_budget_s), options.folds
    if options.team.leads:
        require_place(out, every=options.trainings > 1)
        if path.is_file() and not overwrite:
            found = found_in(data, complete=True, reading=options.reading).for_training()
            folds = _folds(found, options)
            structures = load_card(out / CARD).structure_set if options.names else found.structures
            refuse_contradictions(out, structures, options.names, options.profile, options.max_memory)
            say(told(out, found))
            length = kept_length(out) if length == (None, None) else length
            if not write:
                on_plan(lasting(read_reasons(out), load_recipe(path).training, options.epochs))
        else:
            seen = survey(data, options, on_case)
            folds = seen.folds
            on_survey(seen)
            made = planned(seen, options)
            on_plan(lasting(made.reasons, made.recipe.training, options.epochs))
            for text in made.warnings:
                say(f"warning: {text}; as many steps are trained as fit, at least one; {MORE_TIME}")
            if write:
                write_plan(made, out, overwrite=overwrite)
        for text in () if write else fewer_folds(options.folds, options.fold, folds):
            say(f"note: {text}")
    path, (profile, budget), folds = options.team.agreed((path, length, folds))
    return path, replace(options, profile=profile, time_budget_s=budget, folds=folds)


def _folds(found: Origin, options: PlanOptions) -> int:
    groups = {case.case_id: case.group for case in found.files.cases}
    return require_folds(groups, folds=options.folds, fold=options.fold)


def write_plan(made: Plan, folder: Path, *, overwrite: bool = False) -> Path:
    """Write card, recipe and reasons, and return the path of the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerows([("setting", "value", "reason"), *made.reasons])
    write_text(folder / REASONS, table.getvalue(), overwrite=overwrite)
    write_text(folder / CARD, specs.to_toml(made.card), overwrite=overwrite)
    write_text(folder / RECIPE, specs.to_toml(made.recipe), overwrite=overwrite)
    return folder / RECIPE
