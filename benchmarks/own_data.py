"""Folders as they lie, trained on by `medseg train --data` alone: Dice on unseen cases, time kept.

    python benchmarks/own_data.py left_atrium [--budget 60m] [--folds 5] [--network vnet]
    python benchmarks/own_data.py hippocampus [--budget 60m] [--folds 5]
    python benchmarks/own_data.py prostate [--budget 35m] [--recipe promise12_vnet]
    python benchmarks/own_data.py brats [--budget 40m] [--recipe brats_unet3d]

No recipe, card or name is given but with --recipe, which is trained as long, on the same folds. Scans 01
to 16 of the left atria train and 17 to 20 are measured, with one model of all or with the models of --folds;
of the others each fold's own cases are measured (of the hippocampus, the first of five without --folds). A
budget is that of all folds together. --network plans as ever and trains another network by that plan.

Each trains, goes on with, or just reads its run in `runs/` (--runs), and prints one JSON line. Seconds of a
training are those of its command, and mean something on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training import DEFAULT_DATA, PROGRAM, dice_of_cases, mean_of, processor

from medseg.core.specs import to_toml
from medseg.model.file import find_models, load_model
from medseg.training.recipe import load_recipe

TRAINED = 16
"""Scans of the left atria that train."""


@dataclass(frozen=True)
class Part:
    """A dataset and what is wanted of it.

    Attributes:
        folder: below the folder of data.
        folds: that are trained; 0 for one training, whose own fold or scans are measured.
        budget: of all trainings.
        targets: Dice by structure, of one training.
        joined: the same of folds together.
        words: for the command line.
        names: of the structures, as a recipe has them that is made for another layout; "" where it has this.
    """

    folder: str
    folds: int
    budget: str
    targets: dict[str, float]
    joined: dict[str, float]
    words: tuple[str, ...] = ()
    names: str = ""


PARTS = {
    "left_atrium": Part("left_atrium", 0, "60m", {"label 1": 0.905}, {"label 1": 0.915}),
    "hippocampus": Part(
        "hippocampus",
        0,
        "60m",
        {"Anterior": 0.895, "Posterior": 0.875},
        {"Anterior": 0.900, "Posterior": 0.885},
    ),
    "prostate": Part("prostate_crops", 7, "35m", {}, {"label 1": 0.80}, ("--volume", "0"), "1=prostate"),
    "brats": Part(
        "brats2013",
        2,
        "40m",
        {},
        {"whole tumour": 0.775, "tumour core": 0.527, "enhancing tumour": 0.670},  # the recipe by hand
    ),
}


def main() -> None:
    options = arguments()
    part = PARTS[options.part]
    folds = options.folds or part.folds
    data = options.data / part.folder
    name = "_".join(filter(None, (options.part, options.recipe, options.network, f"{folds or ''}")))
    run = options.runs / name
    if options.part == "left_atrium":
        data, unseen = halves(data, options.runs / "left_atrium_scans")
    seconds = trained(data, run, part, folds, options)
    line: dict[str, Any] = {
        "benchmark": f"own data {options.part}",
        "versions": {package: version(package) for package in ("medseg", "torch", "openvino", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        "recipe": options.recipe or "planned",
        "network": load_model(find_models(run)[0]).spec.network.name,
        "folds": folds,
        "budget": options.budget or part.budget,
        "seconds of the command": seconds,
    }
    if options.part == "left_atrium":
        cases, line["seconds of a prediction"] = predicted(unseen, run, options)
    else:
        cases = dice_of_cases(run / ("cross_validation.csv" if folds else "validation.csv"))
    mean = mean_of(cases)
    plain = not options.recipe and not options.network
    targets = (part.joined if folds else part.targets) if plain else {}
    reached = all(mean[structure] >= target for structure, target in targets.items())
    line |= {"cases": len(cases), "dice": mean, "dice of cases": cases, "targets": targets, "pass": reached}
    print(json.dumps(line))
    sys.exit(0 if reached else 1)


def halves(data: Path, to: Path) -> tuple[Path, Path]:
    """Links to the scans that train, and to those that are measured."""
    for kind in ("images", "masks"):
        for number, path in enumerate(sorted((data / kind).iterdir())):
            link = to / ("train" if number < TRAINED else "test") / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    return to / "train", to / "test"


def medseg(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True)


def trained(data: Path, run: Path, part: Part, folds: int, options: argparse.Namespace) -> float | None:
    """Seconds of the command; None where it ended before this one."""
    if (run / "report.html").is_file():
        return None
    words = ["--data", data, "-o", run, "--threads", options.threads, *part.words]
    budget = ["--time-budget", options.budget or part.budget]
    if folds:
        budget += ["--folds", str(folds)]
    elif options.part == "left_atrium":
        budget += ["--fold", "none"]
    recipe = [options.recipe] if options.recipe else []
    if options.network or (recipe and part.names):
        words += ["--names", part.names] if recipe else []
        medseg("plan", *words, "--time-budget", options.budget or part.budget)
        change_plan(run / "recipe.toml", options)
        recipe = []
    start = time.monotonic()
    medseg("train", *recipe, *words, *budget)
    return round(time.monotonic() - start, 1)


def change_plan(path: Path, options: argparse.Namespace) -> None:
    """Put another network, or a whole recipe, in the place of what was planned for the folder."""
    plan = load_recipe(str(path))
    if options.recipe:
        plan = replace(load_recipe(options.recipe), card=plan.card)
    if options.network:
        plan = replace(plan, network=replace(plan.network, name=options.network, options={}))
    path.write_text(to_toml(plan), encoding="utf-8")


def predicted(unseen: Path, run: Path, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Dice of each unseen scan, and seconds of the command that predicts them, a scan."""
    out = run.with_name(f"{run.name}_predictions")
    start = time.monotonic()
    words = ("--threads", options.threads, "--overwrite")
    medseg("predict", unseen / "images", "-m", run, "-o", out, *words)
    seconds = (time.monotonic() - start) / len(list((unseen / "images").iterdir()))
    table = out.with_suffix(".csv")
    medseg("evaluate", out, unseen / "masks", "--csv", table, "--overwrite")
    return dice_of_cases(table), round(seconds, 2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--budget")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--network", choices=["vnet"])
    parser.add_argument("--recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
