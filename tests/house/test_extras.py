"""What is installed with which extra, and what a command says where a package is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from medseg.core.errors import MissingPackageError, UsageError
from medseg.core.extras import EXTRA_OF, missing, missing_in, optional_packages

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "medseg"

HIDDEN = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "monai", "tensorboard"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from medseg.cli.main import main
main(sys.argv[1:])
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command where torch, MONAI and TensorBoard cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    for words in (("phantom", "scan.nii.gz"), ("phantom", "data", "--cases", "3")):
        assert run(folder, *words).returncode == 0
    return folder


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the checkout is not at hand")
def test_each_optional_package_is_in_the_extra_that_the_error_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {name(line) for line in project["dependencies"]}
    for package, extra in EXTRA_OF.items():
        assert package not in required
        if extra is not None:
            assert package in {name(line) for line in project["optional-dependencies"][extra]}


def name(requirement: str) -> str:
    return re.split(r"[<>=\[ ]", requirement)[0]


def test_the_error_is_written_in_one_place() -> None:
    holders = [path.name for path in PACKAGE.rglob("*.py") if "pip install" in path.read_text("utf-8")]
    assert holders == ["extras.py"]


def test_other_missing_modules_keep_their_own_error() -> None:
    assert missing_in(ImportError("cannot import name", name="torch")) is None
    assert str(missing("pandas")) == "pandas is not installed; pip install pandas"
    with pytest.raises(ModuleNotFoundError), optional_packages():
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
    with pytest.raises(MissingPackageError, match=re.escape(str(missing("torch")))), optional_packages():
        raise ModuleNotFoundError("No module named 'torch._C'", name="torch._C")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("train", "phantom_unet3d", "--data", "data", "-o", "run"),
        ("predict", "scan.nii.gz", "-m", "hippocampus", "--engine", "torch"),
        ("augment", "scan.nii.gz", "--preset", "unet2015", "-o", "draws.png"),
        ("export", "hippocampus", "-o", "x.xml"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_trains_names_the_extra(folder: Path, words: tuple[str, ...]) -> None:
    found = run(folder, *words)
    assert found.stderr == 'medseg: error: torch is not installed; pip install "medseg[train]"\n'
    assert found.returncode == UsageError.exit_code


@pytest.mark.slow
def test_a_scan_is_segmented_measured_and_shown_without_torch(folder: Path) -> None:
    for words in (
        ("predict", "scan.nii.gz", "-m", "hippocampus"),
        ("evaluate", "scan_seg.nii.gz", "scan_seg.nii.gz"),
        ("report", "scan_seg.nii.gz", "scan.nii.gz", "-o", "page.html"),
        ("convert", "data", "other", "--from", "decathlon", "--to", "nnunet"),
        ("check", "data"),
        ("info", "hippocampus"),
    ):
        found = run(folder, *words)
        assert found.returncode == 0, (words, found.stderr)


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
