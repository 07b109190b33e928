"""How much of a training is the network's: the share of time in steps, for every recipe of `pipelines/`.

    python benchmarks/training_share.py [--recipes brain hippocampus_unet3d] [--steps 24] [--threads 2]

Each recipe trains for a few steps in a process of its own, on its dataset, as `medseg train` does. A step is
the network forwards and backwards, the loss, the optimiser and the mean of the weights; what is left is spent
on the next batch: patches cut, turned, bent and, for brains, made from label maps. A batch is made beside the
step before it and takes its cores. So the share is what a step takes while no batch is made, over what it
takes in a training, waiting included; `share_not_waiting` is the share of time that lies within steps.

Real data is looked for in ../shared/data, or where MEDSEG_DATA says; phantoms are made for the two cards
that have none there. Prints one line of JSON; exits with 1 where a recipe's share is below 0.85.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training import DEFAULT_DATA, processor

import medseg
from medseg.data.phantom import write_phantoms
from medseg.training.batch import Batch
from medseg.training.loop import Trainer
from medseg.training.recipe import load_recipe

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
FOLDERS = {
    "brain": "brain_labels",
    "brats": "brats2013",
    "brats2013": "brats2013",
    "hippocampus": "hippocampus",
}
PHANTOMS = {"phantom": "decathlon", "promise12": "promise12", "bodies": "touching", "lesions": "lesions"}
TARGET = 0.85
CASES = 8
WARM_STEPS = 4
MANY = 100_000


class Enough(Exception):
    """As many steps as were wanted are done."""


def main() -> int:
    options = arguments()
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    names = options.recipes or sorted(path.stem for path in PIPELINES.glob("*.toml"))
    shares = {}
    for name in names:
        command = [
            sys.executable,
            __file__,
            "--inside",
            name,
            str(data),
            str(options.steps),
            str(options.threads),
        ]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        shares[name] = json.loads(ran.stdout.splitlines()[-1])
        print(name, shares[name], file=sys.stderr)
    lowest = min(found["share_in_the_network"] for found in shares.values())
    line = {
        "benchmark": "training_share",
        "versions": {name: version(name) for name in ("medseg", "torch", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        "steps": options.steps,
        "recipes": shares,
        "lowest": lowest,
        "target": TARGET,
        "pass": lowest >= TARGET,
    }
    print(json.dumps(line))
    return 0 if line["pass"] else 1


def of_recipe(name: str, data: Path, steps: int, threads: int) -> dict[str, float]:
    """Trains so many steps after the first few, and times them."""
    recipe, clock = load_recipe(name), Clock(steps)
    plain = Trainer.step
    Trainer.step = lambda trainer, batch: clock.step(plain, trainer, batch)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        cases = Path(folder) / "cases"
        if recipe.card in PHANTOMS:
            write_phantoms(cases, PHANTOMS[recipe.card], CASES, 0)
        else:
            link_few(data / FOLDERS[recipe.card], cases)
        medseg.train(
            cases,
            output=Path(folder) / "run",
            recipe=recipe,
            fold=None,
            threads=threads,
            epochs=max(2, MANY // recipe.training.steps_per_epoch),
        )
    return clock.found()


def link_few(dataset: Path, to: Path) -> None:
    """A dataset of the first cases of another, so that reading takes no longer than the steps."""
    for path in sorted(dataset.rglob("*")):
        link = to / path.relative_to(dataset)
        link.parent.mkdir(parents=True, exist_ok=True)
        scans = [one for one in link.parent.iterdir() if one.name.endswith(".nii.gz")]
        if path.is_file() and (len(scans) < CASES or not path.name.endswith(".nii.gz")):
            link.symlink_to(path.resolve())
    about = to / "dataset.json"
    if about.exists():
        stated = json.loads(about.read_text("utf-8"))
        stated["training"] = stated["training"][:CASES]
        about.unlink()
        about.write_text(json.dumps(stated), encoding="utf-8")


class Clock:
    """Seconds within steps and between them; ends the training after enough of them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.inside: list[float] = []
        self.ends: list[float] = []
        self.alone: list[float] = []
        self.batches: list[float] = []

    def step(self, call: Any, trainer: Trainer, batch: Batch) -> float:
        began = time.perf_counter()
        loss = call(trainer, batch)
        self.ends.append(time.perf_counter())
        self.inside.append(self.ends[-1] - began)
        if len(self.ends) > WARM_STEPS + self.steps:
            self._one_at_a_time(call, trainer, batch)
            raise Enough
        return float(loss)

    def _one_at_a_time(self, call: Any, trainer: Trainer, batch: Batch) -> None:
        """A batch, then a step, neither beside the other."""
        ids = [case.case_id for case in trainer.cases]
        numbers = [ids.index(one) for one in batch.case_ids]
        for _ in range(self.steps):
            began = time.perf_counter()
            made = trainer.batch(numbers, trainer.progress.step)
            self.batches.append(time.perf_counter() - began)
            began = time.perf_counter()
            call(trainer, made)
            self.alone.append(time.perf_counter() - began)

    def found(self) -> dict[str, float]:
        taken = self.ends[-1] - self.ends[WARM_STEPS]
        inside = sum(self.inside[WARM_STEPS + 1 :])
        alone = statistics.fmean(self.alone)
        return {
            "share_in_the_network": round(min(1.0, alone * self.steps / taken), 4),
            "share_not_waiting": round(inside / taken, 4),
            "seconds_a_step": round(taken / self.steps, 4),
            "seconds_a_step_alone": round(alone, 4),
            "seconds_a_batch_alone": round(statistics.fmean(self.batches), 4),
        }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="*")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        found = of_recipe(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
        print(json.dumps(found))
        sys.exit(0)
    sys.exit(main())
