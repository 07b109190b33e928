"""`medseg train` from the recipe to the model: it resumes, refuses, and leaves something usable."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import Ran, apart, medseg, tree

from medseg import load
from medseg import train as train_from_python
from medseg.core.errors import SelfCheckError
from medseg.core.specs import to_mapping
from medseg.data.phantom import STRUCTURES, write_phantom_dataset, write_phantom_scan
from medseg.inference.engines.rounding import harmless
from medseg.inference.predictor import Predictor
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.model.provenance import CaseCounts
from medseg.training.loop import Epoch, Trainer
from medseg.training.run import Run

SHAPE = (18, 20, 16)

RECIPE = """
name = "tiny"
card = "phantom"
description = "Seconds on one core"

[network]
name = "unet3d"
widths = [4, 8]
norm = "batch"

[augmentation.flip]
axes = [0]

[training]
patch = [16, 16, 16]
batch = 2
epochs = 2
steps_per_epoch = 4
learning_rate = 1e-2
warmup_steps = 2
selection_share = 0.2

[metrics]
tolerance_mm = 1.0
"""

MEASURED = {"validation.csv", "suspects.csv"}
FILES = {"checkpoints", "log.csv", "model.safetensors", "report.html", "run.json", "tensorboard", *MEASURED}


@dataclass(frozen=True)
class Bench:
    """A recipe and a dataset, and a finished run made of them."""

    recipe: Path
    data: Path
    run: Path
    ran: Ran


def train(recipe: Path, data: Path, out: Path, *more: object) -> Ran:
    folds = ("--folds", 3, "--fold", 0)
    return medseg("train", recipe, "--data", data, "-o", out, "--threads", 1, *folds, *more)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    write_phantom_dataset(folder / "data", cases=6, shape=SHAPE)
    ran = train(recipe, folder / "data", folder / "run")
    assert ran.code == 0, ran.err
    return Bench(recipe, folder / "data", folder / "run", ran)


@pytest.fixture
def run(bench: Bench, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(bench.run, tmp_path / "run"))


def header(path: Path) -> dict:
    """What the model file says, as strict JSON."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["spec"], parse_constant=pytest.fail)


def test_a_training_leaves_a_model_that_segments_and_says_how_good_it_is(
    bench: Bench, tmp_path: Path
) -> None:
    assert {p.name for p in bench.run.iterdir()} == FILES
    model = load_model(bench.run / "model.safetensors")
    assert model.spec.name == "tiny"
    assert model.spec.structure_set.names == STRUCTURES.names
    assert model.spec.training.cases == CaseCounts(3, 1, 2)
    assert model.spec.training.epochs == model.spec.training.of_epochs == 2
    known = {"engines", "confidence", "volumes_ml", "spacing_mm", "validation", "calibration"}
    assert set(to_mapping(model.spec.evidence)) == known
    assert model.spec.evidence.engines["openvino f32"].probability < 1e-3
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=SHAPE)
    found = load(bench.run / "model.safetensors", threads=1)(read_volume(tmp_path / "scan.nii.gz"))
    assert found.structures.names == STRUCTURES.names


def test_python_trains_as_the_command_does(bench: Bench, run: Path, tmp_path: Path) -> None:
    """The same call goes on where the command stopped, and leaves the same scores."""
    done = train_from_python(bench.data, recipe=bench.recipe, output=run, folds=3, threads=1)
    assert done.model_path == run / "model.safetensors"
    assert done.epochs == 2
    assert list(done.scores) == list(STRUCTURES.names)
    with (bench.run / "validation.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == "dice" and row["structure"]]
    wanted = [float(row["value"]) for row in rows if row["structure"] == STRUCTURES.names[0] and row["value"]]
    found = done.scores[STRUCTURES.names[0]].dice
    assert found == pytest.approx(sum(wanted) / len(wanted)) if wanted else found is None
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=SHAPE)
    assert done.model(tmp_path / "scan.nii.gz").structures.names == STRUCTURES.names
    with pytest.raises(TypeError, match="did you mean 'output'"):
        train_from_python(bench.data, recipe=bench.recipe, outputt=run)


