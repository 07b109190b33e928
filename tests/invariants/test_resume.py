"""A training stopped at any step goes on to the same end, bit for bit (invariant 8)."""

from __future__ import annotations

import csv
import tempfile
from functools import cache
from pathlib import Path

import torch
from drawn import SEEDS, examples
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import TRAINING, tiny_trainer

from medseg.training import checkpoint
from medseg.training.loop import Trainer

STEPS = TRAINING.epochs * TRAINING.steps_per_epoch


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, their average, the best ones, the optimizer's moments, and the random state."""
    parts = {
        "network": trainer.network.state_dict(),
        "averaged": trainer.averaged.tensors,
        "best": trainer.best_weights(),
        "optimizer": checkpoint.optimizer_tensors(trainer.optimizer),
        "random": {"generator": trainer.generator.get_state()},
    }
    return {f"{part}/{key}": value.clone() for part, held in parts.items() for key, value in held.items()}


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as lines:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


@cache
def uninterrupted() -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = tiny_trainer(Path(folder))
        trainer.run(lambda _: None)
        return state(trainer), log(Path(folder))


@examples(3)
@given(stops=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=2, unique=True).map(sorted), seed=SEEDS)
def test_a_training_stopped_at_any_steps_ends_as_one_that_was_not(stops: list[int], seed: int) -> None:
    expected, lines = uninterrupted()
    with tempfile.TemporaryDirectory() as folder:
        for stop in [*stops, STEPS]:
            torch.manual_seed(seed)  # a new process has another state
            trainer = tiny_trainer(Path(folder))
            trainer.resume()
            plain = trainer.step

            def step(batch, trainer=trainer, plain=plain, stop=stop):  # type: ignore[no-untyped-def]
                if trainer.progress.step == stop:
                    raise KeyboardInterrupt
                return plain(batch)

            trainer.step = step  # type: ignore[method-assign]
            try:
                trainer.run(lambda _: None)
            except KeyboardInterrupt:
                continue
        found = state(trainer)
        assert found.keys() == expected.keys()
        assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []
        assert log(Path(folder)) == lines
