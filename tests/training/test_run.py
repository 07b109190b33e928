"""A run: begun once, gone on with by the same command, held by one process, deleted with care."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.core.errors import InputError, UsageError
from medseg.data.cards import load_card
from medseg.training.recipe import load_recipe
from medseg.training.run import Begun, Run
from medseg.training.split import Split, make_split

CARD = load_card("phantom")
RECIPE = load_recipe("phantom_unet3d").fitted_to(CARD)
SPLIT = make_split({f"c{n}": f"c{n}" for n in range(6)}, folds=3, fold=0, selection_share=0.2, seed=0)
HOLD = """
import os, sys
from pathlib import Path
from medseg.training.run import Begun, Run

process = int(sys.argv[2])
os.getpid = lambda: process or os.getppid()
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
COMMAND = {"epochs": None, "time_budget_s": 60.0}


@contextmanager
def holding(folder: Path, process: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process trains in a folder, and says that it has a number."""
    words = [sys.executable, "-c", HOLD, str(folder), str(process)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        if other.stdin is not None and other.poll() is None:
            other.stdin.close()


def begin(run: Run, split: Split = SPLIT, **changes: object) -> Begun:
    return run.begin(replace(RECIPE, **changes), CARD, split, COMMAND)


def test_the_same_settings_go_on_and_others_are_refused_by_name(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    stored = begin(run)
    run.fix_length(stored, 7)
    assert begin(run).epochs == 7
    text = run.settings_path.read_text()
    for changes, what in (
        ({"name": "x"}, 'name of the recipe (was "phantom_unet3d", is "x")'),
        ({"split": replace(SPLIT, seed=1)}, "--seed (was 0, is 1)"),
        ({"split": replace(SPLIT, folds=9)}, f"--folds (was {SPLIT.folds}, is 9)"),
    ):
        with pytest.raises(UsageError, match=f"other settings: {re.escape(what)}; repeat the command"):
            begin(run, **changes)
    for key, told in (
        ("epochs", "--epochs (was none, is 3)"),
        ("time_budget_s", "--time-budget in seconds (was 60.0, is 3)"),
    ):
        with pytest.raises(UsageError, match=f"settings: {re.escape(told)}; repeat"):
            run.begin(RECIPE, CARD, SPLIT, COMMAND | {key: 3})
    assert run.settings_path.read_text() == text


def test_where_a_card_lies_is_no_setting_and_what_it_says_is_one(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    begin(run, card="run/card.toml")
    begin(run, card=str(tmp_path / "moved" / "card.toml"))
    assert str(tmp_path) not in run.settings_path.read_text()
    with pytest.raises(UsageError, match=r'layout of the card \(was "decathlon", is "folder"\)'):
        run.begin(RECIPE, replace(CARD, layout="folder"), SPLIT, COMMAND)
    stored = json.loads(run.settings_path.read_text())
    stored["recipe"]["card"] = "where/an/older/version/found/card.toml"
    run.settings_path.write_text(json.dumps(stored))
    begin(run)


def test_what_a_run_stores_stays_as_it_was(tmp_path: Path) -> None:
    """Runs begun by an older version go on: the keys of `run.json` do not change."""
    run = Run(tmp_path / "run")
    run.fix_length(begin(run), 3)
    stored = json.loads(run.settings_path.read_text())
    assert set(stored) == {"schema", "recipe", "split", "command", "epochs"}
    assert stored["schema"] == "medseg.run/1"
    assert set(stored["split"]) == {"train", "selection", "validation", "folds", "fold", "seed"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty and does not contain a run"):
        begin(Run(tmp_path))
    with pytest.raises(UsageError, match="is a file"):
        begin(Run(tmp_path / "letter.txt"))
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InputError),
        ("{", InputError),
        ("[]", InputError),
        ('{"epochs": "x"}', InputError),
        ("{}", UsageError),
    ],
)
def test_a_damaged_description_is_said(tmp_path: Path, text: str, error: type[Exception]) -> None:
    run = Run(tmp_path)
    run.settings_path.write_text(text)
    with pytest.raises(error):
        begin(run)


@pytest.mark.fault("reports 19")
@pytest.mark.fault("reliability 90")
def test_row_90_one_process_at_a_time(tmp_path: Path) -> None:
    """Whose number is ours is another process all the same: the first process of every container is 1."""
    run = Run(tmp_path)
    with holding(tmp_path, process=os.getpid()):
        host = re.escape(platform.node())
        told = f"process {os.getpid()} on the host {host} \\(since 2.+\\) is training in this folder"
        with pytest.raises(UsageError, match=told), run.locked():
            pass
    tmp_path.mkdir()  # whoever leaves an empty folder behind removes it
    (tmp_path / "run.json").write_text("{}")
    with run.locked():
        assert json.loads(run.owner_path.read_text())["process"] == os.getpid()
        with pytest.raises(UsageError, match="is training in this folder"), Run(tmp_path).locked():
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("left", ["", "not a number", '{"host": "other", "process": 1, "since": "2026"}'])
@pytest.mark.fault("reports 19")
def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path, left: str) -> None:
    run = Run(tmp_path)
    with holding(tmp_path) as other:
        other.kill()
    assert run.lock_path.exists()
    run.owner_path.write_text(left)
    (tmp_path / "run.json").write_text("{}")
    with run.locked():
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_who_holds_a_run_is_said_as_far_as_it_is_known(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with holding(tmp_path):
        run.owner_path.write_text("[]")
        with pytest.raises(UsageError, match="another process is training in this folder"), run.locked():
            pass


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
    with holding(run.folder), pytest.raises(UsageError, match="is training in this folder"):
        run.clear()
    assert run.settings_path.exists()


def data(**changes: str) -> dict[str, dict[str, str]]:
    return {"a": {"image": "1", "labels": "2"} | changes, "b": {"image": "3", "labels": "4"}}


@pytest.mark.fault("reports 21")
def test_a_run_keeps_the_length_of_a_shorter_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fix_length(begin(run), 1, 7)
    stored = begin(run)
    assert (stored.epochs, stored.steps_per_epoch) == (1, 7)


@pytest.mark.fault("reports 16")
def test_a_run_knows_what_its_data_held(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    stored = begin(run)
    assert run.fix_data(stored, data()) == (begin(run), False)
    assert begin(run).data == data()
    _, unknown = run.fix_data(begin(run), data(labels="5"))
    assert not unknown, "nothing was trained on it yet"
    assert begin(run).data == data(labels="5")
    run.checkpoints_path.mkdir()
    (run.checkpoints_path / "last.safetensors").write_text("x")
    assert run.fix_data(begin(run), data(labels="5")) == (begin(run), False)
    text = run.settings_path.read_text()
    with pytest.raises(UsageError, match="was started with other data: labels of a changed") as told:
        run.fix_data(begin(run), data())
    assert "restore the files to resume" in str(told.value)
    with pytest.raises(UsageError, match="image of a, labels of a, image of b and 1 more changed"):
        run.fix_data(begin(run), {"a": {}, "b": {}})
    assert run.settings_path.read_text() == text


@pytest.mark.fault("reports 16")
def test_a_run_of_an_older_version_learns_what_its_data_holds(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    begin(run)
    run.checkpoints_path.mkdir()
    (run.checkpoints_path / "last.safetensors").write_text("x")
    assert [run.fix_data(begin(run), data())[1] for _ in range(2)] == [True, False]


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
