"""What a report about many cases is made of, before a word of it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.findings.finding import Finding
from medseg.metrics.case import SurfaceMode
from medseg.metrics.cohort import BOOTSTRAP_LEAST_N, CohortRow
from medseg.metrics.lesions import LesionRow
from medseg.metrics.scores import Scores
from medseg.reporting.case.content import Picture, ReportCase, StructureRow, case_from_result

Numbers = NDArray[np.float64]

LEAST_N = BOOTSTRAP_LEAST_N
"""Below this many cases there are points and no intervals, boxes or limits."""


@dataclass(frozen=True)
class Failure:
    """A case that is in no number of the page, and why."""

    case_id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Volumes:
    """Volumes of one structure in the cases where prediction or reference has it.

    Attributes:
        predicted_ml, reference_ml: one a case, (n,); 0 where one has none.
    """

    predicted_ml: Numbers
    reference_ml: Numbers

    @property
    def differences_ml(self) -> Numbers:
        """Prediction less reference, (n,)."""
        return self.predicted_ml - self.reference_ml

    @property
    def means_ml(self) -> Numbers:
        """Of prediction and reference, (n,)."""
        return (self.predicted_ml + self.reference_ml) / 2

    @property
    def percent(self) -> Numbers:
        """100 (P - R) / ((P + R) / 2), (n,), in [-200, 200]."""
        return 100 * self.differences_ml / self.means_ml

    @property
    def one_empty(self) -> NDArray[np.bool_]:
        """Cases in which one of the two has none, (n,)."""
        return np.asarray((self.predicted_ml == 0) | (self.reference_ml == 0))


@dataclass(frozen=True)
class Stated:
    """A measure over all cases, and the ends of its 95 % interval; None where there are too few cases."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Detection:
    """How well the objects of a structure were found one by one, over all cases.

    Attributes:
        structure: its name.
        objects: in the references.
        measures: by what they are called.
        sensitivity: by the false positives a scan at which it is reached.
    """

    structure: str
    objects: int
    measures: Mapping[str, Stated] = field(default_factory=dict)
    sensitivity: Mapping[float, Stated] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportCohort:
    """Everything a page about many cases says.

    Attributes:
        title: name of the cohort.
        cases: those with volumes; one with a `failure` is in them as a segmentation without voxels.
        failures: those that could not be measured, left out of every number.
        summary: one row a structure and metric; empty without references.
        facts: label and value pairs on provenance.
        lesions_of: structures whose lesions were looked for in every case.
        detections: of objects with scores; empty where none were measured.
        pictures: the plots.
        thumbnails: a small PNG of a case, by case id.
        findings: what a reader must know, most severe first: of the whole, and of each case with its id.
    """

    title: str
    cases: tuple[ReportCase, ...]
    failures: tuple[Failure, ...] = ()
    summary: tuple[CohortRow, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    lesions_of: tuple[str, ...] = ()
    detections: tuple[Detection, ...] = ()
    pictures: tuple[Picture, ...] = ()
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def has_reference(self) -> bool:
        return any(case.has_reference for case in self.cases)

    @property
    def mode(self) -> SurfaceMode:
        """The definition of a surface that the distances have: one for all cases."""
        return next((case.mode for case in self.cases if case.has_reference), "surfel")

    @property
    def colours(self) -> dict[str, str]:
        """Colour of each structure, in the order met."""
        return {row.name: row.colour for case in self.cases for row in case.rows}

    @property
    def missing(self) -> tuple[ReportCase, ...]:
        """Cases without a prediction, counted as missed."""
        return tuple(case for case in self.cases if case.failure is not None)

    def rows_of(self, name: str) -> tuple[StructureRow, ...]:
        return tuple(row for case in self.cases for row in case.rows if row.name == name)

    def dice_of(self, name: str) -> list[float]:
        """Every Dice of a structure that exists, in the order of the cases."""
        values = (row.dice.value for row in self.rows_of(name) if row.dice.is_finite)
        return [value for value in values if value is not None]

    def distances_of(self, name: str) -> list[float]:
        """Every HD95 of a structure in mm, in the order of the cases; infinite where one has none of it."""
        values = (row.hd95_mm.value for row in self.rows_of(name))
        return [value for value in values if value is not None]

    def volumes_of(self, name: str) -> Volumes:
        """Volumes of a structure, without the cases that have none of it or no reference."""
        rows = [r for r in self.rows_of(name) if r.reference_ml is not None and r.reference_ml + r.volume_ml]
        return Volumes(
            np.array([row.volume_ml for row in rows], np.float64),
            np.array([row.reference_ml for row in rows], np.float64),
        )

    def worst_structures(self, most: int) -> tuple[str, ...]:
        """Those with a Dice, in their order; if more than `most`, the worst by mean Dice, worst first."""
        means = {name: float(np.mean(found)) for name in self.colours if (found := self.dice_of(name))}
        if len(means) <= most:
            return tuple(means)
        return tuple(sorted(means, key=lambda name: means[name])[:most])

    def worst_first(self) -> tuple[ReportCase, ...]:
        """Missing ones, then by mean Dice, then by name; cases without a Dice last."""

        def rank(case: ReportCase) -> tuple[bool, bool, float, str]:
            mean = case.mean_dice
            return case.failure is None, mean is None, 0.0 if mean is None else mean, case.case_id

        return tuple(sorted(self.cases, key=rank))


def cohort_from_results(
    title: str,
    scores: Scores,
    structures: StructureSet,
    *,
    failures: Sequence[Failure] = (),
    lesions: Mapping[str, Sequence[LesionRow]] | None = None,
    lesions_of: Sequence[str] = (),
) -> ReportCohort:
    """A page's content from measured cases; pictures and facts are for the caller to add.

    Args:
        title: name of the cohort.
        scores: the measurements; a case with a `failure` counts as missed.
        structures: colours of the structures.
        failures: cases that could not be measured at all.
        lesions: of each case, by its id; see `metrics.lesions.lesion_rows`.
        lesions_of: structures whose lesions were looked for in every case.
    """
    found = lesions or {}
    cases = (case_from_result(result, structures) for result in scores.cases)
    return ReportCohort(
        title=title,
        cases=tuple(replace(case, lesions=tuple(found.get(case.case_id, ()))) for case in cases),
        failures=tuple(failures),
        summary=scores.cohort,
        lesions_of=tuple(lesions_of),
    )
