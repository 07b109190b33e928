"""Whether a cascade pays where patches see too little: bodies whose two nodes are named by a far mark.

    python benchmarks/cascade.py [--runs DIR] [--cases 24] [--epochs 10]

The phantoms are those of `medseg/data/phantom/marked.py`: a patch of 32^3 of 160x64x64 voxels holds no node
together with the mark that names it, and voxels of 4 mm, of which a patch holds the whole body, blur the
borders of the nodes. Equally many steps train: the fine network alone; the coarse network alone; half of them
each, as a cascade. And once more the cascade with the same coarse stage, without changes of what that found
(`[cascade.augmentation]`). All are measured on the same cases, which none of them saw. One JSON line; the
cascade must be better than both stages alone by at least `--margin` of mean Dice. Times are of one core,
without waiting for it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from training import processor

import medseg
from medseg.augment.spec import AugmentSpec, CoarseSpec, FlipSpec
from medseg.core import specs
from medseg.data.cards import Card
from medseg.data.phantom import marked
from medseg.model.spec import NetworkSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.training.recipe import Recipe
from medseg.training.run import COARSE
from medseg.training.spec import CascadeSpec, TrainingSpec

COARSE_MM, COARSE_PATCH, COARSE_WIDTHS = (4.0, 4.0, 4.0), (40, 16, 16), (8, 16, 32, 64)
UNCHANGED = CoarseSpec(moved=0.0, missed=0.0)


def main() -> None:
    options = arguments()
    data, card = options.runs / "data", options.runs / "card.toml"
    if not data.exists():
        marked.write_marked_phantoms(data, options.cases)
        about = marked.ABOUT
        written = Card("marked", about.description, "decathlon", about.channels, about.structures.items)
        card.write_text(specs.to_toml(written))
    fine, coarse, cascade = recipes(card)
    twice = 2 * options.epochs
    found = {
        "fine stage alone": trained(fine, data, options.runs / "fine", twice),
        "coarse stage alone": trained(coarse, data, options.runs / "coarse", twice),
        "cascade": trained(cascade, data, options.runs / "cascade", options.epochs),
        "cascade, coarse answer unchanged": unchanged(cascade, data, options),
    }
    means = {name: statistics.fmean(part["dice"].values()) for name, part in found.items()}
    best_alone = max(means["fine stage alone"], means["coarse stage alone"])
    line = {
        "benchmark": "cascade",
        "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "numpy")},
        "processor": processor(),
        "threads": 1,
        "cases": options.cases,
        "patch_share_of_a_scan": round(float(np.prod(fine.training.patch) / np.prod(marked.SHAPE)), 3),
        "steps": twice * fine.training.steps_per_epoch,
        "trainings": found,
        "mean_dice": {name: round(mean, 4) for name, mean in means.items()},
        "gain": round(means["cascade"] - best_alone, 4),
        "target": options.margin,
        "pass": means["cascade"] - best_alone >= options.margin,
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs") / "cascade", help="data, card and runs")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=10, help="of each stage of the cascade, of 60 steps")
    parser.add_argument("--margin", type=float, default=0.1, help="of mean Dice that the cascade must gain")
    parsed = parser.parse_args()
    parsed.runs.mkdir(parents=True, exist_ok=True)
    return parsed


def recipes(card: Path) -> tuple[Recipe, Recipe, Recipe]:
    """Of the fine stage alone, the coarse stage alone, and the cascade."""
    fine = Recipe(
        "fine",
        str(card),
        NetworkSpec("unet3d", widths=(8, 16, 32), norm="batch", options={"bias": False}),
        augmentation=AugmentSpec(flip=FlipSpec((0, 1, 2))),
        training=TrainingSpec(
            patch=(32, 32, 32),
            steps_per_epoch=60,
            learning_rate=5e-3,
            foreground_share=0.7,
            ema_decay=0.98,
            selection_share=0.0,
        ),
    )
    coarse = replace(
        fine,
        name="coarse",
        network=replace(fine.network, widths=COARSE_WIDTHS),
        preparation=PreparationSpec(COARSE_MM),
        training=replace(fine.training, patch=COARSE_PATCH),
    )
    cascade = replace(fine, name="cascade", cascade=CascadeSpec(COARSE_MM, COARSE_PATCH, COARSE_WIDTHS))
    return fine, coarse, cascade


def trained(recipe: Recipe, data: Path, run: Path, epochs: int) -> dict[str, Any]:
    """Seconds of the processor, and Dice on the cases that were held out."""
    began = time.process_time()
    done = medseg.train(data, output=run, recipe=recipe, epochs=epochs, threads=1, device="cpu")
    seconds = time.process_time() - began
    dice = {name: round(score.dice or 0.0, 4) for name, score in done.scores.items()}
    return {"processor_seconds": round(seconds, 1), "dice": dice, "cases_measured": len(done.scores.cases)}


def unchanged(cascade: Recipe, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A fine stage for the same coarse stage, whose answer is not changed; seconds are of the fine stage."""
    if cascade.cascade is None:
        raise ValueError("the recipe is no cascade")
    plain = replace(cascade, cascade=replace(cascade.cascade, augmentation=UNCHANGED))
    run = options.runs / "unchanged"
    if not run.exists():
        shutil.copytree(options.runs / "cascade" / COARSE, run / COARSE)
    return trained(plain, data, run, options.epochs)


if __name__ == "__main__":
    main()
