"""Label names, models and settings from the sidecars of two segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet
from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from medseg.segmentation.known import known_structures
from medseg.segmentation.sidecar import UNSET, models_of, read_summary, settings_of, summaries, summary_path


def stated_structures(a: Path, b: Path) -> StructureSet | None:
    """What the first `.json` of a prediction in A, else in B, says that the values mean.

    Raises:
        UsageError: those of A and B do not say the same.
    """
    stated = {name: found for name, path in (("A", a), ("B", b)) if (found := _predicted_structures(path))}
    if len(stated) < 2:
        return next(iter(stated.values()), None)
    first, second = ({s.value: s.name for s in found} for found in stated.values())
    for value in first.keys() & second.keys():
        if first[value] != second[value]:
            raise UsageError(
                f"A names the value {value} {first[value]!r}, and B names it {second[value]!r}",
                hint="write both in the same values, or define the values with --labels",
            )
    return stated["A"] if len(first) >= len(second) else stated["B"]


def _predicted_structures(path: Path) -> StructureSet | None:
    """Of the first prediction that has a summary beside it."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    labels = (file for file in files if file.suffix != ".json" and read_summary(summary_path(file)))
    return next((known_structures(file).structures for file in labels), None)


def facts_of(a: Path, b: Path) -> tuple[tuple[str, str], ...]:
    """Models and settings that made the segmentations, from their sidecars."""
    facts = [("Software", f"medseg {__version__}")]
    said = {"A": summaries(a), "B": summaries(b)}
    for name, found in said.items():
        models = dict.fromkeys(models_of(summary) for summary in found)
        facts += [(f"Model of {name}", text) for text in list(models)[:3] if text]
    facts += _other_settings(said["A"], said["B"])
    draws = f"{BOOTSTRAP_DRAWS} samples, seed {BOOTSTRAP_SEED}"
    return (*facts, ("Bootstrap", draws))


def _other_settings(of_a: Sequence[dict[str, Any]], of_b: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The settings in which A and B differ, where the files of both state them."""
    if not (of_a and of_b):
        return []
    sides = [[settings_of(summary) for summary in of_side] for of_side in (of_a, of_b)]
    titles = dict.fromkeys(title for side in sides for settings in side for title in settings)
    facts = []
    for title in titles:
        first, second = (sorted({settings.get(title, UNSET) for settings in side}) for side in sides)
        if first != second:
            told = f"A: {' or '.join(first)}; B: {' or '.join(second)}"
            facts.append((title[:1].upper() + title[1:], told))
    return facts
