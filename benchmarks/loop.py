"""The loop of correction: ten cases that `medseg next` proposes against ten at random.

    python benchmarks/loop.py [--budget 75s] [--seeds 3]

Of the hippocampi, 20 cases train two models of one recipe, with two seeds. Ten of the rest are labelled and
kept beside the 20: those of which the two are least sure, ten at random, or none. The first model is trained
on with each, equally long, as `medseg train --data STORE --init MODEL` does, and measured on 40 cases that no
model saw: Dice as a mean over structures and cases. "Corrected" cases are those of the reference. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from training import DEFAULT_DATA, PROGRAM, processor

import medseg
from medseg.core.structures import StructureSet
from medseg.data.cards import load_card
from medseg.data.layouts.monailabel import FINAL
from medseg.data.store import Store
from medseg.io import ReadOptions, read_label_file

RECIPE, CARD = "hippocampus_unet3d", "hippocampus"
BASE, ADDED, MEASURED = 20, 10, 40
MEMBERS = 2


def main() -> None:
    options = arguments()
    card = load_card(CARD)
    cases = {files.case_id: files for files in card.read(options.data / "hippocampus").cases}
    rounds = [one_round(seed, cases, card.structure_set, options) for seed in range(options.seeds)]
    arms = rounds[0]["dice"]
    print(
        json.dumps(
            {
                "benchmark": "loop",
                "versions": {package: version(package) for package in ("medseg", "torch", "numpy")},
                "processor": processor(),
                "threads": options.threads,
                "budget": options.budget,
                "cases": {
                    "base": BASE,
                    "added": ADDED,
                    "pool": len(cases) - BASE - MEASURED,
                    "measured": MEASURED,
                },
                "rounds": rounds,
                "mean_dice": {
                    arm: round(statistics.mean(one["dice"][arm] for one in rounds), 4) for arm in arms
                },
            }
        )
    )


def one_round(
    seed: int, cases: dict[str, Any], structures: StructureSet, options: argparse.Namespace
) -> dict[str, Any]:
    """One choice of cases, and the Dice of what was trained with each addition."""
    folder = options.runs / f"seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng([20, seed])
    names = list(rng.permutation(sorted(cases)))
    base, measured, pool = names[:BASE], names[BASE : BASE + MEASURED], names[BASE + MEASURED :]
    made(folder / "base", cases, base, structures)
    models = []
    for member in range(MEMBERS):
        words = (RECIPE, "--data", folder / "base", "--fold", "none", "--seed", member)
        models.append(trained(words, folder / f"member{member}", options))
    made(folder / "pool", cases, (), structures)
    for name in pool:
        Store(folder / "pool").add(name, cases[name].image)
    asked = [word for model in models for word in ("-m", model)]
    told = medseg_says("next", folder / "pool", *asked, "-n", ADDED, "--json", "-q")
    additions = {
        "none": [],
        "random": [str(name) for name in rng.choice(pool, ADDED, replace=False)],
        "next": [row["case"] for row in json.loads(told)],
    }
    dice = {"before": measured_dice(models[0], cases, measured, structures)}
    for arm, added in additions.items():
        made(folder / arm, cases, [*base, *added], structures)
        words = ("--data", folder / arm, "--init", models[0], "--fold", "none")
        model = trained(words, folder / f"trained_{arm}", options)
        dice[arm] = measured_dice(model, cases, measured, structures)
    shared = len(set(additions["random"]) & set(additions["next"]))
    print(seed, dice, file=sys.stderr)
    return {"seed": seed, "dice": dice, "in both additions": shared}


def made(folder: Path, cases: dict[str, Any], names: Sequence[str], structures: StructureSet) -> None:
    """A folder as `medseg serve` keeps corrected cases."""
    store = Store(folder)
    store.describe("hippocampus", ("MRI",), structures)
    (folder / FINAL).mkdir(parents=True)
    for name in names:
        store.add(name, cases[name].image)
        shutil.copy(cases[name].label, folder / FINAL)


def trained(words: Sequence[object], run: Path, options: argparse.Namespace) -> Path:
    limits = ("--time-budget", options.budget, "--threads", options.threads)
    medseg_says("train", *words, "-o", run, *limits, "-q")
    return run / "model.safetensors"


def medseg_says(*words: object) -> str:
    ran = subprocess.run([*PROGRAM, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def measured_dice(
    model: Path, cases: dict[str, Any], names: Sequence[str], structures: StructureSet
) -> float:
    """Mean over structures and cases."""
    segmenter = medseg.load(model)
    values = []
    for name in names:
        found, truth = segmenter(cases[name].image).labels, read_label_file(cases[name].label, ReadOptions())
        for s in structures:
            masks = (np.asarray(labels.array) == s.value for labels in (found, truth))
            values.append(medseg.metrics.dice(*masks))
    return round(float(np.mean(values)), 4)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budget", default="75s", help="of each of the five trainings of a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs/loop"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
