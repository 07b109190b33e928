"""Training of a cascade: two stages by one command, which resumes, and a model that contains both."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from commands import Ran, done, medseg

from medseg.core.errors import UsageError
from medseg.data.cards import load_card
from medseg.data.phantom import STRUCTURES, write_phantom_dataset, write_phantom_scan
from medseg.data.phantom.marked import write_marked_phantoms
from medseg.model.file import load_model
from medseg.training import cascade
from medseg.training.options import TrainOptions
from medseg.training.recipe import Recipe, coarse_stage, load_recipe
from medseg.training.spec import CascadeSpec
from medseg.training.train import TrainResult

SHAPE = (18, 20, 16)

RECIPE = """
name = "tiny"
card = "phantom"

[network]
name = "unet3d"
widths = [4, 8]
norm = "batch"

[augmentation.flip]
axes = [0]

[training]
patch = [8, 8, 8]
batch = 2
epochs = 2
steps_per_epoch = 3
warmup_steps = 2
selection_share = 0.2

[cascade]
spacing_mm = [2.0, 2.0, 2.0]
patch = [8, 8, 8]
widths = [4, 6]
"""


@dataclass(frozen=True)
class Bench:
    """A recipe and a dataset, and a finished run made of them."""

    recipe: Path
    data: Path
    run: Path
    ran: Ran


def train(recipe: Path, data: Path, out: Path, *more: object) -> Ran:
    return medseg(
        "train", recipe, "--data", data, "-o", out, "--threads", 1, "--folds", 3, "--fold", 0, *more
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("cascade")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    write_phantom_dataset(folder / "data", cases=6, shape=SHAPE)
    ran = train(recipe, folder / "data", folder / "run")
    assert ran.code == 0, ran.err
    return Bench(recipe, folder / "data", folder / "run", ran)


def test_the_model_contains_the_coarse_stage_that_was_trained_first(bench: Bench) -> None:
    coarse = load_model(bench.run / "coarse" / "model.safetensors")
    model = load_model(bench.run / "model.safetensors")
    assert model.coarse is not None
    assert model.coarse.sha256 == coarse.sha256
    assert model.spec.cascade
    assert model.spec.network.in_channels == 4
    assert model.spec.inputs == ("image", "coarse left lobe", "coarse right lobe", "coarse core")
    assert coarse.spec.name == "tiny, coarse stage"
    assert coarse.spec.network.widths == (4, 6)
    assert coarse.spec.preparation.spacing_mm == (2.0, 2.0, 2.0)
    assert (bench.run / "coarse" / "report.html").is_file()
    assert bench.ran.err.index("coarse stage: voxels of 2x2x2 mm") < bench.ran.err.index("fine stage")


def test_both_stages_hold_out_the_same_cases(bench: Bench) -> None:
    splits = [
        json.loads((run / "run.json").read_text())["split"] for run in (bench.run, bench.run / "coarse")
    ]
    assert splits[0] == splits[1]
    assert splits[0]["validation"]


def test_a_prediction_states_both_stages(bench: Bench, tmp_path: Path) -> None:
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=SHAPE)
    done("predict", tmp_path / "scan.nii.gz", "-m", bench.run, "--threads", 1)
    (stated,) = json.loads((tmp_path / "scan_seg.json").read_text())["provenance"]["models"]
    model = load_model(bench.run / "model.safetensors")
    assert model.coarse is not None
    assert stated == {"name": "tiny", "sha256": model.sha256, "coarse_sha256": model.coarse.sha256}


def test_info_tells_both_stages(bench: Bench) -> None:
    model = load_model(bench.run / "model.safetensors")
    assert model.coarse is not None
    told = done("info", bench.run, "--json").json()
    assert isinstance(told, dict)
    assert told["coarse_stage"]["sha256"] == model.coarse.sha256
    assert told["coarse_stage"]["spacing_mm"] == [2.0, 2.0, 2.0]
    assert set(told["coarse_stage"]["dice"]) == {"left lobe", "right lobe", "core"}
    assert "coarse_stage" in done("info", bench.run).out


def test_an_export_is_refused_for_the_whole_and_possible_for_the_coarse_stage(
    bench: Bench, tmp_path: Path
) -> None:
    ran = medseg("export", bench.run, "-o", tmp_path / "x.xml")
    assert ran.code == 2
    assert "tiny is a cascade" in ran.err
    done("export", bench.run / "coarse", "-o", tmp_path / "x.xml")


def test_the_same_command_trains_nothing_again(bench: Bench) -> None:
    logs = [bench.run / "log.csv", bench.run / "coarse" / "log.csv"]
    before = [path.read_bytes() for path in logs]
    weights = load_model(bench.run / "model.safetensors").weights
    ran = train(bench.recipe, bench.data, bench.run)
    assert ran.code == 0, ran.err
    assert ran.err.count("resuming after epoch 2 of 2") == 2
    assert [path.read_bytes() for path in logs] == before
    now = load_model(bench.run / "model.safetensors").weights
    assert all(np.array_equal(now[name], value) for name, value in weights.items())


def test_a_folder_with_something_else_is_refused_before_the_coarse_stage(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = train(bench.recipe, bench.data, tmp_path)
    assert ran.code == 2
    assert "is not empty" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_training_that_fails_at_once_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    fine, coarse = "patch = [8, 8, 8]\nbatch", "patch = [8, 8, 8]\nwidths"
    for stage in (fine, coarse):
        recipe = tmp_path / "bad.toml"
        recipe.write_text(RECIPE.replace(stage, stage.replace("8]", "7]")))
        ran = train(recipe, bench.data, tmp_path / "run")
        assert ran.code == 2
        assert "training.patch must be a multiple" in ran.err
        assert "reading" not in ran.err
        assert not (tmp_path / "run").exists()


def test_a_budget_is_shared_by_the_stages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = []

    def trained(recipe: Recipe, _data: Path, _out: Path, options: TrainOptions, **_: object) -> TrainResult:
        given.append((recipe.name, options))
        return TrainResult(bench.run / "coarse" / "model.safetensors", 1, 2.5, STRUCTURES)

    monkeypatch.setattr(cascade, "train", trained)
    options = TrainOptions(time_budget_s=80.0, spent_s=10.0, frozen=("encoder",))
    done = cascade.train_stages(
        load_recipe(bench.recipe), bench.data, tmp_path / "run", options, say=print, on_epoch=print
    )
    (first, coarse), (second, fine) = given
    assert (first, second) == ("tiny, coarse stage", "tiny")
    assert (coarse.time_budget_s, coarse.spent_s, coarse.frozen) == (20.0, 2.5, ())
    assert (fine.time_budget_s, fine.frozen) == (80.0, ("encoder",))
    assert 10.0 < fine.spent_s < 20.0
    assert fine.coarse is not None
    assert done.seconds == 5.0


def test_a_model_without_a_coarse_stage_starts_the_fine_one(bench: Bench, tmp_path: Path) -> None:
    ran = train(bench.recipe, bench.data, tmp_path / "run", "--init", bench.run / "coarse")
    assert ran.code == 0, ran.err
    assert "new channels start from random weights: coarse left lobe" in ran.err
    began = load_model(tmp_path / "run" / "model.safetensors").spec.training.began_from
    assert began is not None
    assert began.sha256 == load_model(bench.run / "coarse" / "model.safetensors").sha256
    assert load_model(tmp_path / "run" / "coarse" / "model.safetensors").spec.training.began_from is None


def fitted(**changes: object) -> Recipe:
    recipe = replace(
        load_recipe("phantom_unet3d"), cascade=CascadeSpec((2.0, 2.0, 2.0), (16, 16, 16)), **changes
    )
    return recipe.fitted_to(load_card("phantom"))


def test_the_coarse_stage_has_the_recipes_settings_but_for_its_own() -> None:
    recipe = fitted()
    assert recipe.cascade is not None
    coarse = coarse_stage(recipe, recipe.cascade)
    assert coarse.training == replace(recipe.training, patch=(16, 16, 16))
    assert coarse.augmentation == recipe.augmentation
    assert coarse.network.widths == recipe.network.widths
    assert coarse.fitted_to(load_card("phantom")).network.in_channels == 1
    assert recipe.network.in_channels == 4


def test_a_network_of_slices_has_no_coarse_stage() -> None:
    recipe = load_recipe("phantom_unet3d")
    flat = {
        "network": replace(recipe.network, spatial_dims=2, kernels=(), strides=()),
        "training": replace(recipe.training, patch=(16, 16, 1)),
    }
    with pytest.raises(UsageError, match=r"has \[cascade\], but its network has 2 spatial_dims"):
        fitted(**flat)


MARKED = """
name = "{name}"
card = "card.toml"

