"""The commands in the documentation: they exist, and those of the tutorials run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from medseg.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    DOCS / "index.md",
    *TUTORIALS,
    *(DOCS / "how-to").glob("*.md"),
]
RUN = "import sys; from medseg.cli.main import main; main(sys.argv[1:])"
pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").exists(), reason="the pages are not installed")


def commands(page: Path) -> list[str]:
    """Every `medseg VERB ...` of a page, in blocks and in the text."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("medseg ")]
    return lines + re.findall(r"(?<=`)medseg [a-z][^`\n]*(?=`)", text)


def steps(page: Path) -> list[str]:
    """The commands of the blocks marked `sh`, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_and_options_of_a_page_exist(page: Path) -> None:
    verbs: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for command in commands(page):
        verb, *words = command.split()[1:]
        assert verb in verbs, command
        known = {word for p in verbs[verb].params for word in (*p.opts, *p.secondary_opts)} | {
            "--help",
            "--debug",
        }
        for word in words:
            if re.fullmatch(r"-[a-z]|--[a-z-]+", word):
                assert word in known, command


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_python_of_a_tutorial_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        compile(block, page.name, "exec")


def test_links_between_pages_lead_somewhere() -> None:
    made = {"commands.md", "python.md"}  # by docs/reference.py
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert target.split("/")[-1] in made or (page.parent / target).exists(), (
                page.name,
                target,
            )


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in TUTORIALS if steps(page)], ids=lambda page: page.name)
def test_the_commands_of_a_tutorial_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page.name == "hospital.md":
        data: Path = request.getfixturevalue("data_root")
        shutil.copytree(data / "dicom" / "hippocampus_crop", tmp_path / "series")
    for step in steps(page):
        program, *words = shlex.split(step)
        assert program == "medseg"
        found = subprocess.run(
            [sys.executable, "-c", RUN, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, f"{step}\n{found.stderr}"
