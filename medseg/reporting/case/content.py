"""What a report is made of, before a word of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.core.instances import Instance
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import Grid
from medseg.findings.finding import Finding
from medseg.metrics.case import CaseResult, StructureResult, SurfaceMode, findings_of
from medseg.metrics.lesions import LesionRow
from medseg.metrics.value import Value, not_evaluated
from medseg.metrics.volumes import Asymmetry

FRACTION, DISTANCE = not_evaluated("1"), not_evaluated("mm")


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        title: what it shows, in a few words.
        png: the file.
        alt: what it shows, for who cannot see it.
        caption: how to read it.
    """

    title: str
    png: bytes
    alt: str
    caption: str = ""


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
        assd_mm: mean of the surface distances.
        largest_mm: largest of the surface distances.
        recall, precision: shares of the reference and of the prediction that both have, in [0, 1].
        interval_ml: within which the volume by the reference's method is expected; None when unknown.
        expected_dice: where it was calibrated, also on shifted scans; None leaves it out.
        icv_percent: 100 times the volume over the intracranial volume; None when that is unknown.
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
    assd_mm: Value = DISTANCE
    largest_mm: Value = DISTANCE
    recall: Value = FRACTION
    precision: Value = FRACTION
    interval_ml: tuple[float, float] | None = None
    expected_dice: float | None = None
    icv_percent: float | None = None

    @property
    def missed(self) -> bool:
        """The reference has it and the model labelled none of it."""
        return bool(self.reference_ml) and self.volume_ml == 0


class PageViewer(Protocol):
    """The viewer of `medseg.reporting.viewer.viewer`: markup, style and script, none of it a user's text."""

    @property
    def html(self) -> str: ...
    @property
    def style(self) -> str: ...
    @property
    def script(self) -> str: ...


@dataclass(frozen=True)
class ReportCase:
    """Everything a page about one case says.

    Attributes:
        case_id: pseudonymous; shown escaped.
        rows: one a structure.
        totals: name and ml of the volumes that several structures make up together.
        flags: what a reader must know, shown before the numbers.
        pictures: slices of the scan with outlines.
        facts: label and value pairs on provenance: hashes, grid, model, software.
        has_reference: whether accuracy was measured.
        window: intensities shown black and white in the pictures.
        orientation_known: whether the pictures have letters and positions.
        failure: why there is no segmentation, when there is none.
        surfaces: where the surfaces of prediction and reference lie apart.
        lesions: of the structures asked for, in the order of the structures, largest first.
        asymmetry: one a pair of left and right structures.
        coverage: share of the volumes by the reference that the intervals of `rows` are to hold.
        viewer: for the page in HTML.
        instances: the single objects of structures, in the order of their numbers.
        instances_picture: of the largest of them.
        verdict_known: whether `flags` hold what the model said of its own result, if it said anything.
        mode: the definition of a surface that the distances have.
    """

    case_id: str
    rows: tuple[StructureRow, ...]
    flags: tuple[Finding, ...] = ()
    pictures: tuple[Picture, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    has_reference: bool = False
    window: tuple[float, float] | None = None
    orientation_known: bool = True
    failure: str | None = None
    totals: tuple[tuple[str, float], ...] = ()
    surfaces: Picture | None = None
    lesions: tuple[LesionRow, ...] = ()
    asymmetry: tuple[Asymmetry, ...] = ()
    coverage: float = 0.9
    viewer: PageViewer | None = None
    verdict_known: bool = True
    mode: SurfaceMode = "surfel"
    instances: tuple[Instance, ...] = ()
    instances_picture: Picture | None = None

    @property
    def has_surface_dice(self) -> bool:
        """Whether a surface Dice was measured: it needs surfaces and a tolerance."""
        return self.mode == "surfel" and any(r.surface_dice.status != "not_evaluated" for r in self.rows)

    @property
    def mean_dice(self) -> float | None:
        """Over the structures with a Dice; None when there is none."""
        values = [r.dice.value for r in self.rows if r.dice.value is not None and r.dice.is_finite]
        return sum(values) / len(values) if values else None


def case_from_result(
    result: CaseResult, structures: StructureSet, *, flags: Sequence[Finding] = ()
) -> ReportCase:
    """A page's content from a measured case; figure and facts are for the caller to add.

    Args:
        result: the measurements.
        structures: colours of the structures.
        flags: shown before the numbers, ahead of the warnings of the measurement.
    """
    said = {flag.sentence for flag in flags}
    more = [finding for finding in findings_of(result) if finding.sentence not in said]
    return ReportCase(
        case_id=result.case_id,
        rows=tuple(_row(row, structures[row.name].colour) for row in result.rows),
        flags=(*flags, *more),
        has_reference=True,
        failure=result.failure,
        mode=result.mode,
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
        assd_mm=metrics.get("assd_mm", DISTANCE),
        largest_mm=metrics.get("hd100_mm", DISTANCE),
        recall=metrics.get("recall", FRACTION),
        precision=metrics.get("precision", FRACTION),
    )


def rows_from_labels(
    labels: NDArray[np.integer[Any]], grid: Grid, structures: StructureSet
) -> tuple[StructureRow, ...]:
    """Volumes alone, for a segmentation without a reference.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: what the values mean.
    """
    volumes = structures.volumes_ml(value_counts(labels), grid)
    return tuple(StructureRow(s.name, s.colour, volumes[s.name]) for s in structures)
