"""A model that tells objects apart writes their numbers beside its labels, and lists them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import done
from models import tiny_model

from medseg.classical.spec import InstancesSpec
from medseg.core.components import components
from medseg.data.phantom import write_phantoms
from medseg.io import read_labels
from medseg.model.spec import PostprocessSpec

LOBES = PostprocessSpec(instances=InstancesSpec(("lobe",)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "data", "nnunet", 3, 0, (24, 20, 16))
    tiny_model(postprocess=LOBES).save(tmp_path / "m.safetensors")
    return tmp_path


def test_instances_are_written_numbered_and_listed(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    out = folder / "a_seg.nii.gz"
    done("predict", scan, "-m", folder / "m.safetensors", "-o", out)
    labels, numbers = read_labels(out), read_labels(folder / "a_inst.nii.gz")
    content = json.loads((folder / "a_seg.json").read_text())
    names = {s["name"]: s["value"] for s in content["structures"]}
    expected = sum(int(components(labels.array == names[n]).max()) for n in ("left lobe", "right lobe"))
    assert [one["number"] for one in content["instances"]] == list(range(1, expected + 1))
    labels.grid.require(numbers.grid, "labels and instances")
    for one in content["instances"]:
        mask = numbers.array == one["number"]
        assert np.count_nonzero(mask) == one["voxels"]
        assert set(labels.array[mask].tolist()) == {names[one["structure"]]}
        assert one["longest_mm"] > 0
        assert "score" not in one
    assert ((numbers.array > 0) == np.isin(labels.array, (names["left lobe"], names["right lobe"]))).all()


def test_a_folder_goes_on_and_its_numbers_are_no_predictions(folder: Path) -> None:
    words = ("predict", folder / "data" / "imagesTr", "-m", folder / "m.safetensors", "-o", folder / "out")
    done(*words)
    assert len(list((folder / "out").glob("*_inst.nii.gz"))) == 3
    assert done(*words).err.count("exists already") == 3
    found = done("evaluate", folder / "out", folder / "data" / "labelsTr", "--no-surface", "--json").json()
    assert isinstance(found, dict)
    assert (len(found["cases"]), found["warnings"]) == (3, [])
