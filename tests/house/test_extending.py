"""What docs/extending.md shows, done from outside the package."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from commands import medseg, refused

from medseg.core.errors import UsageError
from medseg.data.layouts import LAYOUTS
from medseg.data.phantom import write_phantoms
from medseg.losses.registry import build as build_loss
from medseg.losses.spec import LOSSES
from medseg.model.spec import NetworkSpec
from medseg.networks.registry import NETWORKS, build
from medseg.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?P<place>[^\n]*`(?P<file>[\w/]+\.\w+)`:)\n\n```\w+\n(?P<text>.*?)^```", re.M | re.S)


class Block(NamedTuple):
    """What goes where."""

    place: str
    file: str
    text: str


BLOCKS = [
    Block(found["place"], found["file"], found["text"])
    for found in BLOCK.finditer((ROOT / "docs" / "extending.md").read_text("utf-8"))
]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the document, as if it were installed; cards and recipes lie beside it."""
    site = tmp_path / "site"
    for block in BLOCKS:
        if not block.file.startswith("medseg/"):
            (site / block.file).parent.mkdir(parents=True, exist_ok=True)
            (site / block.file).write_text(block.text)
    declared(site, tomllib.loads((site / "pyproject.toml").read_text())["project"])
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [name for name in sys.modules if name.startswith("medseg_toy")]:
        del sys.modules[name]


def declared(site: Path, project: dict[str, object]) -> None:
    """What an installer writes of a package's entry points."""
    info = site / f"{str(project['name']).replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()


def test_every_block_of_the_document_is_used() -> None:
    assert [block.file for block in BLOCKS] == [
        "pyproject.toml",
        "medseg_toy/network.py",
        "medseg_toy/loss.py",
        "toy.toml",
        "medseg_toy/layout.py",
        "two.toml",
        "medseg/metrics/overlap.py",
        "medseg/metrics/table.py",
        "medseg/cli/hello.py",
        "medseg/cli/main.py",
    ]


def test_a_network_of_another_package_is_built_by_its_name(toy: Path) -> None:
    network = build(NetworkSpec("toy", 1, 3, widths=(4,), options={"bias": False}))
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    assert (network.stride, network.receptive_radius) == ((1, 1, 1), (1, 1, 1))
    with pytest.raises(UsageError, match="toy has no option padding"):
        build(NetworkSpec("toy", options={"padding": True}))


def test_a_loss_of_another_package_is_made_from_a_recipe(toy: Path) -> None:
    recipe = load_recipe(str(toy / "toy.toml"))
    loss = build_loss(recipe.loss, regions=False)
    target = torch.randint(0, 4, (2, 4, 4, 4))
    assert float(loss(torch.zeros(2, 4, 4, 4, 4), target)) == pytest.approx((0.75 + 3 * 0.25) / 4)


def test_a_layout_of_another_package_is_written_and_checked(toy: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "phantoms", "decathlon", 3, 0, (24, 24, 24))
    words = (
        "convert",
        tmp_path / "phantoms",
        tmp_path / "data",
        "--from",
        "decathlon",
        "--to",
        "two_folders",
    )
    assert medseg(*words).code == 0
    ran = medseg("check", tmp_path / "data", "--card", toy / "two.toml")
    assert (ran.code, "3 cases, 0 with errors; the list has 0 errors" in ran.err) == (0, True), ran.err


def test_names_are_listed_without_running_the_code_of_other_packages(toy: Path) -> None:
    assert "toy" in NETWORKS.names()
    assert "absolute_error" in LOSSES.names()
    assert "two_folders" in LAYOUTS.names()
    with pytest.raises(
        UsageError, match="the loss 'absolut_error' does not exist; did you mean 'absolute_error'"
    ):
        LOSSES.find("absolut_error")
    assert not [name for name in sys.modules if name.startswith("medseg_toy")]


def test_a_name_of_our_own_is_never_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"name": "thief", "version": "1", "entry-points": {"medseg.networks": {"vnet": "json:loads"}}}
    declared(tmp_path, theirs)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert NETWORKS.find("vnet").__name__ == "VNet"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("not_there:X", "cannot be loaded (ModuleNotFoundError: No module named 'not_there')"),
        ("json:nothing", "cannot be loaded (AttributeError"),
        ("json:loads", "declares json:loads, which is not a layout"),
    ],
)
def test_a_broken_package_is_named_in_one_line_and_only_when_it_is_asked_for(
    value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(tmp_path, {"name": "broken", "version": "1", "entry-points": {"medseg.layouts": {"odd": value}}})
    monkeypatch.syspath_prepend(str(tmp_path))
    write_phantoms(tmp_path / "data", "decathlon", 3, 0, (24, 24, 24))
    assert medseg("check", tmp_path / "data").code == 0
    line = refused(2, "convert", tmp_path / "data", tmp_path / "out", "--from", "odd", "--to", "nnunet")
    assert f"the layout 'odd' of the package broken {said}" in line


def test_a_name_of_two_packages_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        points = {"medseg.losses": {"same": f"{name}:LOSS"}}
        declared(tmp_path, {"name": name, "version": "1", "entry-points": points})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match="'same' is declared by (one and by two|two and by one)"):
        assert not LOSSES.knows("same")


@pytest.mark.slow
def test_a_training_uses_the_network_and_the_loss_of_another_package(toy: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "phantoms", "decathlon", 6, 0, (24, 24, 24))
    words = (
        "train",
        toy / "toy.toml",
        "--data",
        tmp_path / "phantoms",
        "-o",
        tmp_path / "run",
        "--threads",
        1,
    )
    ran = medseg(*words)
    assert ran.code == 0, ran.err
    assert (
        json.loads(medseg("info", tmp_path / "run" / "model.safetensors", "--json").out)["network"] == "toy"
    )


@pytest.mark.slow
def test_a_metric_and_a_verb_are_a_file_and_a_line(tmp_path: Path) -> None:
    """The edits of the document, applied to a copy of the package: it measures and says what they say."""
    copy = tmp_path / "copy" / "medseg"
    shutil.copytree(ROOT / "medseg", copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    for block in BLOCKS:
        if block.file.startswith("medseg/"):
            edited(copy.parent / block.file, block)
    write_phantoms(tmp_path / "data", "decathlon", 3, 0, (24, 24, 24))
    label = next((tmp_path / "data" / "labelsTr").glob("*.nii.gz"))
    assert in_copy(copy, "hello", "world") == "Hello, world.\n"
    (case,) = json.loads(in_copy(copy, "evaluate", label, label, "--json"))["cases"]
    assert {row["metrics"]["f2"] for row in case["structures"]} == {1.0}


def edited(file: Path, block: Block) -> None:
    """A file with a block in it: at its end, in its table, or all of it."""
    if block.place.startswith("In the table"):
        text = file.read_text()
        table = re.search(r"^(METRICS|VERBS)\b[^\n]*[{(]\n", text, re.M)
        assert table is not None
        file.write_text(text[: table.end()] + block.text + text[table.end() :])
    else:
        before = file.read_text() if block.place.startswith("At the end") else ""
        file.write_text(f"{before}\n\n{block.text}" if before else block.text)


def in_copy(package: Path, *words: object) -> str:
    program = "from medseg.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
