"""What the trainers of `training_speed.py` share: the job, the network, and steps counted and timed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WIDTHS = (16, 32, 64, 128, 160)
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2


@dataclass(frozen=True)
class Job:
    """What is trained, and with what.

    Attributes:
        data: a dataset in nnU-Net's layout, its folder named Dataset001_Speed.
        folder: for whatever a trainer writes.
        outputs: labels, the background among them.
        spacing_mm: of every scan.
        patch, batch: of a step.
        device: "cpu" or "cuda".
        threads: of torch.
        workers: processes that prepare patches, of the trainers that have such.
    """

    data: str
    folder: str
    outputs: int
    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    batch: int
    device: str
    threads: int
    workers: int


def read_job() -> Job:
    """The job in the file that the command line names first."""
    return Job(**json.loads(Path(sys.argv[1]).read_text("utf-8")))


def network_of(job: Job) -> torch.nn.Module:
    """The network, in the memory layout that torch gives it; the weights are the same at every call."""
    from medseg.networks import create

    torch.manual_seed(0)
    return create("unet3d", 1, job.outputs, widths=WIDTHS, norm="batch", options={"bias": False})


def optimizer_of(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)


class Pace:
    """Lets a trainer go on for as many steps as it is asked for, and says how long they took.

    A line on stdin with a number of steps begins a round, a line of JSON on stdout ends it. What a trainer
    prints goes to stderr.
    """

    def __init__(self, job: Job) -> None:
        self.answers, sys.stdout = sys.stdout, sys.stderr
        self.on_gpu = job.device != "cpu"
        self.steps = self.left = 0
        self.began = self.inside = 0.0

    def step(self, call: Callable[..., Any], *given: Any) -> Any:
        """One step of the trainer; what is not spent in here is spent on waiting for the next batch."""
        if not self.steps:
            self._begin()
        began = time.perf_counter()
        found = call(*given)
        if self.on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.inside += now - began
        self.left -= 1
        if not self.left:
            said = {"seconds": now - self.began, "in_steps_s": self.inside}
            print(json.dumps(said), file=self.answers, flush=True)
            self._begin()
        return found

    def _begin(self) -> None:
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        self.steps = self.left = int(line)
        self.began, self.inside = time.perf_counter(), 0.0
