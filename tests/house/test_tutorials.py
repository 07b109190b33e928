"""The commands in the documentation: they exist, and those of the tutorials run."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from medseg.cli.main import application
from medseg.data.phantom import write_phantom_dataset

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    DOCS / "index.md",
    DOCS / "hospital.md",
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


def python(page: Path) -> list[str]:
    """The blocks of Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def steps(page: Path) -> list[str]:
    """The commands of the blocks marked `sh`, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_and_options_of_a_page_exist(page: Path) -> None:
    verbs: dict[str, Any] = get_command(application()).commands  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)], ids=lambda page: page.name)
def test_names_and_arguments_in_the_python_of_a_page_exist(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in python(page):
        tree = ast.parse(block, page.name)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), names)
        for node in ast.walk(tree):
            called = imported(node.func, names) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and called is not None:
                words = {word.arg: ... for word in node.keywords if word.arg}
                inspect.signature(called).bind(*node.args, **words)


def imported(node: ast.expr, names: dict[str, Any]) -> Any:
    """What `name.attribute` stands for, of an imported name that belongs to medseg; None of any other."""
    if isinstance(node, ast.Attribute):
        owner = imported(node.value, names)
        return None if owner is None else getattr(owner, node.attr)
    found = names.get(node.id) if isinstance(node, ast.Name) else None
    home = found.__name__ if inspect.ismodule(found) else getattr(found, "__module__", None)
    return found if str(home).split(".")[0] == "medseg" else None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from medseg.losses import DiseLoss", "cannot import name 'DiseLoss'"),
        ("import medseg\nmedseg.predit('scan.nii.gz')", "did you mean"),
        ("import medseg\nmedseg.predict('scan.nii.gz', raport=True)", "'raport'"),
        ("from medseg.losses import DiceLoss\nDiceLoss(1)", "too many positional"),
    ],
)
def test_what_does_not_exist_is_noticed(code: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```python\n{code}\n```\n")
    with pytest.raises((ImportError, AttributeError, TypeError), match=said):
        test_names_and_arguments_in_the_python_of_a_page_exist(page)


def test_links_between_pages_lead_somewhere() -> None:
    made = {"commands.md", "python.md", "recipes.md", "cards.md"}  # by docs/reference.py
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


@pytest.mark.slow
def test_the_python_of_its_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom_dataset(tmp_path / "data", cases=6)
    shutil.copy(tmp_path / "data" / "imagesTr" / "phantom_000.nii.gz", "scan.nii.gz")
    for name in ("prediction", "reference"):
        shutil.copy(tmp_path / "data" / "labelsTr" / "phantom_000.nii.gz", f"{name}.nii.gz")
    names: dict[str, Any] = {"a": np.ones((4, 4, 4), bool), "b": np.ones((4, 4, 4), bool)}
    for block in python(DOCS / "tutorials" / "python.md"):
        exec(block, names)
    assert Path("page.html").is_file()
    assert names["run"].model is not None
    assert names["scores"]["liver"].dice == 1.0
