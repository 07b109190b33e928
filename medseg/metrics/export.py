"""Results for machines: tidy CSV and strict JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medseg.core.software import MADE_BY
from medseg.metrics import promise12
from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.cohort import CohortRow
from medseg.metrics.lesions import SURFACE_METRICS as OF_LESIONS
from medseg.metrics.lesions import LesionRow
from medseg.metrics.table import SURFACE_METRICS as OF_STRUCTURES
from medseg.metrics.value import Value, not_evaluated

CASE_COLUMNS = (
    "case_id", "group", "structure", "label", "region", "metric", "value", "unit", "status", "surface",
    "tau_mm", "model", "software",
)  # fmt: skip

LESION_COLUMNS = (
    "case_id", "structure", "lesion", "outcome", "volume_ref_ml", "volume_pred_ml", "dice", "hd95_mm",
)  # fmt: skip

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that starts with one of these for a formula."""

SURFACE_METRICS = OF_STRUCTURES | OF_LESIONS | promise12.SURFACE_METRICS


def cases_csv(
    cases: Sequence[CaseResult],
    *,
    surface: str,
    software: str,
    model: str = "",
    groups: Mapping[str, str] | None = None,
) -> str:
    """One line a case, structure and metric, in the columns of `CASE_COLUMNS`.

    What is of all structures together has no structure, label or region. An undefined value is an empty
    cell and an infinite one `inf`; `status` says why.

    Args:
        cases: what was measured.
        surface: the definition of a surface, written beside every metric that depends on it.
        software: name and version.
        model: name of the model that predicted.
        groups: the group of each case, by id.
    """
    rows: list[list[str]] = []
    for case in cases:
        about = (text_cell(case.case_id), text_cell((groups or {}).get(case.case_id, "")))
        for row in case.rows:
            what = (text_cell(row.name), str(row.label), " ".join(map(str, row.members)))
            for metric, value in _all_values(row).items():
                rows.append(
                    [
                        *about,
                        *what,
                        metric,
                        number_cell(value.value),
                        value.unit,
                        value.status,
                        surface if metric in SURFACE_METRICS else "",
                        number_cell(row.tau_mm) if metric == "nsd" else "",
                        text_cell(model),
                        text_cell(software),
                    ]
                )
        for metric, value in case.overall.items():
            measured = (metric, number_cell(value.value), value.unit, value.status)
            rows.append([*about, "", "", "", *measured, "", "", text_cell(model), text_cell(software)])
    return _csv(CASE_COLUMNS, rows)


def cohort_csv(rows: Sequence[CohortRow]) -> str:
    """One line a structure and metric, in the columns of `CohortRow`."""
    columns = [f.name for f in dataclasses.fields(CohortRow)]
    return _csv(columns, ([_cell(getattr(row, name)) for name in columns] for row in rows))


def lesions_csv(lesions: Mapping[str, Sequence[LesionRow]]) -> str:
    """One line per lesion or extra component, in the columns `LESION_COLUMNS`, counted from 1 per structure.

    Args:
        lesions: of each case, by its id.
    """
    rows = []
    for case, lines in lesions.items():
        for number, line in _numbered(lines):
            numbers = (line.reference_ml, line.predicted_ml, line.dice, line.hd95_mm)
            about = (text_cell(case), text_cell(line.structure), str(number), line.outcome)
            rows.append([*about, *map(number_cell, numbers)])
    return _csv(LESION_COLUMNS, rows)


def _numbered(lines: Sequence[LesionRow]) -> Iterator[tuple[int, LesionRow]]:
    counts = Counter[str]()
    for line in lines:
        counts[line.structure] += 1
        yield counts[line.structure], line


def document_head(schema: str) -> dict[str, Any]:
    """What a JSON document of measurements begins with: its schema, its making and its use."""
    return {
        "schema": schema,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": dict(MADE_BY),
        "intended_use": "research",
    }


def report_json(content: Mapping[str, Any] | Sequence[Any]) -> str:
    """Strict JSON: a NaN or infinity that slipped through is an error, not invalid output."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def case_content(case: CaseResult, lesions: Sequence[LesionRow] | None = None) -> dict[str, Any]:
    """A case as JSON-able values; what is not finite is null, and the status says why.

    Args:
        case: what was measured.
        lesions: of the structures that were measured lesion by lesion.
    """
    grid = case.grid
    return {
        "case_id": case.case_id,
        "failure": case.failure,
        "shape": list(grid.shape),
        "spacing_mm": list(grid.spacing_mm),
        "orientation": grid.axis_codes,
        "voxel_volume_mm3": grid.voxel_volume_mm3,
        "qc": list(case.warnings),
        "overall": _finite(case.overall),
        "structures": [_structure_content(row, lesions or ()) for row in case.rows],
    }


def _structure_content(row: StructureResult, lesions: Sequence[LesionRow]) -> dict[str, Any]:
    content = {
        "label": row.label,
        "name": row.name,
        "members": list(row.members),
        "laterality": row.side,
        "status": row.status,
        "touches_fov": row.touches_fov,
        **dataclasses.asdict(row.counts),
        "volume_pred_ml": row.volume_pred_ml,
        "volume_ref_ml": row.volume_ref_ml,
        "metrics": _finite(row.metrics),
        "not_evaluated": [name for name, v in row.metrics.items() if v.status == "not_evaluated"],
    }
    own = [_lesion_content(line) for line in lesions if line.structure == row.name]
    return content | {"lesions": own} if own else content


def _lesion_content(line: LesionRow) -> dict[str, Any]:
    return {
        "kind": line.outcome,
        "volume_ref_ml": line.reference_ml,
        "volume_pred_ml": line.predicted_ml,
        "dice": line.dice,
        "hd95_mm": line.hd95_mm,
    }


def _finite(values: Mapping[str, Value]) -> dict[str, float | None]:
    return {name: v.value if v.is_finite else None for name, v in values.items()}


def text_cell(text: str) -> str:
    """Text that a spreadsheet does not run as a formula.

    >>> text_cell("=1+1"), text_cell("case 1")
    ("'=1+1", 'case 1')
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def number_cell(value: float | None) -> str:
    """The shortest text that reads back as the same number.

    >>> number_cell(0.1), number_cell(None), number_cell(math.inf)
    ('0.1', '', 'inf')
    """
    return "" if value is None or math.isnan(value) else repr(float(value))


def _all_values(row: StructureResult) -> dict[str, Value]:
    volumes = {
        "volume_ref_ml": _volume(row.volume_ref_ml, row),
        "volume_pred_ml": _volume(row.volume_pred_ml, row),
    }
    return volumes | dict(row.metrics)


def _volume(ml: float, row: StructureResult) -> Value:
    return not_evaluated("ml") if row.status == "not_evaluated" else Value(ml, "ml", row.status)


def _cell(value: str | int | float | None) -> str:
    if isinstance(value, str):
        return text_cell(value)
    return str(value) if isinstance(value, int) else number_cell(value)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()
