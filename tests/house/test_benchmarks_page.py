"""docs/benchmarks.md and the figures of the README say what benchmarks/results says."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "benchmarks.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the pages are not installed")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> list[dict[str, str]]:
    sections = tomllib.loads((ROOT / "docs" / "benchmarks.toml").read_text("utf-8"))["section"]
    return [row for section in sections for row in section["row"]]


def test_the_page_and_the_readme_are_up_to_date(script: ModuleType) -> None:
    stale = "run: python docs/benchmarks.py"
    assert script.PAGE.read_text("utf-8") == script.page(), stale
    assert script.README.read_text("utf-8") == script.readme(), stale


def test_each_row_names_a_command_of_the_repository() -> None:
    for row in rows():
        program = row["command"].split("`")[0].split()
        if program[0] == "python":
            assert (ROOT / program[1]).is_file(), row["command"]
        else:
            assert row["command"] == "the same" or program[0] == "medseg"


def test_figures_are_filled_in_and_not_written_by_hand() -> None:
    for row in rows():
        assert "{" in row["figure"], row["what"]


@pytest.mark.parametrize("passed", [True, False])
def test_a_row_that_contradicts_its_result_is_refused(script: ModuleType, passed: bool) -> None:
    found: dict[str, Any] = {"r": {"pass": passed, "dice": 0.5}}
    target = "0.6" if not passed else "0.4: **not reached**"
    row = {"what": "w", "figure": "{r[dice]}", "target": target, "command": "the same", "result": "r"}
    with pytest.raises(script.RowError, match="reached"):
        script._line(row, found)


def test_the_readme_has_eight_headline_figures(script: ModuleType) -> None:
    block = script.HEADLINES.search(script.README.read_text("utf-8"))
    assert block is not None
    assert len(block[0].splitlines()) == sum("headline" in row for row in rows()) == 8
