"""The log: one row an epoch, whole at any moment, without the rows that will be trained again."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from medseg.core.errors import InputError
from medseg.training.log import TrainingLog


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(folder: Path, done: int, epochs: range, loss: float = 1.0) -> None:
    log = TrainingLog(folder, done)
    for epoch in epochs:
        log.add(epoch, {"loss": loss / epoch, "dice/left lobe": math.nan})
    log.close()


def test_an_epoch_is_a_row(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 4))
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert rows(tmp_path)[2] == {"epoch": "3", "loss": "0.333333", "dice/left lobe": "nan"}
    assert list((tmp_path / "tensorboard").iterdir())


def test_rows_of_epochs_that_are_trained_again_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 6))
    write(tmp_path, 3, range(4, 6), loss=8.0)
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5"]
    assert [row["loss"] for row in rows(tmp_path)] == ["1", "0.5", "0.333333", "2", "1.6"]


def test_a_training_that_begins_anew_has_a_new_log(tmp_path: Path) -> None:
    write(tmp_path, 0, range(1, 6))
    write(tmp_path, 0, range(1, 2))
    assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize("text", ["a;b\n1;2\n", "epoch,loss\nfirst,1\n", "epoch\n1\x00\n"])
def test_a_file_that_is_no_log_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match="is not the log of a training"):
        TrainingLog(tmp_path, 3)
    assert (tmp_path / "log.csv").read_text() == text
