"""A cohort's tables count every case, its page names every case, and its links stay beside it."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from cohorts import cohort, many, results
from missed import missed_case

from medseg.core.errors import UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.agreement import agreement
from medseg.metrics.case import evaluate_case
from medseg.metrics.cohort import CohortRow
from medseg.metrics.scores import Scores
from medseg.metrics.value import Value
from medseg.reporting import html
from medseg.reporting.case.content import ReportCase, StructureRow, rows_from_labels
from medseg.reporting.cohort import tables
from medseg.reporting.cohort.content import Detection, Failure, ReportCohort, Stated, cohort_from_results
from medseg.reporting.cohort.plots.froc import froc_curves
from medseg.reporting.cohort.sections import Gallery, cohort_sections, relative_address
from medseg.reporting.tables import FIGURE_SPACE, POINT_SPACE, Table

EVIL, FORMULA = "<script>alert(1)</script>", "=cmd|' /C calc'!A0"
BOXES = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.5, 1.0]))  # 0.01 ml a voxel
PAIR = from_labels({1: "left kidney", 2: "right kidney"})
MISSED, EXTRA, ABSENT = (0.0, 8.0, 0.0, math.inf), (8.0, 0.0, 0.0, math.inf), (0.0, 0.0, None, None)


def label_map(ones: int, twos: int = 0) -> LabelMap:
    flat = np.zeros(1000, np.uint8)
    flat[:ones], flat[500 : 500 + twos] = 1, 2
    return LabelMap(flat.reshape(BOXES.shape), BOXES)


def cells(table: Table, row: int = 0) -> dict[str, str]:
    texts = (text.strip(FIGURE_SPACE + POINT_SPACE) for text in table.rows[row])
    return dict(zip(table.head, texts, strict=True))


def words(page: str) -> str:
    body = page.partition("</style>")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_missed_and_extra_structures_are_counted_with_their_dice_of_zero() -> None:
    measured = [
        evaluate_case(label_map(20, 5), label_map(20, 5), PAIR, case_id="right"),
        evaluate_case(label_map(20, 0), label_map(20, 5), PAIR, case_id="missed"),
        evaluate_case(label_map(20, 5), label_map(20, 0), PAIR, case_id="extra"),
        evaluate_case(label_map(20, 0), label_map(20, 0), PAIR, case_id="absent"),
        missed_case(label_map(20, 5), PAIR, "there is no file", case_id="lost"),
    ]
    found = cohort_from_results("all", Scores(measured), PAIR, failures=[Failure("broken", "unreadable")])
    right = cells(tables.overlap_table(found), 1)
    assert [right[k] for k in ("n", "Present", "Missed", "Extra", "Absent")] == ["4", "3", "2", "1", "1"]
    assert (right["Mean Dice"], right["Minimum"]) == ("0.250", "0.000")
    assert not {"95 % CI", "IQR"} & right.keys()
    assert [case.case_id for case in found.missing] == ["lost"]
    surface = tables.surface_table(found)
    assert surface is not None
    assert (cells(surface, 1)["n"], cells(surface, 1)["Infinite"]) == ("1", "3")
    flow = tables.flow_table(found)
    assert flow is not None
    assert [row[:2] for row in flow.rows] == [("lost", "counted as missed"), ("broken", "failed, left out")]


def test_from_ten_cases_on_there_are_intervals() -> None:
    nine, ten = tables.overlap_table(many(9)), tables.overlap_table(many(10))
    assert not {"95 % CI", "IQR"} & set(nine.head)
    assert {"95 % CI", "IQR"} < set(ten.head)
    assert tables.limits_table(many(9)) is None
    assert tables.limits_table(many(10)) is not None
    assert "SD ml" not in tables.volume_table(many(9)).head
    assert "Bias ml" in tables.volume_table(many(9)).head


def test_a_structure_in_few_of_many_cases_says_why_it_has_no_interval() -> None:
    there = (9.0, 8.0, 0.9, 1.0)
    found = cohort([{"liver": there, "cyst": there if n < 3 else ABSENT} for n in range(12)])
    assert cells(tables.overlap_table(found), 1)["95 % CI"] == "n/a – below 10 cases"
    limits = tables.limits_table(found)
    assert limits is not None
    assert limits.rows[1][1:] == ("n/a – below 10 cases",) * 4


def test_the_table_of_volumes_states_bias_and_limits_of_all_cases_with_the_structure() -> None:
    pairs = [(12.0 + n % 3, 11.0 + n) for n in range(11)]
    measured = [{"liver": (p, r, 0.9, 1.0)} for p, r in pairs]
    found = cohort([*measured, {"liver": MISSED}, {"liver": ABSENT}])
    differences = np.array([p - r for p, r in [*pairs, (0.0, 8.0)]])
    expected = agreement(differences)
    assert expected is not None
    assert expected.limits is not None
    row, limits = cells(tables.volume_table(found)), tables.limits_table(found)
    assert limits is not None
    assert row["n"] == "12"
    assert row["Bias ml"] == f"{expected.bias:+.2f}".replace("-", "−")
    assert cells(limits)["Lower limit ml"] == f"{expected.limits[0]:+.1f}".replace("-", "−")
    assert cells(limits)["Upper limit ml"] == f"{expected.limits[1]:+.2f}".replace("-", "−")


def test_per_cent_are_of_the_mean_of_both_volumes() -> None:
    found = cohort([{"liver": (12.0, 8.0, 0.9, 1.0)}])
    assert cells(tables.volume_table(found))["Bias %"] == "+40.0"  # 4 of 10


def test_objects_found_one_by_one_have_a_table_and_a_plot() -> None:
    rates = {0.125: Stated(0.25, 0.1, 0.4), 1.0: Stated(0.5, 0.3, 0.7), 8.0: Stated(0.75, 0.6, 0.9)}
    tumour = many(3).summary[0].structure
    found = Detection(tumour, 12, {"AP at IoU 0.5": Stated(0.625, 0.5, 0.75), "CPM": Stated(0.5)}, rates)
    assert tables.detection_table(many(3)) is None
    table = tables.detection_table(replace(many(3), detections=(found,)))
    assert table is not None
    assert cells(table) == {
        "Structure": tumour,
        "Objects": "12",
        "AP at IoU 0.5": "0.625",
        "95 % CI of AP at IoU 0.5": "0.500–0.750",
        "CPM": "0.500",
    }
    picture = froc_curves(replace(many(3), detections=(found,)))
    assert picture is not None
    assert picture.png[:4] == b"\x89PNG"
    assert froc_curves(many(3)) is None
    titles = [s.title for s in cohort_sections(replace(many(3), detections=(found,)))]
    assert "Objects found one by one" in titles


def test_lesions_are_summed_over_the_cases_that_a_protocol_measured() -> None:
    names = {"lesions_found": 1.5, "lesions_missed": 0.5, "lesions_extra": 0.25, "lesion_recall": 0.75,
             "lesion_f1": 0.7, "lesion_dice": 0.6, "lesion_hd95_mm": 30.0}  # fmt: skip
    rows = tuple(CohortRow("liver", name, "1", 4, 0, 0, 0, 0, mean=mean) for name, mean in names.items())
    assert tables.lesion_table(many(3)) is None
    table = tables.lesion_table(replace(many(3), summary=(*many(3).summary, *rows)))
    assert table is not None
    found = cells(table)
    assert [found[k] for k in ("Found", "Missed", "Extra", "Extra per case")] == ["6", "2", "1", "0.25"]


def test_cases_are_listed_worst_first() -> None:
    def case(name: str, dice: float | None, failure: str | None = None) -> ReportCase:
        row = StructureRow("liver", "#ffffff", 1.0, 1.0, Value(dice, "1", "ok" if dice else "both_empty"))
        return ReportCase(name, (row,), has_reference=True, failure=failure)

    listed = ReportCohort(
        "c", (case("good", 0.9), case("none", None), case("bad", 0.2), case("also bad", 0.2))
    )
    assert [row[0] for row in tables.cases_table(listed).rows] == ["also bad", "bad", "good", "none"]
    with_lost = replace(listed, cases=(*listed.cases, case("lost", None, "no file")))
    assert tables.cases_table(with_lost).rows[0][0] == "lost"


def test_a_cohort_without_references_has_no_accuracy() -> None:
    cases = tuple(
        ReportCase(str(n), rows_from_labels(label_map(n).array, BOXES, PAIR)) for n in (0, 10, 30, 50)
    )
    plain = ReportCohort("c", cases)
    table = tables.plain_volume_table(plain)
    assert not any("Dice" in title for title in table.head)
    assert list(cells(table).values()) == ["left kidney", "3", "1", "0.300", "0.100", "0.500"]
    assert tables.cases_table(plain).head == ("Case", "Structures not labelled", "Flags")
    page = words(html.cohort_page(plain))
    assert "accuracy not assessed" in page
    assert not re.search(r"Dice|HD95|Bias", page)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../secret.html",
        "a/../b.html",
        "a//b.html",
        "./a.html",
        "C:\\a.html",
        "a/",
        "//host/a",
    ],
)
def test_a_link_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        relative_address(name)
    with pytest.raises(UsageError):
        html.cohort_page(many(1), {"case 0": name})


def test_every_case_with_a_page_is_linked_and_its_name_is_quoted() -> None:
    measured, structures = results([{"liver": (9.0, 8.0, 0.9, 1.0)}] * 4)
    named = [
        replace(case, case_id=name)
        for case, name in zip(measured, (EVIL, FORMULA, "javascript:alert(1)", "plain"), strict=True)
    ]
    page = html.cohort_page(
        cohort_from_results(EVIL, Scores(named), structures),
        {
            EVIL: "cases/<script>.html",
            FORMULA: "=cmd|' \".html",
            "javascript:alert(1)": "javascript:alert(1)",
        },
    )
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', page)
    assert sorted(address for address, _ in links) == [
        "%3Dcmd%7C%27%20%22.html",
        "cases/%3Cscript%3E.html",
        "javascript%3Aalert%281%29",
    ]
    assert "<script" not in page
    assert EVIL not in page
    assert ">plain</td>" in page


def test_without_links_the_page_has_none() -> None:
    assert "<a " not in html.cohort_page(many(12))


def test_every_case_is_accounted_for() -> None:
    found = many(3)
    lost = replace(found.cases[0], case_id="lost", failure="there is no file")
    found = replace(
        found,
        cases=(*found.cases, lost),
        failures=(Failure("broken", "cut off"),),
    )
    text = words(html.cohort_page(found))
    assert "5 cases are in this report: 3 with a segmentation, 2 without." in text
    assert "1 without a segmentation counts as missed in every number below." in text
    assert "1 could not be measured and is in no number below." in text
    for name in ("lost", "broken"):
        assert name in text


def test_the_worst_the_middle_and_the_best_are_shown_small() -> None:
    found = cohort([{"liver": (9.0, 8.0, 0.5 + n / 100, 1.0)} for n in range(21)])
    found = replace(found, thumbnails={case.case_id: b"\x89PNG" for case in found.cases})
    blocks = [block for section in cohort_sections(found) for block in section.blocks]
    shown = [[item.case_id for item in block.items] for block in blocks if isinstance(block, Gallery)]
    assert shown == [[f"case {n}" for n in range(start, start + 5)] for start in (0, 8, 16)]
    few = replace(found, cases=found.cases[:4])
    blocks = [block for section in cohort_sections(few) for block in section.blocks]
    assert [len(block.items) for block in blocks if isinstance(block, Gallery)] == [4]


def test_the_page_says_what_its_words_mean_and_promises_nothing() -> None:
    text = words(html.cohort_page(many(12))).lower()
    for needed in ("with the reference", "carkeet 2015", "research use only"):
        assert needed in text
    for said_too_much in ("ground truth", "accurate", "clinically acceptable", " nan "):
        assert said_too_much not in text
    assert "carkeet" not in words(html.cohort_page(many(4))).lower()
