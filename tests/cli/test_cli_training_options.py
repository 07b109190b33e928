"""Options of `medseg plan` and `medseg train`: a fault in them is told before anything is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import apart, done, refused

from medseg.data.phantom import write_phantoms
from medseg.training.planning import dataset, memory
from medseg.training.planning.speed import Speed

BOTH = [
    (("--profile", "fastest"), "the profile 'fastest' does not exist; did you mean 'fast'?"),
    (("--profile", "fast", "--time-budget", "20m"), "--profile and --time-budget exclude each other"),
    (("--time-budget", "soon"), "--time-budget 'soon' is not a duration"),
    (("--max-memory", "much"), "'much' is not an amount of memory"),
    (("--device", "gpu"), "--device 'gpu' is not a device; give auto, cpu, cuda, cuda:N or mps"),
    (("--names", "liver"), "--names 'liver' does not name label values"),
    (("--fold", "first"), "--fold 'first' is not a fold"),
    (("--fold", "\u00b2"), "--fold '\u00b2' is not a fold"),
    (("--fold", "5"), "fold 5 of 5 does not exist; choose 0 to 4"),
    (("--fold", "3", "--folds", "3"), "fold 3 of 3 does not exist; choose 0 to 2"),
    (("--fold", "none", "--folds", "3"), "--fold none trains on every case, and --folds 3 holds some out"),
    (("--use-form", "xform"), "the form to use must be sform or qform, not 'xform'"),
    (("--fill-nan", "inf"), "must be a finite float32, not inf"),
]
TRAIN = [
    (("--epochs", 3, "--time-budget", "20m"), "--epochs and --time-budget exclude each other"),
    (("--freeze", "encoder"), "--freeze 'encoder' keeps weights that are random without --init"),
    (("--seed", 2**63), "seed must be at least 0 and below 2^63"),
    (("--slurm", "--fold", 1), "--slurm trains every fold as a job"),
    (("--slurm", "--time-budget", "1h"), "--slurm needs a length that does not depend on the machine"),
    (("--slurm", "--dry-run"), "--dry-run writes nothing"),
    (("no_such_recipe",), "the recipe 'no_such_recipe' does not exist"),
    (("no_such_recipe", "--slurm"), "the recipe 'no_such_recipe' does not exist"),
    (("phantom_unet3d", "--profile", "fast"), "--profile is for a plan, and a recipe is one"),
    (("phantom_unet3d", "--names", "1=liver"), "--names is for a plan"),
    (("phantom_unet3d", "--max-memory", "3G"), "--max-memory is for a plan"),
]


@pytest.mark.parametrize(("words", "said"), BOTH)
@pytest.mark.parametrize("verb", ["plan", "train"])
def test_what_options_say_by_themselves_is_refused_first(
    verb: str, words: tuple[object, ...], said: str, tmp_path: Path
) -> None:
    """The folder of the data does not exist, which nobody has looked at yet."""
    out = () if verb == "plan" else ("-o", tmp_path / "run")
    assert said in refused(2, verb, "--data", tmp_path / "none", *out, *words)


@pytest.mark.parametrize(("words", "said"), TRAIN)
def test_options_that_contradict_each_other_are_refused_first(
    words: tuple[object, ...], said: str, tmp_path: Path
) -> None:
    assert said in refused(2, "train", "--data", tmp_path / "none", "-o", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words", [("plan", "--device", "gpu"), ("train", "-o", "run", "--freeze", "encoder")]
)
def test_options_are_refused_before_torch_is_imported(words: tuple[str, ...], tmp_path: Path) -> None:
    ran = apart(tmp_path, *words, "--data", tmp_path / "none")
    assert ran.ran.code == 2, ran.ran.err
    assert not ran.modules & {"torch", "scipy", "openvino", "nibabel"}


def test_a_device_that_is_not_there_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    words = ("--data", tmp_path / "none", "--device", "cuda:63")
    assert "the device 'cuda:63' is not available" in refused(2, "plan", *words)
    assert "the device 'cuda:63' is not available" in refused(2, "train", *words, "-o", tmp_path / "run")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "measured_speed", lambda *_, **__: Speed(1e-6))
    monkeypatch.setattr(memory, "held_bytes", lambda: 300 << 20)


def patients(folder: Path, count: int) -> Path:
    """Phantoms of so many patients, as people have them."""
    write_phantoms(folder, "nnunet", max(3, count), 0, (20, 24, 16))
    (folder / "dataset.json").unlink()
    shutil.move(folder / "labelsTr", folder / "masks")
    for number in range(count, 3):
        (folder / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz").unlink()
        (folder / "masks" / f"phantom_{number:03d}.nii.gz").unlink()
    return folder


@pytest.mark.usefixtures("machine")
def test_plan_and_train_refuse_two_patients_alike_and_take_the_same_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = patients(tmp_path / "two", 2)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "fingerprint", lambda *_: pytest.fail("the cases were read"))
        lines = {
            refused(3, "plan", "--data", data),
            refused(3, "train", "--data", data, "-o", tmp_path / "run"),
            refused(3, "train", "--data", data, "-o", tmp_path / "run", "--dry-run"),
        }
    (line,) = lines
    assert "2 cases (or groups of cases) are too few for 5 folds" in line
    assert line.endswith("add cases, or give --folds 2")
    for words in (("--folds", 2), ("--fold", "none")):
        done("plan", "--data", data, *words)
        done("train", "--data", data, "-o", tmp_path / "run", "--dry-run", *words)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("count", [3, 4])
def test_three_or_four_patients_are_a_fold_each_and_that_is_said(count: int, tmp_path: Path) -> None:
    data = patients(tmp_path / "few", count)
    note = (
        f"note: {count} patients are too few for the usual 5 folds, so each is a fold: fold 0 of {count} is "
        "measured at the end"
    )
    assert note in done("plan", "--data", data).err.splitlines()
    words = ("train", "--data", data, "-o", tmp_path / "run")
    assert note in done(*words, "--dry-run").err.splitlines()
    assert "note" not in done(*words, "--dry-run", "--folds", 3).err


@pytest.mark.usefixtures("machine")
def test_a_plan_is_for_the_folds_that_are_asked_for(tmp_path: Path) -> None:
    data, out = patients(tmp_path / "few", 3), tmp_path / "plan"
    told = done("plan", "--data", data, "--folds", 3, "--time-budget", "30m", "-o", out)
    assert "chosen at the end: over the cases of all folds" in told.out
    assert "for 10 minutes" in told.out, "a third of the time"
    assert told.err.splitlines()[-1].endswith("-o run --folds 3")
    line = refused(2, "plan", "--data", tmp_path / "none", "-o", out)
    assert "exists already" in line, "before the data are looked for"
