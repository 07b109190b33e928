"""The summary of a prediction for `scan_seg.json` and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medseg.core.volume import Grid, Volume
from medseg.segmentation.calibration import Expected, expectations, may_show_dice
from medseg.segmentation.segmenter import Segmentation, Segmenter
from medseg.segmentation.sidecar import SCHEMA

if TYPE_CHECKING:
    from medseg.reporting.case.page import ReportOptions


def expected_of(found: Segmentation, segmenter: Segmenter) -> dict[str, Expected]:
    """Expected accuracy of each structure.

    Nothing where the result is doubtful, for what was learnt from other scans says nothing of this one, nor
    where the models do not run as one was calibrated.
    """
    options = segmenter.options
    as_calibrated = len(segmenter.models) == 1 and options.tta is None and options.refine is None
    as_calibrated = as_calibrated and not options.prune
    known = as_calibrated and found.quality.flag == "ok"
    evidence = segmenter.models[0].spec.evidence if known else {}
    return expectations(found.volumes_ml(), found.estimated_dice, evidence)


def intervals_of(expected: Mapping[str, Expected]) -> dict[str, tuple[float, float]]:
    """The intervals that are known, in ml, by structure."""
    return {name: e.interval_ml for name, e in expected.items() if e.interval_ml is not None}


def summary_of(volume: Volume, found: Segmentation, expected: Mapping[str, Expected]) -> dict[str, Any]:
    """The content of `scan_seg.json`; it contains no patient data and no path.

    Args:
        volume: the scan.
        found: in it.
        expected: of each structure.
    """
    return {
        "schema": SCHEMA,
        "intended_use": "research only; not a medical device",
        "grid": grid_content(volume.grid),
        "quality": found.quality.content(),
        "findings": [finding.content() for finding in found.findings],
        "structures": _rows(found, expected),
        "totals": [
            {"name": t.name, "values": list(t.values), "volume_ml": round(ml, 6)}
            for t, ml in zip(found.totals, found.totals_ml().values(), strict=True)
        ],
        "warnings": list(found.warnings),
    }


def _rows(found: Segmentation, expected: Mapping[str, Expected]) -> list[dict[str, Any]]:
    """One row a structure, with what to expect of it where the model was calibrated."""
    voxels, cut = found.voxels(), found.truncated()
    rows = []
    for s in found.structures:
        row = {
            "value": s.value,
            "name": s.name,
            "colour": s.colour,
            "voxels": voxels[s.name],
            "volume_ml": round(found.labels.grid.volume_ml(voxels[s.name]), 6),
            "truncated": cut[s.name],
        }
        rows.append(row | expected[s.name].content() | ({"members": list(s.members)} if s.members else {}))
    return rows


def grid_content(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "orientation": grid.axis_codes,
    }


def page_options(
    case_id: str,
    facts: Mapping[str, str],
    found: Segmentation,
    expected: Mapping[str, Expected],
    evidence: Mapping[str, Any],
    *,
    viewer: bool,
) -> ReportOptions:
    """Options of the report, beyond scan and labels.

    The Dice to expect is shown only of a model whose calibration was right on shifted scans too.
    """
    from medseg.reporting.case.page import ReportOptions

    scores = {name: e.dice for name, e in expected.items() if e.dice is not None}
    return ReportOptions(
        case_id=case_id,
        facts=facts,
        findings=found.findings,
        labels_judged=True,
        totals=found.totals,
        intervals_ml=intervals_of(expected),
        coverage=evidence.get("calibration", {}).get("coverage", 0.9),
        expected_dice=scores if may_show_dice(evidence) else {},
        viewer=viewer,
    )