[network]
name = "unet3d"
widths = [8, 16, 32]
norm = "batch"
options = {{bias = false}}

[augmentation.flip]
axes = [0, 1, 2]

[training]
patch = [32, 32, 32]
epochs = {epochs}
steps_per_epoch = 60
learning_rate = 5e-3
foreground_share = 0.7
ema_decay = 0.98
selection_share = 0.0
"""

COARSE = """
[cascade]
spacing_mm = [4.0, 4.0, 4.0]
patch = [40, 16, 16]
widths = [8, 16, 32, 64]
"""

CARD = """
name = "marked"
description = "Marked phantoms"
layout = "decathlon"
channels = ["image"]
structures = [{value = 1, name = "marked node"}, {value = 2, name = "other node"}]
"""


@pytest.mark.slow
def test_a_cascade_names_what_a_patch_cannot(tmp_path: Path) -> None:
    """As many steps of the fine network alone know where the nodes are, and guess which is which."""
    write_marked_phantoms(tmp_path / "data", 24)
    (tmp_path / "card.toml").write_text(CARD)
    dice = {}
    for name, epochs, more in (("alone", 20, ""), ("cascade", 10, COARSE)):
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(MARKED.format(name=name, epochs=epochs) + more)
        done("train", recipe, "--data", tmp_path / "data", "-o", tmp_path / name, "--threads", 1)
        rows = load_model(tmp_path / name / "model.safetensors").spec.evidence.validation or ()
        dice[name] = np.mean([row.mean for row in rows if row.metric == "dice"])
    assert dice["alone"] < 0.6
    assert dice["cascade"] > 0.8
