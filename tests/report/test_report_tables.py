"""How a value is written decides how it is read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.metrics.case import evaluate_case, missed_case
from medseg.metrics.value import Value
from medseg.report import tables
from medseg.report.content import (
    Failure,
    ReportCase,
    ReportCohort,
    StructureRow,
    case_from_result,
    cohort_from_results,
    rows_from_labels,
)
from medseg.structures import Structure, StructureSet, from_labels
from medseg.volume import Grid, LabelMap

GRID = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.5, 1.0]))  # 0.01 ml a voxel
PAIR = from_labels({1: "left kidney", 2: "right kidney"})


def label_map(ones: int, twos: int = 0) -> LabelMap:
    flat = np.zeros(1000, np.uint8)
    flat[:ones], flat[500 : 500 + twos] = 1, 2
    return LabelMap(flat.reshape(GRID.shape), GRID)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"), (1.0, "1.0"), (0.99949, "0.999"), (0.9996, "1.0"), (0.1, "0.100"), (0.09996, "0.100"),
        (0.012345, "0.0123"), (0.001, "0.00100"), (12.34, "12.3"), (1503.25, "1503.2"), (None, "n/a"),
        (math.nan, "n/a"), (math.inf, "n/a"), (1e-12, "0.0"),
    ],
)  # fmt: skip
def test_volumes_have_one_decimal_or_three_figures(value: float | None, text: str) -> None:
    assert tables.millilitres(value) == text


def test_signs_are_shown_on_differences_only_and_never_on_zero() -> None:
    assert [tables.millilitres(v, signed=True) for v in (2.0, -2.0, 0.0, -0.5)] == [
        "+2.0",
        "−2.0",
        "0.0",
        "−0.500",
    ]
    assert tables.number(-0.0001, 3) == "0.000"


@pytest.mark.parametrize(("status", "text"), tables.WHY_NOT.items())
def test_a_missing_value_says_why(status: str, text: str) -> None:
    for value in (None, math.nan, math.inf):
        assert tables.measure(Value(value, "mm", status), 1) == text  # type: ignore[arg-type]


def test_points_line_up_in_a_column() -> None:
    column = tables.aligned(["12.3", "0.0123", "−1.50", "n/a", "7"])
    numbers = [c for c in column if c != "n/a"]
    after = [len(c) - min(c.find(p) for p in (".", tables.POINT_SPACE) if p in c) for c in numbers]
    assert len(set(after)) == 1


def test_volumes_come_from_the_voxels() -> None:
    rows = rows_from_labels(label_map(30, 7).array, GRID, PAIR)
    assert [(r.name, pytest.approx(r.volume_ml)) for r in rows] == [
        ("left kidney", 0.3),
        ("right kidney", 0.07),
    ]


def test_a_region_is_the_union_of_its_members() -> None:
    regions = StructureSet((Structure(9, "whole", members=(1, 2)), Structure(2, "core", members=(2,))))
    rows = rows_from_labels(label_map(30, 7).array, GRID, regions)
    assert [pytest.approx(r.volume_ml) for r in rows] == [0.37, 0.07]


def test_without_a_reference_there_are_volumes_alone() -> None:
    table = tables.case_table(ReportCase("a", rows_from_labels(label_map(30).array, GRID, PAIR)))
    assert table.head == ("Structure", "Volume ml")
    assert [row[1].strip(tables.FIGURE_SPACE) for row in table.rows] == ["0.300", "0.0"]


def test_a_case_is_written_as_it_was_measured() -> None:
    result = evaluate_case(label_map(30), label_map(20), PAIR, tolerance_mm=2.0, case_id="a")
    table = tables.case_table(case_from_result(result, PAIR))
    cells = dict(zip(table.head, (c.strip(tables.FIGURE_SPACE) for c in table.rows[0]), strict=True))
    assert cells["Dice"] == "0.800"  # 2 * 20 / (30 + 20)
    assert cells["Jaccard"] == "0.667"
    assert (cells["Volume ml"], cells["Reference ml"], cells["Difference ml"]) == ("0.300", "0.200", "+0.100")
    assert cells["%"] == "+50.0"
    assert "Surface Dice at 2 mm" in cells
    assert table.rows[1][5:] == ("n/a – absent in both",) * 4


def test_tolerances_that_differ_are_named_one_by_one() -> None:
    result = evaluate_case(
        label_map(30, 5), label_map(20, 5), PAIR, tolerance_mm={"left kidney": 1.0, "right kidney": 3.0}
    )
    table = tables.case_table(case_from_result(result, PAIR))
    assert table.head[-1] == "Surface Dice"
    assert [row[-1].rpartition(" (")[2] for row in table.rows] == ["1 mm)", "3 mm)"]


def test_missed_and_extra_structures_are_counted_with_their_dice_of_zero() -> None:
    results = [
        evaluate_case(label_map(20, 5), label_map(20, 5), PAIR, case_id="right"),
        evaluate_case(label_map(20, 0), label_map(20, 5), PAIR, case_id="missed"),
        evaluate_case(label_map(20, 5), label_map(20, 0), PAIR, case_id="extra"),
        evaluate_case(label_map(20, 0), label_map(20, 0), PAIR, case_id="absent"),
        missed_case(label_map(20, 5), PAIR, "there is no file", case_id="lost"),
    ]
    cohort = cohort_from_results("all", results, PAIR, failures=[Failure("broken", "unreadable")])
    table = tables.cohort_table(cohort)
    cells = dict(zip(table.head, table.rows[1], strict=True))
    assert [cells[k] for k in ("n", "Missed", "Extra", "Absent")] == ["4", "2", "1", "1"]
    assert cells["Mean Dice"] == "0.250"
    assert cells["95 % CI"] == "n/a"
    assert [case.case_id for case in cohort.missing] == ["lost"]


def test_cases_are_listed_worst_first() -> None:
    def case(name: str, dice: float | None) -> ReportCase:
        row = StructureRow("liver", "#ffffff", 1.0, 1.0, Value(dice, "1", "ok" if dice else "both_empty"))
        return ReportCase(name, (row,), has_reference=True)

    cohort = ReportCohort(
        "c", (case("good", 0.9), case("none", None), case("bad", 0.2), case("also bad", 0.2))
    )
    assert [row[0] for row in tables.cases_table(cohort).rows] == ["also bad", "bad", "good", "none"]


def test_a_cohort_without_references_has_no_accuracy() -> None:
    cases = tuple(
        ReportCase(str(n), rows_from_labels(label_map(n).array, GRID, PAIR)) for n in (0, 10, 30, 50)
    )
    table = tables.cohort_table(ReportCohort("c", cases))
    assert not any("Dice" in title for title in table.head)
    assert [c.strip(tables.FIGURE_SPACE) for c in table.rows[0]] == [
        "left kidney",
        "3",
        "1",
        "0.300",
        "0.100",
        "0.500",
    ]
    assert tables.cases_table(ReportCohort("c", cases)).head == ("Case", "Structures not labelled", "Flags")
