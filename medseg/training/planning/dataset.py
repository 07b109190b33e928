"""From a folder of scans and labels to a plan, and from a plan to its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core import specs
from medseg.core.errors import UsageError, counted
from medseg.core.structures import StructureSet, from_labels
from medseg.data.cards import Card, load_card
from medseg.data.fingerprint import Fingerprint, fingerprint
from medseg.data.layouts import layout_of
from medseg.data.source import Origin, cards, found_in, origin
from medseg.io import ReadOptions
from medseg.io.atomic import write_text
from medseg.io.memory import available_bytes
from medseg.model.spec import ModelSpec
from medseg.training.planning.kept import (
    USUAL_PROFILE,
    kept_length,
    made_for,
    read_reasons,
    refuse_contradictions,
    told,
)
from medseg.training.planning.plan import PROFILES, Limits, Plan, Reason, kept_network, plan
from medseg.training.planning.speed import measured_network, measured_speed
from medseg.training.run import CARD, REASONS, RECIPE, require_place
from medseg.training.split import require_folds
from medseg.training.team import ALONE, Team

MEMORY_SHARE = 0.5
"""Share of the memory that is free which a training may take, where nobody stated how much."""

USUAL_BYTES = 8 << 30
"""Memory of a machine that does not tell what is free."""


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
        folds: number of folds.
        fold: the fold that is measured at the end; None trains on every case.
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
    folds: int = 5
    fold: int | None = 0

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
    """

    layout: str
    found: Origin
    like: Fingerprint


def survey(data: Path, options: PlanOptions, on_case: Callable[[int, int], None] = lambda *_: None) -> Survey:
    """Look at every case of a folder or a table.

    Raises:
        MedsegError: no dataset is found, its names can be read in two ways, or a case is at fault.
        UsageError: a name is given for a value that no case has.
    """
    layout = layout_of(data)
    found = origin(data, layout, complete=True, reading=options.reading).for_training()
    if isinstance(options.names, StructureSet):
        found = replace(found, structures=options.names)
    elif options.names:
        found = replace(found, structures=_named(found.structures, options.names))
    return Survey(layout, found, fingerprint(found, on_case))


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
        UsageError: the memory does not suffice for the smallest patches.
    """
    channels, outputs = len(seen.found.channels), max(2, seen.found.structures.output_channels)
    kept = None if options.start is None else kept_network(options.start)
    spec = replace(kept or measured_network(), in_channels=channels, out_channels=outputs)
    speed = measured_speed(spec, device=options.device, threads=options.threads)
    memory = options.max_memory or int(MEMORY_SHARE * (available_bytes() or USUAL_BYTES))
    limits = Limits(options.seconds, memory, speed, options.team.size, options.trainings)
    if memory < limits.least_bytes:
        raise UsageError(
            f"a memory of {memory / 2**20:.0f} MB is too little: the smallest patches need "
            f"{limits.least_bytes / 2**20:.0f} MB",
            hint="give more with --max-memory",
        )
    made = plan(seen.like, _card_of(seen), limits, options.start)
    asked = made_for(seen.found, options.profile, options.time_budget_s, options.max_memory)
    return replace(made, reasons=(*asked, *made.reasons))


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
        The path of the recipe, and the options with the length that the plan was made for.

    Raises:
        UsageError: the folder holds something else, or a plan that the options contradict.
        MedsegError: see `survey`.
    """
    path, length = out / RECIPE, (options.profile, options.time_budget_s)
    if options.team.leads:
        require_place(out, every=options.trainings > 1)
        if path.is_file() and not overwrite:
            found = found_in(data, complete=True, reading=options.reading).for_training()
            _require_folds(found, options)
            structures = load_card(out / CARD).structure_set if options.names else found.structures
            refuse_contradictions(out, structures, options.names, options.profile, options.max_memory)
            say(told(out, found))
            length = kept_length(out) if length == (None, None) else length
            if not write:
                on_plan(read_reasons(out))
        else:
            seen = survey(data, options, on_case)
            on_survey(seen)
            _require_folds(seen.found, options)
            made = planned(seen, options)
            on_plan(made.reasons)
            if write:
                write_plan(made, out, overwrite=overwrite)
    path, (profile, budget) = options.team.agreed((path, length))
    return path, replace(options, profile=profile, time_budget_s=budget)


def _require_folds(found: Origin, options: PlanOptions) -> None:
    groups = {case.case_id: case.group for case in found.files.cases}
    require_folds(groups, folds=options.folds, fold=options.fold)


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
