"""The PDF says what the HTML says, in its order, and nothing about itself but its title."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medseg.core.structures import from_labels
from medseg.core.volume import Grid
from medseg.findings.finding import NO_DOUBT, Finding
from medseg.metrics.lesions import LesionRow
from medseg.metrics.value import Value
from medseg.metrics.volumes import Asymmetry
from medseg.reporting import html
from medseg.reporting.case.content import ReportCase, StructureRow
from medseg.reporting.case.pictures import with_pictures
from medseg.reporting.case.sections import case_sections
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.pdf import case_pdf

EVIL = "<script>alert(1)</script>"
FORMULA = "=cmd|' /C calc'!A0"


def case(count: int = 3) -> ReportCase:
    good, none = Value(0.9, "1", "ok"), Value(None, "mm", "pred_empty")
    rows = [
        StructureRow(f"{EVIL} {n}", "#f5f5f5", 1.5, 1.2, good, good, Value(1.2, "mm", "ok"), good, 1.0)
        for n in range(count)
    ]
    rows.append(StructureRow("missed & lost", "#ff0000", 0.0, 1.0, Value(0.0, "1", "ok"), hd95_mm=none))
    return ReportCase(
        f"{EVIL}\x1b[31m\u202e肝",
        tuple(rows),
        flags=(Finding("file", "warning", FORMULA),),
        facts=(("Model <b>", "a & b"),),
        has_reference=True,
        lesions=(LesionRow("missed & lost", "missed", 1.0, 0.0),),
        asymmetry=(Asymmetry("left ear", 1.0, 2.0),),
        totals=(("intracranial volume", 1500.0),),
    )


def text_of(pdf: bytes, folder: Path) -> str:
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("pdftotext is not at hand")
    (folder / "x.pdf").write_bytes(pdf)
    done = subprocess.run([tool, "-layout", folder / "x.pdf", "-"], capture_output=True, check=True)
    return done.stdout.decode()


def test_the_same_case_gives_the_same_bytes_and_a_date_only_when_given(tmp_path: Path) -> None:
    first = case_pdf(case())
    assert first == case_pdf(case())
    assert first.startswith(b"%PDF-")
    assert not re.search(rb"/(CreationDate|ModDate|Author|Producer|Creator|Subject|Keywords)\b", first)
    assert "2031-05-06" in text_of(case_pdf(case(), "2031-05-06"), tmp_path)


def test_a_page_says_first_whether_the_result_is_doubtful(tmp_path: Path) -> None:
    doubt = Finding("unsure", "doubt", "The model is unsure.")
    warned, note = Finding("file", "warning", "A byte is odd."), Finding("absent", "note", "No ear.")
    doubted = dataclasses.replace(case(), flags=(note, doubt, warned))
    for said in (html.case_page(doubted), text_of(case_pdf(doubted), tmp_path)):
        words = (
            "Doubtful",
            "Doubt:",
            "The model is unsure.",
            "Warning:",
            "A byte is odd.",
            "Note:",
            "No ear.",
        )
        places = [said.index(word) for word in words]
        assert places == sorted(places)
        assert NO_DOUBT not in said
    assert '<li class="doubt">' in html.case_page(doubted)
    for flags in ((), (note,)):
        fine = dataclasses.replace(case(), flags=flags)
        for said in (html.case_page(fine), " ".join(text_of(case_pdf(fine), tmp_path).split())):
            assert NO_DOUBT in said
            assert "doubtful" not in said.lower()
    warnings = dataclasses.replace(case(), flags=(warned,))
    assert NO_DOUBT not in html.case_page(warnings)


def test_all_fonts_are_embedded() -> None:
    pdf = case_pdf(case())
    fonts = re.findall(rb"/BaseFont /([\w+-]+)", pdf)
    assert {name.partition(b"+")[2] for name in fonts} == {b"DejaVuSans", b"DejaVuSans-Bold"}
    assert pdf.count(b"/FontFile2") == 2


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    text = text_of(case_pdf(case()), tmp_path)
    assert f"Case {EVIL}\\x1b[31m\\u202e\\u809d" in text
    assert FORMULA in text
    assert "missed & lost" in text
    assert "Model <b>" in text


def test_the_sections_stand_in_the_order_of_the_html(tmp_path: Path) -> None:
    titles = [section.title for section in case_sections(case())]
    text, page = text_of(case_pdf(case()), tmp_path), html.case_page(case())
    for said in (text, page):
        places = [said.index(title) for title in titles]
        assert places == sorted(places)
    assert titles.index("Automatic checks") == 0


def test_every_page_has_the_banner_a_number_and_the_head_of_the_table(tmp_path: Path) -> None:
    pages = text_of(case_pdf(case(120)), tmp_path).rstrip("\f").split("\f")
    assert len(pages) > 2
    for number, page in enumerate(pages, 1):
        assert BANNER in page
        assert f"{number}/{len(pages)}" in page.replace(" ", "")
    assert "Precision" in pages[0]
    assert "Precision" in pages[1]


def test_pictures_fit_the_page() -> None:
    grid = Grid((20, 20, 60), np.diag([1.0, 1.0, 4.0, 1.0]))
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:10, 5:10, 20:30] = 1
    tall = with_pictures(
        dataclasses.replace(case(), has_reference=False),
        labels.astype(np.float32),
        labels,
        grid,
        from_labels({1: "liver"}),
        reference=None,
        scroll=False,
    )
    pdf = case_pdf(tall)
    assert pdf.count(b"/Subtype /Image") == 1
    assert b"/SMask" not in pdf
