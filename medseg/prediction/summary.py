"""The summary of a prediction for `scan_seg.json` and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.core.software import processor
from medseg.core.structures import StructureSet, Total
from medseg.core.volume import LabelMap, Volume
from medseg.io.memory import peak_memory_bytes
from medseg.metrics.conformal import COVERAGE
from medseg.model.evidence import Evidence
from medseg.segmentation.calibration import Expected, expectations, may_show_dice
from medseg.segmentation.prediction import PredictionSummary, Provenance
from medseg.segmentation.result import Segmentation
from medseg.segmentation.rows import (
    GridSummary,
    InstanceSummary,
    QualitySummary,
    StructureSummary,
    TotalSummary,
)
from medseg.segmentation.segmenter import Segmenter
from medseg.segmentation.verdict import Quality

if TYPE_CHECKING:
    from medseg.reporting.case.options import ReportOptions


def expected_of(found: Segmentation, segmenter: Segmenter) -> dict[str, Expected]:
    """Expected accuracy of each structure.

    Nothing where the result is doubtful, for what was learnt from other scans says nothing of this one, nor
    where the models do not run as one was calibrated, or were ended by a time budget.
    """
    options, spec = segmenter.options, segmenter.models[0].spec
    own = {"tta": bool(spec.inference.flips), "refine": spec.refinement is not None}
    switched = any(getattr(options, name) not in (None, usual) for name, usual in own.items())
    changed = len(segmenter.models) > 1 or switched or options.prune or options.scales
    changed = changed or (found.budget is not None and not found.budget.is_complete)
    known = not changed and found.verdict.flag == "ok"
    evidence = spec.evidence if known else Evidence()
    return expectations(found.volumes_ml(), found.estimated_dice, evidence)


def intervals_of(expected: Mapping[str, Expected]) -> dict[str, tuple[float, float]]:
    """The intervals that are known, in ml, by structure."""
    return {name: e.interval_ml for name, e in expected.items() if e.interval_ml is not None}


def summary_of(
    volume: Volume,
    found: Segmentation,
    expected: Mapping[str, Expected],
    *,
    provenance: Provenance,
    labels_sha256: str,
    dicom_sha256: tuple[str, ...],
    timing_s: Mapping[str, float],
) -> PredictionSummary:
    """What `scan_seg.json` says of the result; nothing about the patient, no path.

    Args:
        volume: the scan.
        found: in it.
        expected: of each structure.
        provenance: what the result depends on.
        labels_sha256: of the label file.
        dicom_sha256: of the DICOM objects, if there are any.
        timing_s: what each step took.
    """
    return PredictionSummary(
        grid=GridSummary.of(volume.grid),
        quality=_quality(found.verdict),
        findings=found.findings,
        structures=_rows(found, expected),
        totals=_totals(found),
        instances=_instances(found),
        budget=found.budget,
        warnings=found.warnings,
        labels_sha256=labels_sha256,
        dicom_sha256=dicom_sha256,
        seconds=round(sum(timing_s.values()), 2),
        timing_s={step: round(taken, 3) for step, taken in timing_s.items()},
        peak_memory_bytes=peak_memory_bytes(),
        processor=processor(),
        provenance=provenance,
    )


def corrected(
    labels: LabelMap, structures: StructureSet, totals: tuple[Total, ...], labels_sha256: str
) -> PredictionSummary:
    """What a sidecar says of labels that somebody drew or corrected: names and volumes.

    It has no verdict and no provenance, which are about what a model said.

    Args:
        labels: as they are now.
        structures: what their values mean.
        totals: volumes that several structures make up together.
        labels_sha256: of their file.
    """
    found = Segmentation(labels, structures, totals=totals)
    return PredictionSummary(
        grid=GridSummary.of(labels.grid),
        structures=_rows(found, dict.fromkeys(found.structures.names, Expected())),
        totals=_totals(found),
        warnings=labels.warnings,
        labels_sha256=labels_sha256,
    )


def _instances(found: Segmentation) -> tuple[InstanceSummary, ...] | None:
    if found.instances is None:
        return None
    return tuple(
        InstanceSummary(
            one.number,
            one.structure,
            _rounded(one.box_mm(found.labels.grid)),
            one.voxels,
            round(one.volume_ml, 6),
            round(one.longest_mm, 3),
            None if one.score is None else round(one.score, 4),
        )
        for one in found.instances.items
    )


def _rounded(box: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    low, high = (tuple(round(mm, 3) for mm in end) for end in box)
    return low, high


def _totals(found: Segmentation) -> tuple[TotalSummary, ...]:
    totals = zip(found.totals, found.totals_ml().values(), strict=True)
    return tuple(TotalSummary(t.name, t.values, round(ml, 6)) for t, ml in totals)


def _quality(quality: Quality) -> QualitySummary:
    confidence, sides = (None if x is None else round(x, 4) for x in (quality.confidence, quality.sides))
    return QualitySummary(quality.flag, quality.reasons, confidence, sides)


def _rows(found: Segmentation, expected: Mapping[str, Expected]) -> tuple[StructureSummary, ...]:
    """One row a structure, with what to expect of it where the model was calibrated."""
    voxels, cut = found.voxels(), found.truncated()
    rows = (
        StructureSummary(
            s.value,
            s.name,
            s.colour,
            voxels=voxels[s.name],
            volume_ml=round(found.labels.grid.volume_ml(voxels[s.name]), 6),
            truncated=cut[s.name],
            members=s.members,
        )
        for s in found.structures
    )
    return tuple(_with_expected(row, expected[row.name]) for row in rows)


def _with_expected(row: StructureSummary, expected: Expected) -> StructureSummary:
    """The row with what is known beforehand; the Dice only with its interval."""
    if expected.interval_ml is not None:
        low, high = expected.interval_ml
        row = replace(row, interval_ml=(round(low, 6), round(high, 6)))
    if expected.dice is not None and expected.dice_interval is not None:
        low, high = expected.dice_interval
        ends = round(low, 4), round(high, 4)
        row = replace(row, expected_dice=round(expected.dice, 4), expected_dice_interval=ends)
    return row


def page_options(
    case_id: str,
    facts: Mapping[str, str],
    found: Segmentation,
    expected: Mapping[str, Expected],
    evidence: Evidence,
    *,
    viewer: bool,
) -> ReportOptions:
    """Options of the report, beyond scan and labels.

    The Dice to expect is shown only of a model whose calibration was right on shifted scans too.
    """
    from medseg.reporting.case.options import ReportOptions

    scores = {name: e.dice for name, e in expected.items() if e.dice is not None}
    return ReportOptions(
        case_id=case_id,
        facts=facts,
        findings=found.findings,
        labels_judged=True,
        totals=found.totals,
        intervals_ml=intervals_of(expected),
        coverage=COVERAGE if evidence.calibration is None else evidence.calibration.coverage,
        expected_dice=scores if may_show_dice(evidence) else {},
        viewer=viewer,
        instances=found.instances,
    )
