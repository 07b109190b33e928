"""MONAI Label's folder: what somebody made of a scan is read, what nobody looked at is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import done, refused

from medseg.data.cards import load_card
from medseg.data.layouts import detect, read_layout
from medseg.data.layouts.monailabel import FINAL, ORIGINAL
from medseg.data.phantom import write_phantom_scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans, of which two were corrected and one only predicted."""
    for place in (FINAL, ORIGINAL):
        (tmp_path / place).mkdir(parents=True)
    for n, place in enumerate((FINAL, FINAL, ORIGINAL)):
        name = f"case-{n}.nii.gz"
        write_phantom_scan(tmp_path / name, seed=n, shape=(20, 24, 18), labels_path=tmp_path / place / name)
    (tmp_path / FINAL / "case-0.json").write_text("{}")
    return tmp_path


def test_scans_with_labels_that_somebody_made_are_cases(folder: Path) -> None:
    assert detect(folder) == "monailabel"
    found = read_layout(folder, "monailabel")
    assert [case.case_id for case in found.cases] == ["case-0", "case-1"]
    assert [case.label for case in found.cases] == [folder / FINAL / f"case-{n}.nii.gz" for n in (0, 1)]


def test_a_card_of_another_layout_reads_it_too(folder: Path) -> None:
    card = load_card("phantom")
    assert card.layout != "monailabel"
    assert len(card.read(folder).cases) == 2
    assert "2 cases" in done("check", folder, "--card", "phantom").err


def test_a_folder_without_corrections_is_refused(folder: Path) -> None:
    for path in (folder / FINAL).iterdir():
        path.unlink()
    line = refused(3, "check", folder, "--card", "phantom")
    assert "none of its 3 scans has labels in labels/final" in line
