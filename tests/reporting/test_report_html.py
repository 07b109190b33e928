"""A page runs nothing, asks for nothing, and shows text as text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from missed import missed_case

from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding
from medseg.metrics.case import evaluate_case
from medseg.metrics.scores import Scores
from medseg.reporting import html
from medseg.reporting.case.content import Picture, ReportCase, rows_from_labels
from medseg.reporting.cohort.content import Failure, ReportCohort, cohort_from_results
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.viewer.viewer import viewer

EVIL = "<script>alert(1)</script>"
ATTRIBUTE = "\"><img src=x onerror='alert(1)'>"
ACTIVE = {"script", "iframe", "object", "embed", "link", "base", "form"}
VOID = {"meta", "img", "br", "hr", "link", "input"}
GRID = Grid((8, 8, 8), np.eye(4))
STRUCTURES = StructureSet(
    (Structure(1, EVIL, colour="#ff0000;}</style>" + EVIL), Structure(2, ATTRIBUTE, colour="#00ff00"))
)


class Checker(HTMLParser):
    """Collects elements, attributes and text; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def labels(ones: int, twos: int) -> LabelMap:
    flat = np.zeros(512, np.uint8)
    flat[:ones], flat[256 : 256 + twos] = 1, 2
    return LabelMap(flat.reshape(8, 8, 8), GRID)


def case(*, has_reference: bool = False) -> ReportCase:
    rows = rows_from_labels(labels(40, 0).array, GRID, STRUCTURES)
    return ReportCase(
        EVIL,
        rows,
        flags=(Finding("file", "warning", ATTRIBUTE), Finding("file", "warning", EVIL)),
        pictures=(Picture(EVIL, b"\x89PNG not really", ATTRIBUTE, EVIL),),
        facts=((EVIL, ATTRIBUTE), ("Model", EVIL)),
        has_reference=has_reference,
        window=(0.0, 100.0),
    )


def cohort() -> ReportCohort:
    results = [evaluate_case(labels(40, 5), labels(30, 5), STRUCTURES, case_id=EVIL)]
    results.append(missed_case(labels(30, 5), STRUCTURES, ATTRIBUTE, case_id=ATTRIBUTE))
    return cohort_from_results(EVIL, Scores(results), STRUCTURES, failures=[Failure(EVIL, ATTRIBUTE)])


PAGES = {
    "case": html.case_page(case()),
    "case with reference": html.case_page(case(has_reference=True)),
    "cohort": html.cohort_page(cohort()),
    "cohort without references": html.cohort_page(ReportCohort(EVIL, (case(),))),
    "empty cohort": html.cohort_page(ReportCohort(EVIL, ())),
}


@pytest.fixture(params=PAGES, ids=str)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]


def test_the_page_is_well_formed(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    tags = [tag for tag, _ in parsed(page).elements]
    assert [tags.count(t) for t in ("html", "head", "title", "body", "h1", "style")] == [1] * 6


def test_names_are_text_and_never_markup(page: str) -> None:
    found = parsed(page)
    assert EVIL in found.text
    assert "<script" not in page
    assert not {tag for tag, _ in found.elements} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
    }
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_the_page_asks_for_nothing(page: str) -> None:
    assert not re.search(r"https?:|//\w|@import|url\(|javascript:", page, re.IGNORECASE)
    for tag, attributes in parsed(page).elements:
        assert not attributes.keys() & {"href", "srcset", "action", "data", "poster"}
        if "src" in attributes:
            assert tag == "img"
            assert (attributes["src"] or "").startswith("data:image/png;base64,")


def policy_of(page: str) -> str:
    rules = [a for _, a in parsed(page).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(rules) == 1
    return rules[0]["content"] or ""


def test_the_policy_allows_this_style_and_nothing_else(page: str) -> None:
    policy = policy_of(page)
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "script-src 'none'" in policy
    assert "connect-src 'none'" in policy
    first_style = page.index("<style>")
    assert page.index("Content-Security-Policy") < first_style


def test_the_viewers_script_is_the_only_one_and_known_by_its_hash() -> None:
    image = np.random.default_rng(0).random(GRID.shape)
    scroll = viewer(image, labels(40, 5).array, GRID, STRUCTURES, places=[(EVIL, (1, 1, 1))])
    page = html.case_page(dataclasses.replace(case(), viewer=scroll))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy_of(page)
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert scroll.style.strip() in style
    text = parsed(page).text
    assert text.index("Automatic checks") < text.index("All slices") < text.index("Volume ml")
    assert "<noscript>" in page


def test_characters_that_hide_or_turn_text_are_spelt_out() -> None:
    page = html.case_page(dataclasses.replace(case(), case_id="a\x1b[31m\u202eb\u200bc"))
    assert "Case a\\x1b[31m\\u202eb\\u200bc" in page


def test_the_banner_is_on_the_page_and_on_every_printed_sheet(page: str) -> None:
    found = parsed(page)
    assert BANNER in found.text
    assert f'content: "{BANNER}"' in page
    assert found.text.index(BANNER) < found.text.index("report\n")


def test_the_colour_of_a_structure_cannot_leave_the_style_sheet() -> None:
    style = PAGES["case"].partition("<style>")[2].partition("</style>")[0]
    assert ".kb0b0b0{background:#b0b0b0}" in style
    assert ".k00ff00{background:#00ff00}" in style
    assert "alert" not in style


def test_warnings_come_before_numbers() -> None:
    text = parsed(PAGES["case"]).text
    assert text.index("Automatic checks") < text.index(ATTRIBUTE) < text.index("Volume ml")


def test_without_a_reference_no_accuracy_is_stated() -> None:
    text = parsed(PAGES["case"]).text
    assert "accuracy not assessed" in text
    assert not re.search(r"Dice|Jaccard|HD95", text)
    assert "accuracy not assessed" not in parsed(PAGES["case with reference"]).text


def test_words_that_promise_too_much_are_absent(page: str) -> None:
    text = parsed(page).text.lower()
    for words in ("ground truth", "accurate", "clinically acceptable", "no tumour", "mm³", " nan", "none\n"):
        assert words not in text


def test_all_cases_are_accounted_for() -> None:
    text = " ".join(parsed(PAGES["cohort"]).text.split())
    assert "3 cases are in this report: 1 with a segmentation, 2 without." in text
    assert "1 without a segmentation counts as missed" in text
    assert "1 could not be measured and is in no number below" in text
    assert "0 cases are in this report: 0 with a segmentation" in " ".join(
        parsed(PAGES["empty cohort"]).text.split()
    )


def test_the_same_case_gives_the_same_page_and_a_date_only_when_given() -> None:
    assert html.case_page(case()) == PAGES["case"]
    assert html.cohort_page(cohort()) == PAGES["cohort"]
    assert "2031-05-06" in html.case_page(case(), created="2031-05-06")
    assert not re.search(r"\b20[23]\d-\d\d", PAGES["case"])
