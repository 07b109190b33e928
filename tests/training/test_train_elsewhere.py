"""Training on a machine with torch and numpy alone: packed here, run there, unpacked here."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done
from label_maps import CARD, RECIPE, write_map

from medseg import load
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.model.provenance import CaseCounts

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_elsewhere.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are not installed")

BARE = """
import runpy, sys

class Missing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {"nibabel", "pydantic", "pydantic_core", "safetensors", "openvino",
                                  "SimpleITK", "typer", "skimage", "monai"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
script, *words = sys.argv[1:]
sys.argv = [script, *words]
runpy.run_path(script, run_name="__main__")
import medseg
assert medseg.__file__.startswith(script.removesuffix("run.py")), medseg.__file__
"""


def there(folder: Path, *words: object) -> dict:
    """Run the pack in `folder` without medseg's own dependencies; what it says."""
    command = [sys.executable, "-I", "-c", BARE, folder / "run.py", "--device", "cpu", *words]
    ran = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def here(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps, card and recipe, their pack, and the folder it was unpacked and run in."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    for n in range(5):
        write_map(folder / "data" / f"jane_doe_{n}.nii.gz", n)
    (folder / "maps.toml").write_text(CARD)
    (folder / "tiny.toml").write_text(RECIPE)
    words = ("--recipe", folder / "tiny.toml", "--data", folder / "data", "--folds", 5)
    packed = here("pack", *words, "-o", folder / "pack.tar")
    assert packed.returncode == 0, packed.stderr
    assert json.loads(packed.stdout)["maps"] == 3
    with tarfile.open(folder / "pack.tar") as tar:
        tar.extractall(folder / "there", filter="data")
    return folder


def test_a_pack_is_small_and_names_nobody(home: Path) -> None:
    files = [p for p in (home / "there").rglob("*") if p.is_file()]
    for path in files:
        content = path.read_bytes()
        assert b"jane" not in content
        assert str(home).encode() not in content
    with np.load(home / "there" / "maps.npz") as maps:
        assert sorted(maps.files) == ["0", "1", "2"]
        assert {str(maps[key].dtype) for key in maps.files} == {"uint8"}
        assert {int(maps[key].max()) for key in maps.files} == {5}


def test_a_pack_trains_stops_goes_on_and_comes_back_as_a_model(home: Path, tmp_path: Path) -> None:
    first = there(home / "there", "--steps", 2, "--workers", 0)
    assert first["steps"] == 2
    assert 0 < first["loss"] < 10
    with np.load(home / "there" / "weights.npz") as stored:
        early = {key: stored[key] for key in stored.files}
    assert there(home / "there", "--steps", 3, "--workers", 1, "--batch", 1)["steps"] == 3
    unpacked = here("unpack", home / "there" / "weights.npz", "-o", tmp_path / "start.safetensors")
    assert unpacked.returncode == 0, unpacked.stderr
    model = load_model(tmp_path / "start.safetensors")
    assert model.spec.training.steps == 3
    assert model.spec.training.cases == CaseCounts(3, 1, 1)
    assert model.spec.structure_set.names == ("left lobe", "right lobe", "core")
    assert any(not np.array_equal(early[f"weight/{key}"], value) for key, value in model.weights.items())
    write = home / "data" / "jane_doe_0.nii.gz"
    scan = nib.load(write)
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj).astype(np.float32), scan.affine), tmp_path / "s.nii.gz")
    found = load(tmp_path / "start.safetensors", threads=1)(read_volume(tmp_path / "s.nii.gz"))
    assert found.labels.grid.shape == scan.shape
    words = (
        "train",
        home / "tiny.toml",
        "--data",
        home / "data",
        "-o",
        tmp_path / "run",
        "--folds",
        5,
        "--fold",
        0,
    )
    done(*words, "--threads", 1, "--epochs", 1, "--init", tmp_path / "start.safetensors", "-q")
    began = load_model(tmp_path / "run" / "model.safetensors").spec.training.began_from
    assert (began.steps, began.fold, began.sha256) == (3, 0, model.sha256)


def test_a_sum_of_losses_follows_its_schedule_there(home: Path, tmp_path: Path) -> None:
    """At the first step of one, the term that fades counts whole; were it never told, at the last too."""
    terms = """
[loss]
name = "sum"
[[loss.terms]]
name = "dice"
weight = 0.0
[[loss.terms]]
name = "cross_entropy"
weight = 1000.0
weight_end = 0.0
"""
    (tmp_path / "maps.toml").write_text(CARD)
    (tmp_path / "sum.toml").write_text(RECIPE + terms)
    words = ("--recipe", tmp_path / "sum.toml", "--data", home / "data", "-o", tmp_path / "pack.tar")
    packed = here("pack", *words)
    assert packed.returncode == 0, packed.stderr
    with tarfile.open(tmp_path / "pack.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    assert there(tmp_path, "--steps", 1, "--workers", 0)["loss"] > 200
    told = there(tmp_path, "--steps", 20, "--workers", 0)
    assert told["steps"] == 20
    assert 0 < told["loss"] < 200


def test_time_ends_a_training_too(home: Path, tmp_path: Path) -> None:
    with tarfile.open(home / "pack.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    said = there(tmp_path, "--minutes", 0.02, "--workers", 0, "--save-minutes", 0)
    assert said["steps"] >= 1
    assert said["seconds"] <= 20
    assert (tmp_path / "weights.npz").exists()


def test_a_recipe_of_scans_is_not_packed(home: Path, tmp_path: Path) -> None:
    words = ("--recipe", "phantom_unet3d", "--data", home / "data", "-o", tmp_path / "pack.tar")
    refused = here("pack", *words)
    assert refused.returncode == 1
    assert "no recipe for label maps" in refused.stderr
    assert not (tmp_path / "pack.tar").exists()
