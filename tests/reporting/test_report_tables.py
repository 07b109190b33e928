"""How a value is written decides how it is read."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import evaluate_case
from medseg.metrics.lesions import LesionRow
from medseg.metrics.volumes import Asymmetry
from medseg.reporting import tables
from medseg.reporting.case.content import (
    ReportCase,
    StructureRow,
    case_from_result,
    rows_from_labels,
)
from medseg.reporting.words import case_definitions

GRID = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.5, 1.0]))  # 0.01 ml a voxel
PAIR = from_labels({1: "left kidney", 2: "right kidney"})


def label_map(ones: int, twos: int = 0) -> LabelMap:
    flat = np.zeros(1000, np.uint8)
    flat[:ones], flat[500 : 500 + twos] = 1, 2
    return LabelMap(flat.reshape(GRID.shape), GRID)


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
    assert [row[1].strip(tables.FIGURE_SPACE + tables.POINT_SPACE) for row in table.rows] == ["0.300", "0"]


def test_without_a_tolerance_neither_table_nor_definitions_have_a_surface_dice() -> None:
    result = evaluate_case(label_map(30), label_map(20), PAIR, case_id="a")
    case = case_from_result(result, PAIR)
    assert not [title for title in tables.case_table(case).head if title.startswith("Surface Dice")]
    assert "Surface Dice" not in dict(case_definitions(case))


def test_a_case_is_written_as_it_was_measured() -> None:
    result = evaluate_case(label_map(30), label_map(20), PAIR, tolerance_mm=2.0, case_id="a")
    table = tables.case_table(case_from_result(result, PAIR))
    cells = dict(zip(table.head, (c.strip(tables.FIGURE_SPACE) for c in table.rows[0]), strict=True))
    assert cells["Dice"] == "0.800"  # 2 * 20 / (30 + 20)
    assert (cells["Recall"], cells["Precision"]) == ("1.000", "0.667")  # 20 of 20, 20 of 30
    assert (cells["Volume ml"], cells["Reference ml"], cells["Difference ml"]) == ("0.300", "0.200", "+0.100")
    assert cells["Difference %"] == "+50.0"
    assert "Surface Dice at 2 mm" in cells
    absent = table.rows[1][5:]
    assert absent == ("n/a – absent in both",) * 5
    assert tables.Table.merged(table.rows[1])[-1] == ("n/a – absent in both", 5, 5)


def test_tolerances_that_differ_are_named_one_by_one() -> None:
    result = evaluate_case(
        label_map(30, 5), label_map(20, 5), PAIR, tolerance_mm={"left kidney": 1.0, "right kidney": 3.0}
    )
    table = tables.case_table(case_from_result(result, PAIR))
    at = table.head.index("Surface Dice")
    assert [row[at].rpartition(" (")[2] for row in table.rows] == ["1 mm)", "3 mm)"]


def test_columns_appear_when_a_row_has_something_to_say_in_them() -> None:
    rows = (
        StructureRow("a", "#ffffff", 2.0, interval_ml=(1.5, 2.5), icv_percent=0.0512),
        StructureRow("b", "#ffffff", 20.0, expected_dice=0.876, icv_percent=12.34),
    )
    table = tables.case_table(ReportCase("c", rows, coverage=0.95))
    assert table.head == ("Structure", "Volume ml", "95 % interval ml", "% of ICV", "Expected Dice")
    cells = [[c.strip(tables.FIGURE_SPACE) for c in row] for row in table.rows]
    assert cells == [["a", "2.00", "1.50–2.50", "0.0512", "n/a"], ["b", "20.0", "n/a", "12.3", "0.88"]]
    assert tables.case_table(ReportCase("c", (StructureRow("a", "#ffffff", 2.0),))).head[2:] == ()


def test_asymmetry_is_relative_to_the_mean_of_both_sides() -> None:
    """100 (3 - 1) / 2 = 100; a side without voxels has no percentage."""
    rows = (Asymmetry("left kidney", 3.0, 1.0), Asymmetry("left ureter", 0.0, 1.0))
    assert [row.percent for row in rows] == [pytest.approx(100.0), None]
    table = tables.asymmetry_table(ReportCase("c", (), asymmetry=rows))
    assert [row[3] for row in table.rows] == ["+100.0", "n/a – one side not labelled"]


def test_many_lesions_are_counted_and_the_largest_are_listed() -> None:
    lesions = tuple(LesionRow("tumour", "extra", None, 0.1 * n) for n in range(1, 21))
    case = ReportCase("c", (StructureRow("tumour", "#ff0000", 1.0),), has_reference=True, lesions=lesions)
    table = tables.lesion_table(case)
    assert len(table.rows) == tables.MOST_LESIONS + 1
    assert table.rows[0][3].strip(tables.FIGURE_SPACE) == "2.00"
    assert table.rows[-1][1] == "and 8 smaller"
    assert table.colours == ("#ff0000",) * len(table.rows)
