"""Measuring how long a step takes leaves no trace in the training that follows."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import TRAINING, take_step, tiny_trainer
from torch import Tensor, nn

from medseg.training import budget, clock
from medseg.training import checkpoint as checkpoints
from medseg.training.budget import MARGIN, Length, length_within
from medseg.training.ending import COMPARISON, ENDING_S, MEASUREMENT, Ending
from medseg.training.loop import Trainer


def everything(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of all a training's state, torch's own included."""
    out = {f"network/{k}": v.clone() for k, v in trainer.network.state_dict().items()}
    out |= {f"averaged/{k}": v.clone() for k, v in trainer.averaged.tensors.items()}
    out |= {k: v.clone() for k, v in checkpoints.optimizer_tensors(trainer.optimizer).items()}
    out |= {"generator": trainer.generator.get_state(), "torch": torch.get_rng_state()}
    return out


NO_SCANS = Ending(0.0, 0, 0)
"""Of a training after which no scan is predicted."""


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "WARM_STEPS", 1)
    monkeypatch.setattr(budget, "MEASURED_STEPS", 1)


class Forgetful(nn.Module):
    """A loss that draws from torch's own generator, as dropout does."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.loss(nn.functional.dropout(logits, 0.1), target)


@pytest.mark.parametrize("steps", [0, 2], ids=["before the first step", "in the middle"])
def test_measuring_leaves_no_trace(tmp_path: Path, steps: int) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.loss = Forgetful(trainer.loss)
    for _ in range(steps):
        take_step(trainer, [0, 1])
    before, progress = everything(trainer), replace(trainer.progress)
    assert length_within(trainer, 60.0, NO_SCANS).epochs >= 1
    after = everything(trainer)
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    assert trainer.progress == progress
    assert all(p.grad is None for p in trainer.network.parameters()) or steps
    assert list(tmp_path.iterdir()) == []


def test_a_measured_training_equals_one_that_was_not(tmp_path: Path) -> None:
    measured, plain = tiny_trainer(tmp_path), tiny_trainer(tmp_path)
    length_within(measured, 1.0, NO_SCANS)
    for trainer in (measured, plain):
        take_step(trainer, [0, 1])
        take_step(trainer, [2, 0])
    for key, value in plain.network.state_dict().items():
        assert torch.equal(measured.network.state_dict()[key], value)


def test_the_weights_are_as_before_when_measuring_fails(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}

    def stop(_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    trainer.validate = stop
    with pytest.raises(KeyboardInterrupt):
        length_within(trainer, 1.0, NO_SCANS)
    for key, value in trainer.network.state_dict().items():
        assert torch.equal(before[key], value)


@pytest.mark.fault("reports 21")
def test_as_many_epochs_as_fit_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 2 s and a validation 4 s: an epoch of 3 steps is 10 s."""
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, steps_per_epoch=3))
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])

    def step(_: Trainer, __: object) -> float:
        now[0] += 2.0
        return 0.0

    def validate(_: object) -> dict[str, float]:
        now[0] += 4.0
        return {}

    monkeypatch.setattr(Trainer, "step", step)
    trainer.validate = validate
    whole = length_within(trainer, 1000.0, NO_SCANS)
    fit = int((MARGIN * 992 - ENDING_S) / 10)  # 8 s are measured
    assert whole == Length(fit, 3, fit * 10.0, 10.0, ENDING_S)
    scans = Ending(2 * 16**3, 3, 1)  # each takes the time of a step's voxels, that is 2 s, some times over
    end = ENDING_S + 2.0 * (3 * COMPARISON + MEASUREMENT)
    kept = int((MARGIN * 992 - end) / 10)
    assert kept < fit
    assert length_within(trainer, 1000.0, scans) == Length(kept, 3, kept * 10.0, 10.0, pytest.approx(end))
    assert length_within(trainer, 28.0, NO_SCANS) == Length(1, 2, 8.0, 10.0, ENDING_S)
    assert length_within(trainer, 5.0, NO_SCANS) == Length(1, 1, 6.0, 10.0, ENDING_S)
    assert length_within(trainer, -5.0, NO_SCANS) == Length(1, 1, 6.0, 10.0, ENDING_S)


@pytest.mark.fault("reports 21")
def test_measuring_ends_where_little_time_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 steps of 10 s two are measured, for a budget of 20 s."""
    monkeypatch.setattr(budget, "WARM_STEPS", 2)
    monkeypatch.setattr(budget, "MEASURED_STEPS", 6)
    now, steps = [0.0], [0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])

    def step(_: Trainer, __: object) -> float:
        now[0] += 10.0
        steps[0] += 1
        return 0.0

    monkeypatch.setattr(Trainer, "step", step)
    found = length_within(tiny_trainer(tmp_path), 20.0, NO_SCANS)
    assert steps[0] == 2
    assert (found.epochs, found.steps_per_epoch) == (1, 1)


def test_a_training_whose_epochs_take_longer_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten epochs of 10 s are planned; each takes 13 s, and 100 s are left."""
    now, told = [0.0], []
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    kept = clock.Clock(100.0, told.append)
    kept.begin(0)
    of, epoch = 10, 0
    while epoch < of:
        epoch += 1
        now[0] += 13.0
        of = kept.fitting(epoch, of)
    assert (epoch, told) == (7, [7])
    kept = clock.Clock(1000.0, told.append)
    kept.begin(4)
    now[0] += 10.0
    assert kept.fitting(5, 6) == 6  # time that is left brings no more epochs
    late = clock.Clock(0.0, told.append)
    late.begin(5)
    now[0] += 10.0
    assert late.fitting(6, 9) == 6


def test_fewer_epochs_end_the_training_and_its_schedule(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=5))
    told: list[int] = []
    trainer.clock = clock.Clock(time.monotonic() - 1.0, told.append)
    trainer.run(lambda _: None)
    assert (trainer.progress.epoch, trainer.epochs, told) == (1, 1, [1])
