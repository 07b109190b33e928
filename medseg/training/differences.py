"""In what a run differs from the one that was begun in its folder, as command line and recipe call it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from medseg.core.errors import listed

Digests = Mapping[str, Mapping[str, str]]
"""Of what was read of each case, by its id: `image` and `labels`."""

NAMED_CHANGES = 3

LONGEST_VALUE = 40
"""Characters of a setting that a message quotes."""

OPTIONS = {
    "recipe.training.seed": "--seed",
    "split.seed": "--seed",
    "split.folds": "--folds",
    "split.fold": "--fold",
    "split.train": "the cases that train",
    "split.selection": "the cases that choose the checkpoint",
    "split.validation": "the cases that are measured at the end",
    "command.epochs": "--epochs",
    "command.time_budget_s": "--time-budget in seconds",
    "command.init": "the model of --init",
}
"""What the settings that `run.json` keeps beside the recipe are for who gave the command."""

PARTS = {"recipe.card.": "of the card", "recipe.": "of the recipe"}
"""Where a person finds the other settings, by the beginning of their names in `run.json`."""


def settings_that_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings of a run are others than when it was begun; empty if none is.

    >>> settings_that_differ({"recipe": {"training": {"batch": 2}}}, {"recipe": {"training": {"batch": 4}}})
    'training.batch of the recipe (was 2, is 4)'
    """
    found = [f"{_word(name)}{_values(one, other)}" for name, one, other in _differences(before, now)]
    return listed([*dict.fromkeys(found)], most=NAMED_CHANGES) if found else ""


def files_that_differ(before: Digests, now: Digests) -> str:
    """Which files of which cases are not what they were."""
    changed = [
        f"{kind} of {case}"
        for case in sorted({*before, *now})
        for kind in ("image", "labels")
        if before.get(case, {}).get(kind) != now.get(case, {}).get(kind)
    ]
    return f"{listed(changed, most=NAMED_CHANGES)} changed"


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The names in `run.json` of what differs, with both values."""
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        return
    yield name, before, now


def _word(name: str) -> str:
    if name in OPTIONS:
        return OPTIONS[name]
    start = next((start for start in PARTS if name.startswith(start)), "")
    return f"{name.removeprefix(start)} {PARTS[start]}" if start else name


def _values(before: Any, now: Any) -> str:
    """Both values in brackets, where they are short."""
    told = ["none" if value is None else json.dumps(value) for value in (before, now)]
    return f" (was {told[0]}, is {told[1]})" if all(len(t) <= LONGEST_VALUE for t in told) else ""
