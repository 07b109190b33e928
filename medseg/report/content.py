"""What a report is made of, before a word of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.cohort import CohortRow, summarise
from medseg.metrics.value import Value, not_evaluated
from medseg.report.flags import Flag, sentence
from medseg.structures import StructureSet, value_counts
from medseg.volume import Grid

FRACTION, DISTANCE = not_evaluated("1"), not_evaluated("mm")


@dataclass(frozen=True)
class StructureRow:
    """What was measured of one structure in one case.

    Attributes:
        name: of the structure.
        colour: `#rrggbb`, the structure's own.
        volume_ml: labelled by the model.
        reference_ml: in the reference; None without one.
        dice, jaccard, surface_dice: in [0, 1].
        hd95_mm: 95th percentile of the surface distances.
        tolerance_mm: of the surface Dice.
    """

    name: str
    colour: str
    volume_ml: float
    reference_ml: float | None = None
    dice: Value = FRACTION
    jaccard: Value = FRACTION
    hd95_mm: Value = DISTANCE
    surface_dice: Value = FRACTION
    tolerance_mm: float | None = None

    @property
    def missed(self) -> bool:
        """The reference has it and the model labelled none of it."""
        return bool(self.reference_ml) and self.volume_ml == 0


@dataclass(frozen=True)
class ReportCase:
    """Everything a page about one case says.

    Attributes:
        case_id: pseudonymous; shown escaped.
        rows: one a structure.
        totals: name and ml of the volumes that several structures make up together.
        flags: shown before the numbers.
        overlay: the figure, a PNG; None leaves it out.
        facts: label and value pairs on provenance: hashes, grid, model, software.
        has_reference: whether accuracy was measured.
        window: intensities shown black and white in the figure.
        orientation_known: whether the figure has letters and positions.
        failure: why there is no segmentation, when there is none.
    """

    case_id: str
    rows: tuple[StructureRow, ...]
    flags: tuple[Flag, ...] = ()
    overlay: bytes | None = None
    facts: tuple[tuple[str, str], ...] = ()
    has_reference: bool = False
    window: tuple[float, float] | None = None
    orientation_known: bool = True
    failure: str | None = None
    totals: tuple[tuple[str, float], ...] = ()

    @property
    def mean_dice(self) -> float | None:
        """Over the structures with a Dice; None when there is none."""
        values = [r.dice.value for r in self.rows if r.dice.value is not None and r.dice.is_finite]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Failure:
    """A case that could not be measured at all, and why."""

    case_id: str
    reason: str


@dataclass(frozen=True)
class ReportCohort:
    """Everything a page about many cases says.

    Attributes:
        title: name of the cohort.
        cases: those with volumes; one with a `failure` is in them as a segmentation without voxels.
        failures: those left out of every number.
        summary: one row a structure and metric; empty without references.
        facts: label and value pairs on provenance.
        figure: box plots, a PNG; None leaves them out.
    """

    title: str
    cases: tuple[ReportCase, ...]
    failures: tuple[Failure, ...] = ()
    summary: tuple[CohortRow, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    figure: bytes | None = None

    @property
    def has_reference(self) -> bool:
        return any(case.has_reference for case in self.cases)

    @property
    def colours(self) -> dict[str, str]:
        """Colour of each structure, in the order met."""
        return {row.name: row.colour for case in reversed(self.cases) for row in case.rows}

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

    def worst_first(self) -> tuple[ReportCase, ...]:
        """Missing ones, then by mean Dice, then by name; cases without a Dice last."""

        def rank(case: ReportCase) -> tuple[bool, bool, float, str]:
            mean = case.mean_dice
            return case.failure is None, mean is None, 0.0 if mean is None else mean, case.case_id

        return tuple(sorted(self.cases, key=rank))


def case_from_result(
    result: CaseResult, structures: StructureSet, *, flags: Sequence[Flag] = ()
) -> ReportCase:
    """A page's content from a measured case; figure and facts are for the caller to add.

    Args:
        result: the measurements.
        structures: colours of the structures.
        flags: shown before the numbers, ahead of the warnings of the measurement.
    """
    said = {flag.text for flag in flags}
    warnings = [Flag(sentence(w)) for w in result.warnings if sentence(w) not in said]
    if result.failure is not None:
        warnings.insert(0, Flag(sentence(f"no segmentation was measured: {result.failure}")))
    return ReportCase(
        case_id=result.case_id,
        rows=tuple(_row(row, structures[row.name].colour) for row in result.rows),
        flags=(*flags, *warnings),
        has_reference=True,
        failure=result.failure,
    )


def _row(result: StructureResult, colour: str) -> StructureRow:
    metrics = result.metrics
    return StructureRow(
        name=result.name,
        colour=colour,
        volume_ml=result.volume_pred_ml,
        reference_ml=result.volume_ref_ml,
        dice=metrics.get("dice", FRACTION),
        jaccard=metrics.get("jaccard", FRACTION),
        hd95_mm=metrics.get("hd95_mm", DISTANCE),
        surface_dice=metrics.get("nsd", FRACTION),
        tolerance_mm=result.tau_mm,
    )


def cohort_from_results(
    title: str, results: Sequence[CaseResult], structures: StructureSet, *, failures: Sequence[Failure] = ()
) -> ReportCohort:
    """A page's content from measured cases; figure and facts are for the caller to add."""
    cases = tuple(case_from_result(result, structures) for result in results)
    return ReportCohort(title, cases, tuple(failures), summarise(results))


def rows_from_labels(
    labels: NDArray[np.integer[Any]], grid: Grid, structures: StructureSet
) -> tuple[StructureRow, ...]:
    """Volumes alone, for a segmentation without a reference.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: what the values mean.
    """
    count = value_counts(labels)
    voxel_ml = grid.voxel_volume_mm3 / 1000
    return tuple(
        StructureRow(s.name, s.colour, sum(count.get(v, 0) for v in s.members or (s.value,)) * voxel_ml)
        for s in structures
    )
