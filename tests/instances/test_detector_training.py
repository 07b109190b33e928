"""A network that finds objects is trained by the same loop as others, from codes of objects."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import done, medseg, refused

from medseg.augment.flip import flip_labels
from medseg.data.phantom.touching import touching_case
from medseg.io import read_labels, write_image, write_labels
from medseg.model.file import load_model

CARD = """
name = "bodies"
description = "Made-up bodies that touch"
layout = "nnunet"
channels = ["image"]
instances = "{told}"

[[structures]]
value = 1
name = "ellipsoid"

[[structures]]
value = 2
name = "bowl"
"""
RECIPE = """
name = "bodies"
card = "card.toml"

[network]
name = "blendmask"
widths = [4, 4, 8, 8]
options = {{ encoder = "resnet18", width = 8, depth = 1 }}

[loss]
name = "dice_ce"

[training]
patch = [32, 32, 32]
epochs = 1
steps_per_epoch = 2
selection_share = {share}

[inference]
strategy = "sliding_window"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three boxes of bodies, with the number of each body beside its label."""
    for sub in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / sub).mkdir(parents=True)
    for n in range(3):
        volume, labels = touching_case(np.random.default_rng([0, n]), (32, 32, 32))
        write_image(
            tmp_path / "data" / "imagesTr" / f"b_{n}_0000.nii.gz",
            volume.array[0],
            volume.grid,
            form=volume.form,
        )
        write_labels(tmp_path / "data" / "labelsTr" / f"b_{n}.nii.gz", labels)
        numbered = replace(labels, array=labels.numbers, numbers=None)
        write_labels(tmp_path / "data" / "labelsTr" / f"b_{n}_inst.nii.gz", numbered)
    names = {"background": 0, "ellipsoid": 1, "bowl": 2}
    about = {"channel_names": {"0": "image"}, "labels": names, "numTraining": 3, "file_ending": ".nii.gz"}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(about))
    return tmp_path


@pytest.mark.parametrize("told", ["file", "components", ""])
def test_it_trains_and_its_model_predicts(folder: Path, told: str) -> None:
    (folder / "card.toml").write_text(CARD.format(told=told))
    (folder / "r.toml").write_text(RECIPE.format(share=0.3 if told == "file" else 0.0))
    run = folder / "run"
    words = ("--data", folder / "data", "-o", run, "--fold", "none", "--threads", 1)
    ran = done("train", folder / "r.toml", *words)
    assert ("each connected piece of a structure is one" in ran.err) == (told == "")
    if told == "file":
        assert re.search(r"loss [\d.]+  AP (ellipsoid|bowl) 0\.\d+", ran.err), "objects choose the checkpoint"
        assert "ap/ellipsoid" in (run / "log.csv").read_text()
        assert "Loss and AP by epoch" in (run / "report.html").read_text()
    model = load_model(run / "model.safetensors")
    assert model.spec.network.name == "blendmask"
    assert model.graph is not None
    scan = folder / "data" / "imagesTr" / "b_0_0000.nii.gz"
    done("predict", scan, "-m", run, "-o", folder / "a_seg.nii.gz", "--report")
    content = json.loads((folder / "a_seg.json").read_text())
    labels, numbers = read_labels(folder / "a_seg.nii.gz"), read_labels(folder / "a_inst.nii.gz")
    assert [one["number"] for one in content["instances"]] == list(range(1, int(numbers.array.max()) + 1))
    assert all(0 < one["score"] <= 1 for one in content["instances"])
    assert np.array_equal(labels.array > 0, numbers.array > 0)


def test_objects_are_left_out_below_a_score_that_training_or_user_chose(folder: Path) -> None:
    (folder / "card.toml").write_text(CARD.format(told="components"))
    (folder / "r.toml").write_text(RECIPE.format(share=0.3))
    run = folder / "run"
    ran = done("train", folder / "r.toml", "--data", folder / "data", "-o", run, "--fold", 0, "--threads", 1)
    assert re.search(r"Structure +PQ +SQ +RQ +Matched +Missed +Extra\n", ran.out)
    spec = load_model(run / "model.safetensors").spec
    assert spec.postprocess.least_score is not None
    assert {score.metric for score in spec.evidence.validation or ()} >= {"dice", "pq"}
    scan, counts = folder / "data" / "imagesTr" / "b_0_0000.nii.gz", []
    for least in (0, 0.2, 1):
        words = ("predict", scan, "-m", run, "-o", folder / "a_seg.nii.gz", "--overwrite")
        done(*words, "--least-score", least)
        content = json.loads((folder / "a_seg.json").read_text())
        counts.append(len(content["instances"]))
        assert all(one["score"] >= least for one in content["instances"])
        assert content["provenance"]["settings"]["least_score"] == least
    assert counts[0] > 0 == counts[2]
    assert not read_labels(folder / "a_seg.nii.gz").array.any()
    assert not read_labels(folder / "a_inst.nii.gz").array.any()
    assert "--least-score" in refused(2, "predict", scan, "-m", run, "--least-score", 1.5)
    said = refused(2, "predict", scan, "-m", "hippocampus", "--least-score", 0.5, "--overwrite")
    assert "hippocampus does not find objects with scores; leave out --least-score" in said


def test_a_map_of_numbers_that_is_lacking_is_named(folder: Path) -> None:
    (folder / "card.toml").write_text(CARD.format(told="file"))
    (folder / "r.toml").write_text(RECIPE.format(share=0.0))
    (folder / "data" / "labelsTr" / "b_1_inst.nii.gz").unlink()
    ran = medseg("train", folder / "r.toml", "--data", folder / "data", "-o", folder / "run")
    assert ran.code == 3
    assert "b_1.nii.gz: has no map of instances beside it (b_1_inst.nii.gz)" in ran.err


def test_flips_exchange_the_sides_of_codes_and_keep_their_objects() -> None:
    codes = torch.tensor([1 + 256 * 7, 2 + 256 * 9, 0, 255], dtype=torch.int32).reshape(4, 1, 1)
    found = flip_labels(codes, (0,), (0, 2, 1))
    assert found.flatten().tolist() == [255, 0, 1 + 256 * 9, 2 + 256 * 7]
    assert found.dtype == torch.int32


def test_codes_of_one_structure_by_values(tmp_path: Path) -> None:
    from medseg.core.volume import Grid, LabelMap
    from medseg.data.objects import with_objects

    array = np.zeros((4, 4, 4), np.uint8)
    array[0], array[1] = 20, 21
    found = with_objects(LabelMap(array, Grid((4, 4, 4), np.eye(4))), "values", tmp_path / "a.nii")
    assert set(np.unique(found.array).tolist()) == {0, 1}
    assert found.numbers is not None
    assert np.array_equal(found.numbers, array)


def test_a_network_of_slices_finds_objects_that_go_on(folder: Path) -> None:
    (folder / "card.toml").write_text(CARD.format(told="file"))
    flat = RECIPE.format(share=0.3).replace("widths", "spatial_dims = 2\nwidths")
    flat = flat.replace("[32, 32, 32]", "[32, 32, 1]")
    (folder / "r.toml").write_text(flat)
    run = folder / "run"
    words = ("train", folder / "r.toml", "--data", folder / "data", "-o", run, "--fold", "none")
    assert "shrinks to one voxel in this network (stride [32, 32, 1])" in refused(2, *words)
    (folder / "r.toml").write_text(flat.replace("depth = 1", 'depth = 1, stem = "volume"'))
    done(*words, "--threads", 1)
    scan = folder / "data" / "imagesTr" / "b_0_0000.nii.gz"
    done("predict", scan, "-m", run, "-o", folder / "a_seg.nii.gz")
    numbers = read_labels(folder / "a_inst.nii.gz")
    listed = json.loads((folder / "a_seg.json").read_text())["instances"]
    assert len(listed) == int(numbers.array.max())


def test_regions_are_refused(folder: Path) -> None:
    card = CARD.format(told="").replace("value = 1", "value = 1\nmembers = [1, 2]") + "members = [2]\n"
    (folder / "card.toml").write_text(card)
    (folder / "r.toml").write_text(RECIPE.format(share=0.0))
    words = ("train", folder / "r.toml", "--data", folder / "data", "-o", folder / "run")
    assert "takes structures that exclude one another, but these are regions" in refused(2, *words)
