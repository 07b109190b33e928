"""A plan that lies in the folder of a run: what it was made for, and whether a command contradicts it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.core.errors import UsageError, counted
from medseg.core.numbers import memory
from medseg.core.structures import StructureSet
from medseg.data.source import Origin
from medseg.training.planning.plan import LENGTH, Reason
from medseg.training.planning.profiles import USUAL_PROFILE
from medseg.training.run import CARD, REASONS, RECIPE
from medseg.training.spec import TrainingSpec

DATA, PROFILE, BUDGET, MEMORY = "data", "profile", "time budget", "memory limit"
"""Rows of `plan.csv` that state what the plan was made for; the options only where they were given."""


def read_reasons(folder: Path) -> tuple[Reason, ...]:
    """The choices of a plan and their reasons; nothing where there was no plan."""
    path = folder / REASONS
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(Reason(row["setting"], row["value"], row["reason"]) for row in csv.DictReader(lines))


def made_for(
    found: Origin, profile: str | None, budget_s: float | None, max_memory: int | None
) -> tuple[Reason, ...]:
    """The rows that state what a plan is made for."""
    given = {
        PROFILE: profile,
        BUDGET: None if budget_s is None else f"{budget_s:g} s",
        MEMORY: None if max_memory is None else memory(max_memory),
    }
    asked = [Reason(name, value, "as asked for") for name, value in given.items() if value is not None]
    return (Reason(DATA, _data(found), "what was found"), *asked)


def lasting(reasons: Sequence[Reason], training: TrainingSpec, epochs: int | None) -> tuple[Reason, ...]:
    """The choices of a plan, with the length of the training where so many epochs were asked for."""
    if epochs is None:
        return tuple(reasons)
    steps = f"{counted(training.steps_per_epoch, 'step')} of {training.batch} patches"
    length = Reason(LENGTH, f"{counted(epochs, 'epoch')} of {steps}", "as asked for")
    return tuple(length if reason.setting == LENGTH else reason for reason in reasons)


def kept_length(folder: Path) -> tuple[str | None, float | None]:
    """Profile and time budget that a plan was made for, each None where it was not given."""
    rows = _rows(folder)
    budget = rows.get(BUDGET)
    return rows.get(PROFILE), None if budget is None else float(budget.removesuffix(" s"))


def told(folder: Path, found: Origin) -> str:
    """Which plan is used, and what it was made for where that is something else."""
    before, now = _rows(folder).get(DATA), _data(found)
    other = f", which was made for {before}, and there are {now} now" if before not in (None, now) else ""
    return f"trains by the plan in {folder / RECIPE}{other}; --overwrite plans anew"


def refuse_contradictions(
    folder: Path,
    structures: StructureSet,
    names: Mapping[int, str] | StructureSet | None,
    profile: str | None,
    max_memory: int | None,
) -> None:
    """Refuse options that the plan in a folder was not made with.

    Args:
        folder: of the run.
        structures: as the plan's card has them.
        names, profile, max_memory: as given; None where not.

    Raises:
        UsageError: the first that contradicts the plan.
    """
    rows = _rows(folder)
    if names is not None:
        asked = {s.value: s.name for s in names} if isinstance(names, StructureSet) else names
        known = {s.value: s.name for s in structures}
        for value, name in asked.items():
            if known.get(value) != name:
                has = f"{known[value]!r}" if value in known else "nothing"
                raise _contradicted(folder, CARD, f"calls {value} {has}, and --names calls it {name!r}")
    if DATA not in rows:  # an older version made the plan, and did not state what for
        return
    if profile is not None and profile != rows.get(PROFILE, USUAL_PROFILE):
        before = rows.get(PROFILE, USUAL_PROFILE)
        raise _contradicted(folder, REASONS, f"was made with --profile {before}, not {profile}")
    limit = None if max_memory is None else memory(max_memory)
    if limit not in (None, rows.get(MEMORY)):
        before = rows.get(MEMORY, "what was free")
        raise _contradicted(folder, REASONS, f"was made for a memory of {before}, not of {limit}")


def _contradicted(folder: Path, name: str, fault: str) -> UsageError:
    return UsageError(
        f"the plan that lies there {fault}",
        source=folder / name,
        hint="leave the option out to train by this plan, add --overwrite to plan anew, or choose another "
        "folder with -o",
    )


def _rows(folder: Path) -> dict[str, str]:
    return {row.setting: row.value for row in read_reasons(folder)}


def _data(found: Origin) -> str:
    return f"{counted(len(found.files.cases), 'case')} of {found.name}"
