"""Results in the formats of other programs: nnU-Net's `summary.json` and the table of challengeR.

References:
    nnU-Net v2, `nnunetv2/evaluation/evaluate_predictions.py`; Wiesenfarth et al. 2021, "Methods and
    open-source toolkit for analyzing and visualizing challenge results", doi:10.1038/s41598-021-82017-6.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.export import number_cell, text_cell

CHALLENGER_COLUMNS = ("task", "case", "algorithm", "value")
CHALLENGER_METRICS = {"dice": 0.0, "nsd": 0.0, "hd95_mm": None}
"""Metrics a table is written of, and the worst value; None: the diagonal of the scan, in mm."""

FilesOfCase = Mapping[str, tuple[str, str]]


def nnunet_summary(cases: Sequence[CaseResult], files: FilesOfCase) -> dict[str, Any]:
    """The keys and counts of nnU-Net's `summary.json`, where NaN is null, so that it is JSON.

    Its means leave out what is undefined; a missing prediction counts as one without voxels, where nnU-Net
    may leave it out.

    Args:
        cases: what was measured.
        files: names of reference and prediction of each case, by id; names, never paths.
    """
    per_case = [
        {
            "metrics": {_key(row): _metrics(row) for row in case.rows},
            "reference_file": files.get(case.case_id, ("", ""))[0],
            "prediction_file": files.get(case.case_id, ("", ""))[1],
        }
        for case in cases
    ]
    keys = [_key(row) for row in cases[0].rows] if cases else []
    mean = {key: _mean([case["metrics"][key] for case in per_case]) for key in keys}  # type: ignore[index]
    return {"foreground_mean": _mean(list(mean.values())), "mean": mean, "metric_per_case": per_case}


def challenger_csv(cases: Sequence[CaseResult], metric: str, algorithm: str) -> str:
    """One line a structure (its task) and case, in the columns of `CHALLENGER_COLUMNS`.

    A structure that is missed or made up has the worst value of the metric, one that is absent in both `NA`.

    Args:
        cases: what was measured, of one algorithm; the lines of several make one table.
        metric: one of `CHALLENGER_METRICS`.
        algorithm: what the model is called.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CHALLENGER_COLUMNS)
    for case in cases:
        for row in case.rows:
            cells = (
                text_cell(row.name),
                text_cell(case.case_id),
                text_cell(algorithm),
                _value(case, row, metric),
            )
            writer.writerow(cells)
    return out.getvalue()


def _value(case: CaseResult, row: StructureResult, metric: str) -> str:
    value = row.metrics[metric]
    if value.is_finite:
        return number_cell(value.value)
    if value.status in ("both_empty", "not_evaluated"):
        return "NA"
    worst = CHALLENGER_METRICS[metric]
    if worst is None:
        worst = float(np.linalg.norm(np.multiply(case.grid.shape, case.grid.spacing_mm)))
    return number_cell(worst)


def _key(row: StructureResult) -> str:
    """nnU-Net's: the label value, and of a region the tuple of its members."""
    return str(tuple(row.members)) if row.members else str(row.label)


def _metrics(row: StructureResult) -> dict[str, float | int | None]:
    counts = row.counts
    return {
        "Dice": row.metrics["dice"].value,
        "IoU": row.metrics["jaccard"].value,
        "TP": counts.tp,
        "FP": counts.fp,
        "FN": counts.fn,
        "TN": counts.tn,
        "n_pred": counts.predicted,
        "n_ref": counts.reference,
    }


def _mean(rows: Sequence[Mapping[str, float | int | None]]) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for key in rows[0] if rows else ():
        known = [row[key] for row in rows if row[key] is not None]
        out[key] = float(np.mean(known)) if known else None  # type: ignore[arg-type]
    return out
