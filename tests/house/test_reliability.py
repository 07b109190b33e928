"""docs/reliability.md says what the marks of the tests say, and every row has a test or is stated as open."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "reliability.py"
if not SCRIPT.exists():
    pytest.skip("the pages are not installed", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("reliability", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
reliability = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reliability)


def test_the_tables_have_their_rows_once() -> None:
    expected = [f"reliability {n}" for n in range(1, 93)] + [f"reports {n}" for n in range(1, 42)]
    assert [row["row"] for row in reliability.rows()] == expected
    assert {row["severity"] for row in reliability.rows()} == set(reliability.SEVERITIES)


def test_a_mark_names_a_row() -> None:
    assert set(reliability.marked()) <= {row["row"] for row in reliability.rows()}


def test_every_row_has_a_test_or_is_stated_as_open() -> None:
    without = [row["row"] for row in reliability.rows() if row["row"] not in reliability.marked()]
    assert without == reliability.still_open(), "run python docs/reliability.py; it adds no open row"


def test_the_page_is_as_new_as_the_marks() -> None:
    assert reliability.PAGE.read_text("utf-8") == reliability.page(), "run python docs/reliability.py"
