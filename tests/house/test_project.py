"""The files around the package agree with it and with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import medseg

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="the checkout is not at hand")


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 120


def test_the_version_is_the_same_everywhere() -> None:
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == medseg.__version__
    assert f"\n## [{medseg.__version__}]" in text("CHANGELOG.md")
    assert yaml.safe_load(text("CITATION.cff"))["version"] == medseg.__version__


def test_python_versions_of_workflow_and_classifiers_agree() -> None:
    classifiers = tomllib.loads(text("pyproject.toml"))["project"]["classifiers"]
    stated = {c.rsplit(" ", 1)[1] for c in classifiers if re.search(r":: 3\.\d+$", c)}
    job = yaml.safe_load(text(".github/workflows/test.yml"))["jobs"]["test"]
    assert set(job["strategy"]["matrix"]["python"]) == stated
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])


def test_each_hook_runs_a_tool_of_make_lint() -> None:
    recipe = text("Makefile").split("\nlint:")[1].split("\n\n")[0]
    (repo,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    for hook in repo["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/").split()[0] in recipe


def test_every_page_of_the_site_exists() -> None:
    for page in re.findall(r": ([\w/-]+\.md)$", text("mkdocs.yml"), re.MULTILINE):
        made = page.startswith("reference/")  # by docs/reference.py
        assert made or (ROOT / "docs" / page).is_file(), page


def test_modules_that_a_guide_names_exist() -> None:
    added = {"medseg/cli/hello.py"}  # by the example of docs/extending.md
    for page in (*ROOT.glob("*.md"), *ROOT.glob("[dpb]*/README.md"), *(ROOT / "docs").rglob("*.md")):
        for module in set(re.findall(r"`(medseg/[\w/]+\.py)`", page.read_text("utf-8"))) - added:
            assert (ROOT / module).is_file(), (page.name, module)


def test_extras_of_developers_are_pinned() -> None:
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    pinned = {re.split("==", line)[0].lower() for line in text("constraints.txt").splitlines()}
    for extra in ("train", "test", "demo", "onnx", "dask", "dicom", "release", "docs", "coverage"):
        for requirement in extras[extra]:
            name = re.split(r"[<>=\[ ]", requirement)[0].lower()
            assert name in pinned | {"medseg"}, requirement
