"""Several processes that train one network: what each computes, and that the result is that of one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.data.phantom import write_phantoms
from medseg.model.file import load_model
from medseg.training.team import ALONE, Team, started
from tests.helpers.commands import medseg
from tests.helpers.team_step import weights_after

ROOT = Path(__file__).parents[2]
TINY = """
name = "tiny"
card = "phantom"
[network]
name = "unet3d"
widths = [4, 8]
norm = "instance"
[training]
patch = [16, 16, 16]
batch = 4
steps_per_epoch = 12
learning_rate = 1e-2
selection_share = 0.0
precision = "f32"
"""


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Two processes, each with one thread."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*run, *map(str, words)], check=False, capture_output=True, text=True, env=environment, cwd=ROOT
    )


def test_a_process_by_itself_is_alone() -> None:
    with started() as team:
        assert team is ALONE
    assert team.leads
    assert team.agreed("here") == "here"
    assert team.mean(2.0) == 2.0
    module = torch.nn.Linear(1, 1)
    assert team.joined(module, some_unused=False) is module


def test_every_patch_of_a_batch_is_learnt_once() -> None:
    batch = [5, 3, 8, 1, 0, 2]
    shares = [Team(rank, 3).share(batch) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(n for share in shares for n in share) == sorted(batch)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    Team(0, 2).require_shares(4)
    with pytest.raises(UsageError, match=r"3 processes cannot share a batch of 4 patches"):
        Team(0, 3).require_shares(4)


@pytest.mark.slow
def test_two_processes_step_as_one_does(tmp_path: Path) -> None:
    done = torchrun("-m", "tests.helpers.team_step", tmp_path / "weights.pt")
    assert done.returncode == 0, done.stderr
    together = torch.load(tmp_path / "weights.pt", weights_only=True)
    alone = weights_after(ALONE, tmp_path)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.allclose(together[name], value, atol=1e-5), name


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_go_on(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", "decathlon", 4, 0, (20, 24, 16))
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ["train", tmp_path / "tiny.toml", "--data", tmp_path / "data", "--fold", "none"]
    medseg(*words, "-o", tmp_path / "one", "--epochs", "6")
    done = torchrun("-m", "medseg", *words, "-o", tmp_path / "two", "--epochs", "6")
    assert done.returncode == 0, done.stderr
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 6
    assert two[-1] == pytest.approx(one[-1], rel=0.1)
    assert done.stderr.count("epoch 6/6") == 1
    assert load_model(tmp_path / "two").spec.training.steps == 72
    again = torchrun("-m", "medseg", *words, "-o", tmp_path / "two", "--epochs", "6")
    assert again.returncode == 0, again.stderr
    assert "resuming after epoch 6 of 6" in again.stderr


def losses(run: Path) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_train_both_stages_of_a_cascade(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", "decathlon", 4, 0, (20, 24, 16))
    cascade = "[cascade]\nspacing_mm = [4.0, 4.0, 4.0]\npatch = [8, 8, 8]\nwidths = [4, 8]\n"
    (tmp_path / "tiny.toml").write_text(TINY + cascade)
    words = ["train", tmp_path / "tiny.toml", "--data", tmp_path / "data", "--fold", "none"]
    done = torchrun("-m", "medseg", *words, "-o", tmp_path / "run", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "run")
    assert model.coarse is not None
    assert model.coarse.spec.training.steps == model.spec.training.steps == 24
    assert done.stderr.count("epoch 2/2") == 2
