"""Tidy CSV and strict JSON."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.metrics.cohort import summarise
from medseg.metrics.export import CASE_COLUMNS, case_content, cases_csv, cohort_csv, report_json, text_cell

NASTY = '=HYPERLINK("http://x","y"), two\nlines'


def example() -> CaseResult:
    reference, predicted = np.zeros((2, 6, 6, 6), np.uint8)
    reference[1:4, 1:4, 1:4] = predicted[1:4, 1:4, 1:5] = 1
    reference[5, 5, 5] = 2
    grid = Grid(reference.shape, np.diag([1, 2, 3, 1]))
    structures = from_labels({1: NASTY, 2: "left lung", 3: "absent"})
    maps = (LabelMap(a, grid) for a in (predicted, reference))
    return evaluate_case(*maps, structures, tolerance_mm=1.0, case_id="-1+1")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_has_one_line_a_value() -> None:
    case = example()
    rows = read(cases_csv([case], surface="surfel", software="medseg 1"))
    assert tuple(rows[0]) == CASE_COLUMNS
    assert len(rows) == sum(len(r.metrics) + 2 for r in case.rows) + len(case.overall)
    whole = {r["metric"]: float(r["value"]) for r in rows if not r["structure"]}
    assert whole == {name: value.value for name, value in case.overall.items()}
    dice = next(r for r in rows if r["metric"] == "dice")
    assert float(dice["value"]) == case.rows[0].metrics["dice"].value
    assert (dice["unit"], dice["status"], dice["surface"], dice["tau_mm"]) == ("1", "ok", "", "")
    nsd = next(r for r in rows if r["metric"] == "nsd")
    assert (nsd["surface"], nsd["tau_mm"]) == ("surfel", "1.0")


@pytest.mark.fault("reliability 74")
def test_csv_text_cannot_be_a_formula() -> None:
    rows = read(cases_csv([example()], surface="surfel", software="@x", groups={"-1+1": "\tg"}))
    assert rows[0]["case_id"] == "'-1+1"
    assert rows[0]["structure"] == f"'{NASTY}"
    assert (rows[0]["software"], rows[0]["group"]) == ("'@x", "'\tg")
    assert read(cohort_csv(summarise([example()])))[0]["structure"] == f"'{NASTY}"


@pytest.mark.parametrize("start", list("=+-@\t\r"))
@pytest.mark.fault("reliability 74")
def test_every_formula_start_is_protected(start: str) -> None:
    assert text_cell(f"{start}a") == f"'{start}a"
    assert text_cell(f"a{start}") == f"a{start}"


def test_csv_tells_undefined_from_infinite() -> None:
    rows = read(cases_csv([example()], surface="surfel", software=""))
    values = {(r["label"], r["metric"]): r["value"] for r in rows}
    assert values["3", "dice"] == ""
    assert values["2", "hd95_mm"] == "inf"
    assert values["1", "rvd_percent"] != "" != values["2", "volume_diff_ml"]


def test_json_is_strict_and_marks_what_is_not_finite() -> None:
    content = json.loads(report_json(case_content(example())), parse_constant=pytest.fail)
    by_label = {s["label"]: s for s in content["structures"]}
    assert by_label[2]["metrics"]["hd95_mm"] is None
    assert by_label[2]["status"] == "pred_empty"
    assert by_label[2]["laterality"] == "left"
    assert by_label[2]["touches_fov"] is True
    assert by_label[1]["fp"] == 9
    assert content["spacing_mm"] == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="JSON"):
        report_json({"x": math.nan})


def test_cohort_csv_leaves_undefined_cells_empty() -> None:
    rows = read(cohort_csv(summarise([example()])))
    absent = next(r for r in rows if r["structure"] == "absent" and r["metric"] == "dice")
    assert (absent["n"], absent["n_both_empty"], absent["mean"]) == ("0", "1", "")
