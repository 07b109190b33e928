"""nnU-Net's summary and challengeR's table, by hand."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from missed import missed_case

from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.metrics.exchange import CHALLENGER_METRICS, challenger_csv, nnunet_summary

STRUCTURES = StructureSet(
    (
        Structure(3, "=whole", members=(1, 2)),
        Structure(1, "core", members=(1,)),
        Structure(4, "none", members=(4,)),
    )
)
GRID = Grid((6, 6, 6), np.diag([1.0, 2.0, 3.0, 1.0]))


def cases() -> list[CaseResult]:
    reference, predicted = np.zeros((2, 6, 6, 6), np.uint8)
    reference[1:4, 1:4, 1:4] = predicted[1:4, 1:4, 1:5] = 2
    reference[2, 2, 2] = 1
    one, two = (LabelMap(a, GRID) for a in (predicted, reference))
    first = evaluate_case(one, two, STRUCTURES, tolerance_mm=1.0, case_id="a")
    return [first, missed_case(two, STRUCTURES, "the prediction is missing", tolerance_mm=1.0, case_id="@b")]


def test_summary_by_hand() -> None:
    content = nnunet_summary(cases(), {"a": ("a.nii.gz", "a_seg.nii.gz"), "@b": ("@b.nii.gz", "")})
    content = json.loads(json.dumps(content, allow_nan=False))
    assert list(content) == ["foreground_mean", "mean", "metric_per_case"]
    whole = content["metric_per_case"][0]["metrics"]["(1, 2)"]
    assert whole == {
        "Dice": pytest.approx(54 / 63), "IoU": pytest.approx(27 / 36), "TP": 27, "FP": 9, "FN": 0,
        "TN": 216 - 36, "n_pred": 36, "n_ref": 27,
    }  # fmt: skip
    assert content["mean"]["(1, 2)"]["Dice"] == pytest.approx(54 / 63 / 2)
    assert content["mean"]["(4,)"]["Dice"] is None
    assert content["foreground_mean"]["Dice"] == pytest.approx(54 / 63 / 4)
    assert content["metric_per_case"][1]["reference_file"] == "@b.nii.gz"


def test_a_structure_has_its_value_for_a_key() -> None:
    reference = LabelMap(np.ones((3, 3, 3), np.uint8), Grid((3, 3, 3), np.eye(4)))
    case = evaluate_case(reference, reference, StructureSet((Structure(1, "x"),)))
    assert list(nnunet_summary([case], {})["mean"]) == ["1"]


@pytest.mark.parametrize("metric", CHALLENGER_METRICS)
def test_missed_is_the_worst_and_absent_is_na(metric: str) -> None:
    rows = list(csv.DictReader(io.StringIO(challenger_csv(cases(), metric, "net"))))
    values = {(r["task"], r["case"]): r["value"] for r in rows}
    assert list(rows[0]) == ["task", "case", "algorithm", "value"]
    assert len(rows) == 6
    worst = {"hd95_mm": float(np.linalg.norm([6, 12, 18]))}.get(metric, 0.0)
    assert float(values["'=whole", "'@b"]) == pytest.approx(worst)
    assert float(values["core", "a"]) == pytest.approx(worst)
    assert values["none", "a"] == values["none", "'@b"] == "NA"