def test_the_model_file_is_strict_json_and_names_no_case_and_no_path(bench: Bench) -> None:
    text = json.dumps(header(bench.run / "model.safetensors"))
    assert "phantom_00" not in text
    assert str(bench.data.parent) not in text


def test_the_log_and_the_scores_are_tables(bench: Bench) -> None:
    with (bench.run / "log.csv").open(newline="") as lines:
        log = list(csv.DictReader(lines))
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert {f"dice/{name}" for name in STRUCTURES.names} <= set(log[0])
    with (bench.run / "validation.csv").open(newline="") as lines:
        scores = list(csv.DictReader(lines))
    stored = json.loads((bench.run / "run.json").read_text())
    assert {row["case_id"] for row in scores} == set(stored["split"]["validation"])
    assert stored["epochs"] == 2
    assert "Mean Dice" in bench.ran.out
    assert "epoch 2/2" in bench.ran.err


def test_the_same_command_does_not_train_again(bench: Bench, run: Path) -> None:
    before = tree(run / "checkpoints")
    again = train(bench.recipe, bench.data, run, "--json")
    assert again.code == 0, again.err
    assert "resuming after epoch 2 of 2" in again.err
    assert tree(run / "checkpoints") == before
    said = again.json()
    assert said["epochs"] == 2
    first, second = (load_model(folder / "model.safetensors") for folder in (bench.run, run))
    assert first.weights.keys() == second.weights.keys()
    for key, value in first.weights.items():
        np.testing.assert_array_equal(value, second.weights[key])


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--epochs", 3), "training.epochs of the recipe (was 2, is 3)"),
        (("--seed", 5), "--seed (was 0, is 5)"),
        (("--fold", 1), "--fold (was 0, is 1)"),
        (("--time-budget", "20s"), "--time-budget in seconds (was none, is 20.0)"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(
    bench: Bench, run: Path, more: tuple[object, ...], what: str
) -> None:
    before = tree(run)
    ran = train(bench.recipe, bench.data, run, *more)
    assert (ran.code, ran.out) == (2, "")
    assert "with other settings: " in ran.err
    assert what in ran.err
    assert tree(run) == before


def test_overwrite_begins_anew_and_spares_what_is_not_its_own(bench: Bench, run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    more = ("--overwrite", "--epochs", 1, "--fold", "none", "--threads", 1)
    ran = medseg("train", bench.recipe, "--data", bench.data, "-o", run, *more)
    assert ran.code == 0, ran.err
    assert "resuming" not in ran.err
    assert {p.name for p in run.iterdir()} == FILES - MEASURED | {"notes.txt"}
    assert load_model(run / "model.safetensors").spec.training.epochs == 1
    assert "trained 1 epoch in" in ran.err


def interrupted(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come in the epoch after `after`."""
    honest = Trainer._epoch

    def epoch(self: Trainer, log: object) -> Epoch:
        if self.progress.epoch == after:
            raise KeyboardInterrupt
        return honest(self, log)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_epoch", epoch)


BEST = "the best weights so far are in {}/model.safetensors: repeat the command"
NOTHING = (
    "the first epoch had not ended, so neither a model nor a checkpoint is left in {}: repeat the command"
)


def of_first_fold(bench: Bench, run: Path) -> list[object]:
    """The words of a command that trains for the first of three folds."""
    words = ["train", bench.recipe, "--data", bench.data, "-o", run]
    return [*words, "--threads", 1, "--folds", 3, "--fold", 0]


@pytest.mark.parametrize(
    ("when", "overwrite", "said"),
    [
        (0, False, f"{NOTHING} to begin again"),
        (1, False, f"{BEST} to resume"),
        (1, True, f"{BEST} without --overwrite to resume"),
        (
            "package",
            False,
            "there is no model yet, but a checkpoint in {}/checkpoints: repeat the command to",
        ),
        ("learnable", False, f"{NOTHING} to begin again"),
    ],
)
def test_an_interrupted_training_says_what_it_leaves_and_how_it_goes_on(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: int | str,
    overwrite: bool,
    said: str,
) -> None:
    from medseg.cli import main

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if isinstance(when, int):
        interrupted(when, monkeypatch)
    else:
        monkeypatch.setattr(f"medseg.training.train.{when}", stop)
    run = tmp_path / "run"
    words = of_first_fold(bench, run)
    words += ["--overwrite"] if overwrite else []
    assert main._run([str(word) for word in words], debug=False) == 130
    *_, stopped, last = capsys.readouterr().err.splitlines()
    assert stopped.startswith("stopped; " + said.format(run, run))
    assert last == "medseg: error: interrupted"
    assert (run / "model.safetensors").exists() == (when == 1)
    assert (run / "checkpoints").exists() == (when in (1, "package"))


def test_an_interrupted_training_leaves_a_usable_model_and_goes_on_to_the_same_end(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.cli import main

    with monkeypatch.context() as patch:
        interrupted(1, patch)
        words = of_first_fold(bench, tmp_path / "run")
        assert main._run([str(word) for word in words], debug=False) == 130
    halfway = load_model(tmp_path / "run" / "model.safetensors")
    assert halfway.spec.training.epochs == 1
    header(tmp_path / "run" / "model.safetensors")
    load(tmp_path / "run" / "model.safetensors")
    assert not (tmp_path / "run" / "run.lock").exists()
    ran = train(bench.recipe, bench.data, tmp_path / "run")
    assert "resuming after epoch 1 of 2" in ran.err
    whole, resumed = (load_model(f / "model.safetensors").weights for f in (bench.run, tmp_path / "run"))
    for key, value in whole.items():
        np.testing.assert_array_equal(value, resumed[key])


def test_an_interruption_before_the_first_epoch_leaves_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.cli import main

    interrupted(0, monkeypatch)
    words = [
        "train",
        bench.recipe,
        "--data",
        bench.data,
        "-o",
        tmp_path / "run",
        "--folds",
        3,
        "-q",
        "--fold",
        0,
    ]
    assert main._run([str(word) for word in words], debug=False) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_fails_to_be_measured_does_not_cost_the_model(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.core.errors import InputError
    from medseg.training import package as evidence

    def fail(*_: object, **__: object) -> None:
        raise InputError("the disk is gone")

    monkeypatch.setattr(evidence, "evaluate_case", fail)
    ran = train(bench.recipe, bench.data, tmp_path / "run")
    assert ran.code == 3
    assert load_model(tmp_path / "run" / "model.safetensors").spec.training.epochs == 2


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.fault("reliability 54")
def test_row_54_a_scan_under_two_names_is_refused(
    bench: Bench, tmp_path: Path, part: str, turned: bool
) -> None:
    """Two names on the two sides of the split are found before anything is trained."""
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    split = json.loads((bench.run / "run.json").read_text())["split"]
    one, other = split["train"][0], split["train"][1] if part == "train" else split["validation"][0]
    for folder in ("imagesTr", "labelsTr"):
        image = nib.load(data / folder / f"{one}.nii.gz")
        image = nib.as_closest_canonical(image) if turned else image
        nib.save(image, data / folder / f"{other}.nii.gz")
    ran = train(bench.recipe, data, tmp_path / "run")
    assert ran.code == 3
    assert f"{other}.nii.gz: contains the same voxels as {one}" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("there", "becomes", "told"),
    [
        ('name = "unet3d"', 'name = "unet3"', "the network 'unet3' does not exist; did you mean 'unet3d'?"),
        ("widths = [4, 8]", 'widths = [4, 8]\noptions = { activaton = "elu" }', "did you mean 'activation'?"),
        (
            "patch = [16, 16, 16]",
            "patch = [16, 15, 16]",
            "training.patch must be a multiple of [2, 2, 2] along each axis, not [16, 15, 16]; "
            "use [16, 14, 16] or [16, 16, 16]",
        ),
        ("[training]", '[loss]\nname = "bce_dice"\n[training]', "'bce_dice' does not take labels"),
        ("[training]", "[training]\ndeep_supervision = true", "needs a network with several heads"),
        (
            "patch = [16, 16, 16]\nbatch = 2",
            "patch = [2, 2, 2]\nbatch = 1",
            "a patch of [2, 2, 2] shrinks to one voxel in this network",
        ),
        ("widths = [4, 8]", "widths = [4, 8]\noptions = { padding = false }", "an output smaller than"),
        ('card = "phantom"', 'card = "phantm"', "the card 'phantm' does not exist; did you mean 'phantom'?"),
    ],
)
def test_a_recipe_is_judged_before_any_data_is_read(
    there: str, becomes: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(RECIPE.replace(there, becomes))
    ran = train(tmp_path / "bad.toml", tmp_path / "nowhere", tmp_path / "run")
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert not (tmp_path / "run").exists()


def test_a_fold_that_does_not_exist_is_told_before_a_case_is_read(bench: Bench, tmp_path: Path) -> None:
    ran = train(bench.recipe, bench.data, tmp_path / "run", "--fold", 3)
    assert (ran.code, "reading" in ran.err) == (2, False)


def test_too_few_cases_are_answered_with_the_folds_that_there_can_be(bench: Bench, tmp_path: Path) -> None:
    ran = train(bench.recipe, bench.data, tmp_path / "run", "--folds", 7)
    assert ran.code == 3
    assert "6 cases (or groups of cases) are too few for 7 folds" in ran.err
    assert "give --folds 6" in ran.err


def test_what_label_files_say_of_themselves_is_told_once(bench: Bench, tmp_path: Path) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    paths = [p for folder in ("imagesTr", "labelsTr") for p in (data / folder).glob("*.nii.gz")]
    for path in paths:
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([40.0, 40.0, 40.0, 1.0])), path)
    ran = train(bench.recipe, data, tmp_path / "run", "--epochs", 1)
    assert ran.code == 0, ran.err
    told = "warning: labels of 6 of 6 cases: The voxels measure 40 x 40 x 40 mm"
    assert ran.err.count("The voxels measure") == ran.err.count(told) == 1
    assert ran.err.index(told) < ran.err.index("epoch 1")


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.fault("reliability 47")
def test_a_bad_case_is_found_before_anything_is_trained_and_leaves_no_run(
    bench: Bench, tmp_path: Path, part: str
) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    name = json.loads((bench.run / "run.json").read_text())["split"][part][0]
    label = data / "labelsTr" / f"{name}.nii.gz"
    image = nib.load(label)
    affine = image.affine.copy()
    affine[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), label)
    ran = train(bench.recipe, data, tmp_path / "run")
    assert ran.code == 4
    assert f"{name}.nii.gz: image and labels lie on different grids" in ran.err
    assert "epoch" not in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("reliability 90")
@pytest.mark.fault("reports 19")
def test_row_90_a_run_that_is_being_trained_is_left_alone(bench: Bench, run: Path) -> None:
    with Run(run).locked():
        before = tree(run)
        for more in ((), ("--overwrite",)):
            ran = train(bench.recipe, bench.data, run, *more)
            assert ran.code == 2
            assert f"process {os.getpid()} on the host" in ran.err
            assert "is training in this folder" in ran.err
        assert tree(run) == before


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    old = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj)), old.affine), path)


def of_part(bench: Bench, part: str) -> str:
    """The name of a case of a part of the split."""
    return str(json.loads((bench.run / "run.json").read_text())["split"][part][0])


@pytest.mark.fault("reports 16")
@pytest.mark.parametrize("part", ["train", "selection", "validation"])
@pytest.mark.parametrize("kind", ["labels", "image"])
def test_data_that_changed_since_a_run_was_begun_are_refused(
    bench: Bench, run: Path, tmp_path: Path, part: str, kind: str
) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    name = of_part(bench, part)
    folder = "labelsTr" if kind == "labels" else "imagesTr"
    edit(data / folder / f"{name}.nii.gz", lambda a: np.where(a == a.max(), 0, a).astype(a.dtype))
    before = tree(run)
    ran = train(bench.recipe, data, run)
    assert (ran.code, ran.out) == (2, "")
    assert f"was started with other data: {kind} of {name} changed; restore the files to resume" in ran.err
    assert tree(run) == before
    assert train(bench.recipe, data, run, "--overwrite", "--epochs", 1, "-q").code == 0


@pytest.mark.fault("reports 16")
def test_files_written_anew_with_the_same_content_go_on(bench: Bench, run: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    for path in data.glob("*Tr/*.nii.gz"):
        nib.save(nib.as_closest_canonical(nib.load(path)), path)
    assert train(bench.recipe, data, run).code == 0


@pytest.mark.fault("reports 16")
def test_a_run_of_an_older_version_goes_on_with_a_warning(bench: Bench, run: Path) -> None:
    stored = json.loads((run / "run.json").read_text())
    assert len(stored.pop("data")) == 6
    (run / "run.json").write_text(json.dumps(stored))
    ran = train(bench.recipe, bench.data, run)
    assert ran.code == 0, ran.err
    assert "the version that started this run did not record its data" in ran.err
    assert "did not record" not in train(bench.recipe, bench.data, run).err


@pytest.mark.fault("reports 17")
def test_an_unknown_value_in_a_case_that_is_only_measured_is_refused_first(
    bench: Bench, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    path = data / "labelsTr" / f"{of_part(bench, 'validation')}.nii.gz"
    edit(path, lambda a: np.where(np.indices(a.shape).sum(0) < 3, 7, a).astype(np.uint8))
    ran = train(bench.recipe, data, tmp_path / "run")
    assert (ran.code, ran.out) == (3, "")
    assert f"{path}: unknown label values 7 (10 voxels); declare them in the card" in ran.err
    assert "epoch" not in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("reports 18")
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_constant_channel_is_found_before_the_first_step(bench: Bench, tmp_path: Path, part: str) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    path = data / "imagesTr" / f"{of_part(bench, part)}.nii.gz"
    edit(path, np.ones_like)
    ran = train(bench.recipe, data, tmp_path / "run")
    assert (ran.code, ran.out) == (3, "")
    assert f"{path}: " in ran.err
    assert "is constant" in ran.err
    assert "epoch" not in ran.err


@pytest.mark.fault("reports 20")
def test_a_structure_that_no_training_case_has_is_said_and_no_structure_at_all_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    trained = json.loads((bench.run / "run.json").read_text())["split"]["train"]
    for name in trained:
        edit(data / "labelsTr" / f"{name}.nii.gz", lambda a: np.where(a == 3, 0, a).astype(np.uint8))
    ran = train(bench.recipe, data, tmp_path / "run", "--epochs", 1)
    assert ran.code == 0, ran.err
    said = "warning: no training case has a voxel of core, so it cannot be learned"
    assert ran.err.index(said) < ran.err.index("epoch 1")
    for name in trained:
        edit(data / "labelsTr" / f"{name}.nii.gz", np.zeros_like)
    ran = train(bench.recipe, data, tmp_path / "empty")
    assert (ran.code, ran.out) == (3, "")
    assert "no training case has a voxel of any structure (left lobe, right lobe, core)" in ran.err
    assert not (tmp_path / "empty").exists()


def test_a_device_that_is_not_there_is_a_usage_error(bench: Bench, tmp_path: Path) -> None:
    for device in ("cuda:99", "abacus"):
        ran = train(bench.recipe, bench.data, tmp_path / "run", "--device", device)
        assert ran.code == 2
        assert "is not available" in ran.err or f"{device!r} is not a device" in ran.err
    assert not (tmp_path / "run").exists()


def test_a_time_budget_fixes_the_epochs_once(bench: Bench, tmp_path: Path) -> None:
    words = (bench.recipe, bench.data, tmp_path / "run", "--time-budget", "1s", "-q")
    assert train(*words).code == 0
    epochs = json.loads((tmp_path / "run" / "run.json").read_text())["epochs"]
    assert epochs >= 1
    assert train(*words).code == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["epochs"] == epochs


@pytest.mark.fault("reports 26")
def test_a_training_that_begins_from_other_structures_says_what_is_new(bench: Bench, tmp_path: Path) -> None:
    card = (Path(__file__).parents[2] / "datasets" / "phantom.toml").read_text()
    (tmp_path / "mine.toml").write_text(card.replace('"core"', '"kernel"'))
    (tmp_path / "tiny.toml").write_text(RECIPE.replace('card = "phantom"', 'card = "mine.toml"'))
    data = Path(shutil.copytree(bench.data, tmp_path / "data"))
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace('"core"', '"kernel"'))
    model = bench.run / "model.safetensors"
    ran = train(tmp_path / "tiny.toml", data, tmp_path / "run", "--epochs", 1, "--init", model)
    assert ran.code == 0, ran.err
    lines = ran.err.splitlines()
    assert "warning: tiny: new structures start from random weights: kernel" in lines
    assert "warning: tiny: structures that are not in the recipe are left out: core" in lines


@pytest.mark.fault("reports 21")
def test_a_budget_shorter_than_an_epoch_shortens_it_and_says_so(bench: Bench, tmp_path: Path) -> None:
    """The run goes on with the same number of steps, whatever the clock says then."""
    long = tmp_path / "long.toml"
    long.write_text(RECIPE.replace("steps_per_epoch = 4", "steps_per_epoch = 100000"))
    ran = train(long, bench.data, tmp_path / "run", "--time-budget", "4s")
    assert ran.code == 0, ran.err
    assert re.search(
        r"an epoch of 100000 steps takes \d+ s, but only \d s remain \(the end takes about \d+ s\): one of",
        ran.err,
    )
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (stored["epochs"], stored["steps_per_epoch"] < 10000) == (1, True)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.spec.training.steps == stored["steps_per_epoch"]
    again = train(long, bench.data, tmp_path / "run", "--time-budget", "4s")
    assert (again.code, "resuming after epoch 1 of 1" in again.err) == (0, True)


@pytest.mark.slow
@pytest.mark.fault("reliability 78")
def test_training_asks_nobody_outside(bench: Bench, tmp_path: Path) -> None:
    """Converting the network imports the whole of OpenVINO, which would report it to its maker."""
    words = (
        "train",
        bench.recipe,
        "--data",
        bench.data,
        "-o",
        tmp_path / "run",
        "--threads",
        1,
        "--folds",
        3,
        "--fold",
        0,
    )
    found = apart(tmp_path, *words, "-q")
    assert found.ran.code == 0, found.ran.err
    assert not found.connected
    assert not list((tmp_path / "home").rglob("*"))


def test_the_recipe_of_the_demo_trains(bench: Bench, tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "data", cases=3, shape=(32, 32, 32))
    text = (Path(__file__).parents[2] / "pipelines" / "phantom_unet3d.toml").read_text()
    quick = text.replace("steps_per_epoch = 50", "steps_per_epoch = 1").replace("[8, 16, 32]", "[2, 4, 8]")
    assert quick != text
    (tmp_path / "quick.toml").write_text(quick)
    ran = train(tmp_path / "quick.toml", tmp_path / "data", tmp_path / "run", "--epochs", 1, "-q")
    assert (ran.code, ran.err) == (0, "")


def test_an_engine_whose_short_numbers_overflow_is_kept_from_use(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Predictor.probabilities

    def overflowing(self: Predictor, image: np.ndarray, *more: Any, **named: Any) -> np.ndarray:
        if any(engine.precision == "bf16" for engine in self.engines):
            raise SelfCheckError("the network's output is not finite")
        return honest(self, image, *more, **named)

    monkeypatch.setattr(Predictor, "probabilities", overflowing)
    assert train(bench.recipe, bench.data, tmp_path / "run").code == 0
    evidence = load_model(tmp_path / "run" / "model.safetensors").spec.evidence
    assert evidence.engines is not None
    assert evidence.engines["torch bf16"].dice == 1
    assert not harmless(evidence, "torch bf16")
    assert not harmless(evidence, "openvino bf16")


def test_a_graph_that_answers_otherwise_than_the_network_is_left_out(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Predictor.probabilities

    def other(self: Predictor, image: np.ndarray, *more: Any, **named: Any) -> np.ndarray:
        found = honest(self, image, *more, **named)
        return found * 0.99 if self.engines[0].name == "openvino" else found

    monkeypatch.setattr(Predictor, "probabilities", other)
    ran = train(bench.recipe, bench.data, tmp_path / "run")
    assert ran.code == 0
    assert re.search(
        r"OpenVINO differs from torch by 0\.0\d+ in probability \(limit 0\.001\), so torch runs the", ran.err
    )
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.graph is None
    assert not any(name.startswith("openvino") for name in model.spec.evidence.engines or {})
