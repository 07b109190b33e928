"""Settings of a training that cannot be meant are refused when they are read."""

from __future__ import annotations

import dataclasses
import math

import pytest

from medseg.core.errors import UsageError
from medseg.training.spec import TrainingSpec


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch", (8, 0, 8)),
        ("batch", 0),
        ("epochs", 0),
        ("steps_per_epoch", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -1e-3),
        ("warmup_steps", -1),
        ("schedule_power", -0.5),
        ("foreground_share", 1.1),
        ("foreground_share", math.nan),
        ("ema_decay", 1.0),
        ("clip_norm", 0.0),
        ("selection_share", 1.0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        TrainingSpec(**{name: value})  # type: ignore[arg-type]


def test_the_ends_of_the_ranges_are_taken() -> None:
    least = {
        "patch": (1, 1, 1), "batch": 1, "epochs": 1, "steps_per_epoch": 1, "momentum": 0.0,
        "weight_decay": 0.0, "warmup_steps": 0, "schedule_power": 0.0, "foreground_share": 0.0,
        "ema_decay": 0.0, "selection_share": 0.0,
    }  # fmt: skip
    taken = dataclasses.asdict(TrainingSpec(**least))  # type: ignore[arg-type]
    assert taken | least == taken
    assert TrainingSpec(foreground_share=1.0).foreground_share == 1.0
