"""Label names, models and settings from the sidecars of two segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medseg.core.errors import InputError, UsageError
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet
from medseg.evaluation.pairs import images_in
from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from medseg.segmentation.prediction import (
    UNSET,
    ModelIdentity,
    PredictionSummary,
    Settings,
    read_summary,
    summary_path,
    usable_summaries,
)

PREDICT_BOTH = "predict both scans with the same model and settings"


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
    files = images_in(path).values() if path.is_dir() else [path]
    stored = (read_summary(summary_path(file)) for file in files)
    return next((summary.structure_set for summary in stored if summary and summary.structures), None)


def facts_of(a: Path, b: Path) -> tuple[tuple[str, str], ...]:
    """Models and settings that made the segmentations, from their sidecars."""
    facts = [("Software", SOFTWARE)]
    said = {"A": usable_summaries(a), "B": usable_summaries(b)}
    for name, found in said.items():
        models = dict.fromkeys(summary.provenance.models_in_words for summary in found)
        facts += [(f"Model of {name}", text) for text in list(models)[:3] if text]
    facts += _other_settings(said["A"], said["B"])
    draws = f"{BOOTSTRAP_DRAWS} samples, seed {BOOTSTRAP_SEED}"
    return (*facts, ("Bootstrap", draws))


def _other_settings(
    of_a: Sequence[PredictionSummary], of_b: Sequence[PredictionSummary]
) -> list[tuple[str, str]]:
    """The settings in which A and B differ, where the files of both state them."""
    if not (of_a and of_b):
        return []
    sides = [[summary.provenance.chosen for summary in of_side] for of_side in (of_a, of_b)]
    titles = dict.fromkeys(title for side in sides for settings in side for title in settings)
    facts = []
    for title in titles:
        first, second = (sorted({settings.get(title, UNSET) for settings in side}) for side in sides)
        if first != second:
            told = f"A: {' or '.join(first)}; B: {' or '.join(second)}"
            facts.append((title[:1].upper() + title[1:], told))
    return facts


class StatedPrediction(NamedTuple):
    """What the summary of a prediction states, which is that of the file as it is.

    Attributes:
        summary: all of it.
        models: that predicted, one at least.
        settings: how they ran.
    """

    summary: PredictionSummary
    models: tuple[ModelIdentity, ...]
    settings: Settings

    @classmethod
    def of(cls, labels: Path) -> StatedPrediction:
        """What lies beside a label file.

        Raises:
            InputError: there is no summary of a prediction, or the labels were changed since.
        """
        if not labels.is_file():
            raise InputError("there is no such file", source=labels, hint="check the path")
        path = summary_path(labels)
        summary = read_summary(path)
        if summary is None or not summary.provenance.models or summary.provenance.settings is None:
            raise InputError(
                f"has no sidecar {path.name} beside it, so the model that predicted it is unknown",
                source=labels,
                hint=PREDICT_BOTH,
            )
        if not summary.describes(labels):
            raise InputError(
                f"is not the file that {path.name} describes: it was changed after the prediction",
                source=labels,
                hint="give it as predicted; the measurement noise is known only for predictions",
            )
        return cls(summary, summary.provenance.models, summary.provenance.settings)


def require_same(first: StatedPrediction, second: StatedPrediction) -> None:
    """Refuse two predictions whose difference would be that of their models or settings.

    Raises:
        UsageError: with both values.
    """
    if first.models != second.models:
        models = " and ".join(one.summary.provenance.models_in_words for one in (first, second))
        raise UsageError(f"the two were made with different models: {models}", hint=PREDICT_BOTH)
    of_first, of_second = first.settings.in_words(), second.settings.in_words()
    for what in sorted(of_first.keys() | of_second.keys()):
        values = [settings.get(what, UNSET) for settings in (of_first, of_second)]
        if values[0] != values[1]:
            raise UsageError(f"the two differ in {what}: {values[0]} and {values[1]}", hint=PREDICT_BOTH)
