"""A run: begun once, gone on with by the same command, held by one process, deleted with care."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.cards import load_card, load_recipe
from medseg.errors import InputError, UsageError
from medseg.training.split import Split, make_split
from medseg.workflows.run import Run

RECIPE = load_recipe("phantom_unet3d").fitted_to(load_card("phantom"))
SPLIT = make_split({f"c{n}": f"c{n}" for n in range(6)}, folds=3, fold=0, selection_share=0.2, seed=0)
COMMAND = {"epochs": None, "time_budget_s": 60.0}


def begin(run: Run, split: Split = SPLIT, **changes: object) -> dict:
    return run.begin(replace(RECIPE, **changes), split, COMMAND)


def test_the_same_settings_go_on_and_others_are_refused_by_name(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    stored = begin(run)
    run.fix_epochs(stored, 7)
    assert begin(run)["epochs"] == 7
    text = run.settings_path.read_text()
    for changes, what in (({"description": "x"}, "recipe"), ({"split": replace(SPLIT, seed=1)}, "split")):
        with pytest.raises(UsageError, match=f"other settings \\({what}\\)"):
            begin(run, **changes)
    with pytest.raises(UsageError, match=r"\(command\)"):
        run.begin(RECIPE, SPLIT, COMMAND | {"epochs": 3})
    assert run.settings_path.read_text() == text


def test_what_a_run_stores_stays_as_it_was(tmp_path: Path) -> None:
    """Runs begun by an older version go on: the keys of `run.json` do not change."""
    run = Run(tmp_path / "run")
    run.fix_epochs(begin(run), 3)
    stored = json.loads(run.settings_path.read_text())
    assert set(stored) == {"schema", "recipe", "split", "command", "epochs"}
    assert stored["schema"] == "medseg.run/1"
    assert set(stored["split"]) == {"train", "selection", "validation", "folds", "fold", "seed"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        begin(Run(tmp_path))
    with pytest.raises(UsageError, match="is a file"):
        begin(Run(tmp_path / "letter.txt"))
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(("text", "error"), [("", InputError), ("{", InputError), ("[]", UsageError)])
def test_a_damaged_description_is_said(tmp_path: Path, text: str, error: type[Exception]) -> None:
    run = Run(tmp_path)
    run.settings_path.write_text(text)
    with pytest.raises(error):
        begin(run)


@pytest.mark.fault("reliability 90")
def test_row_90_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lock = tmp_path / "run.lock"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lock.write_text(str(other.pid))
        with pytest.raises(UsageError, match=f"process {other.pid} is training here"), run.locked():
            pass
        assert lock.exists()
        other.communicate(b"\n")
    (tmp_path / "run.json").write_text("{}")
    with run.locked():
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()


@pytest.mark.parametrize("left", ["", "not a number", "999999999"])
def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path, left: str) -> None:
    (tmp_path / "run.lock").write_text(left)
    (tmp_path / "run.json").write_text("{}")
    with Run(tmp_path).locked():
        pass
    assert not (tmp_path / "run.lock").exists()


def test_deleting_a_run_takes_only_what_is_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    begin(run)
    for name in (
        "checkpoints/last.safetensors",
        "tensorboard/events",
        "log.csv",
        "model.safetensors",
        "notes.txt",
    ):
        (run.folder / name).parent.mkdir(exist_ok=True)
        (run.folder / name).write_text("x")
    run.clear()
    assert [p.name for p in run.folder.iterdir()] == ["notes.txt"]


def test_a_live_run_is_never_deleted(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    begin(run)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (run.folder / "run.lock").write_text(str(other.pid))
        with pytest.raises(UsageError, match="is training here"):
            run.clear()
        other.communicate(b"\n")
    assert run.settings_path.exists()


@pytest.mark.parametrize("trained", [False, True])
def test_a_run_that_failed_before_its_first_checkpoint_is_forgotten(tmp_path: Path, trained: bool) -> None:
    run = Run(tmp_path / "run")
    begin(run)
    run.checkpoints_path.mkdir()
    if trained:
        (run.checkpoints_path / "last.safetensors").write_text("x")

    def work() -> None:
        with run.locked(), run.begun():
            raise InputError("bad data")

    with pytest.raises(InputError):
        work()
    assert run.settings_path.exists() == trained
    assert run.folder.exists() == trained
