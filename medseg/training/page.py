"""What the page of a training is made of, from the files of its runs and what was measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.core.errors import counted
from medseg.core.numbers import number
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult
from medseg.metrics.scores import Scores
from medseg.reporting.cohort.content import ReportCohort, cohort_from_results
from medseg.reporting.cohort.plots.every import cohort_pictures
from medseg.reporting.training import Curve, TrainingReport, training_page
from medseg.training.planning.kept import read_reasons
from medseg.training.recipe import Recipe
from medseg.training.run import PAGE, SUSPECTS
from medseg.training.suspects import Suspect, suspects, write_suspects

MEASURES = {"dice/": "Dice", "ap/": "AP"}
"""Of what chooses the checkpoint, by how its columns of the log begin."""


def write_page(
    folder: Path,
    recipe: Recipe,
    structures: StructureSet,
    runs: Mapping[str, Path],
    results: Sequence[CaseResult],
    thumbnails: Mapping[str, bytes],
    seconds: float,
    learnt: Callable[[str], float] | None = None,
    more: Sequence[tuple[str, str]] = (),
) -> tuple[Suspect, ...]:
    """Write `report.html` into a folder, and `suspects.csv`; return the cases that stand out.

    Args:
        folder: of the run; its plan is told if there is one.
        recipe: what was trained.
        structures: what it learnt.
        runs: folder of each training, by a name.
        results: of the cases that did not train.
        thumbnails: pictures of those, by case.
        seconds: the trainings took together.
        learnt: the mean Dice of a case with a model that trained on it.
        more: further facts, as pairs.
    """
    curves = tuple(_curve(name, run) for name, run in runs.items())
    epochs = sum(len(curve.loss) for curve in curves)
    network = recipe.network
    facts = (
        ("Network", f"{network.name}, widths {', '.join(map(str, network.widths))}"),
        ("Patch", " × ".join(map(str, recipe.training.patch)) + " voxels"),
        ("Length", f"{counted(epochs, 'epoch')} in {number(seconds / 60, 1)} minutes"),
        ("Cases measured", str(len(results))),
        *more,
        ("Software", SOFTWARE),
    )
    cohort = _cohort(recipe.name, results, structures, thumbnails)
    found = suspects(cohort.cases, learnt) if cohort else []
    rows = tuple(
        (case.case_id, number(case.dice, 3), number(case.median, 3), number(case.learnt, 3), case.reading)
        for case in found
    )
    report = TrainingReport(recipe.name, facts, read_reasons(folder), curves, cohort, rows)
    write_text(folder / PAGE, training_page(report), overwrite=True)
    if cohort:
        write_suspects(folder / SUSPECTS, found)
    return tuple(found)


def _cohort(
    title: str, results: Sequence[CaseResult], structures: StructureSet, thumbnails: Mapping[str, bytes]
) -> ReportCohort | None:
    if not results:
        return None
    cohort = cohort_from_results(title, Scores(tuple(results)), structures)
    return replace(cohort, pictures=cohort_pictures(cohort), thumbnails=thumbnails)


def _curve(name: str, run: Path) -> Curve:
    """The log of a training."""
    with (run / "log.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    scored = [key for key in (rows[0] if rows else ()) if key.startswith(tuple(MEASURES))]
    values = {key.partition("/")[2]: tuple(float(row[key]) for row in rows) for key in scored}
    known = {name: found for name, found in values.items() if not all(map(math.isnan, found))}
    measure = MEASURES[scored[0].partition("/")[0] + "/"] if scored else "Dice"
    return Curve(name, tuple(float(row["loss"]) for row in rows), known, measure)
