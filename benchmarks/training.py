"""What networks, losses and recipes come to when they are trained: Dice on cases they have not seen.

    python benchmarks/training.py hippocampus    a recipe for 20 minutes on the hippocampus set
    python benchmarks/training.py brats          two patients of BRATS 2013 train, two are measured; both ways
    python benchmarks/training.py promise12      V-Net on made-up prostates: Dice loss against logistic loss
    python benchmarks/training.py slices         2D U-Net, UNet++ and 3D U-Net, equally long; UNet++ pruned
    python benchmarks/training.py losses         each loss from the same start, equally long

Each trains, goes on with, or just reads its runs in `runs/` (--runs), and prints one JSON line. Real data is
looked for in ../shared/data, or where MEDSEG_DATA says. Trainings are as long as --epochs or --budget make
them, so what they took on this machine is in the line.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medseg.core.specs import to_mapping
from medseg.core.stopwatch import Stopwatch
from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.data.phantom import write_phantoms
from medseg.metrics.case import evaluate_case
from medseg.model.file import load_model
from medseg.model.provenance import CaseCounts
from medseg.model.spec import ModelSpec
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter
from medseg.training.recipe import load_recipe

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"
PROGRAM = [sys.executable, "-c", "from medseg.cli.main import main; main()"]

HIPPOCAMPUS = {"anterior": 0.89, "posterior": 0.87}
WHOLE_TUMOUR, PROSTATE = 0.70, 0.90
PROMISE12_CASES, PROMISE12_SEED = 20, 12
PROMISE12_LOSSES = {
    "dice": {"name": "dice", "denominator": "squared"},
    "cross_entropy": {"name": "cross_entropy"},
}
SHORT = 40
"""Steps an epoch of trainings that last minutes, so that all of them fill their time."""

Options = argparse.Namespace
Table = dict[str, dict[str, float]]


def main() -> None:
    options = arguments()
    found = PARTS[options.part](options)
    line = {
        "benchmark": f"training {options.part}",
        "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        **found,
    }
    print(json.dumps(line))
    sys.exit(0 if line.get("pass", True) else 1)


def hippocampus(options: Options) -> dict[str, Any]:
    """A recipe on the fold it was not trained on."""
    name = options.recipe
    spec = trained(name, options.data / "hippocampus", options.runs / name, options, budget="20m")
    dice = scores(spec)
    targets = HIPPOCAMPUS if name == "hippocampus_unet3d" else {}
    return {
        "recipe": name,
        **effort(spec),
        "dice": dice,
        "targets": targets,
        "pass": all(dice[structure] >= target for structure, target in targets.items()),
    }


def brats(options: Options) -> dict[str, Any]:
    """Two patients train and two are measured, both ways round."""
    patients: dict[str, dict[str, float]] = {}
    efforts = []
    for fold in range(2):
        run = options.runs / f"brats_regions_{fold}"
        more = ["--folds", "2", "--fold", str(fold)]
        spec = trained("brats_unet3d", options.data / "brats2013", run, options, budget="30m", more=more)
        efforts.append(effort(spec))
        patients |= dice_of_cases(run / "validation.csv")
    means = mean_of(patients)
    return {
        "recipe": "brats_unet3d",
        "trainings": efforts,
        "dice of patients": patients,
        "dice": means,
        "targets": {"whole tumour": WHOLE_TUMOUR},
        "pass": means["whole tumour"] >= WHOLE_TUMOUR,
    }


def promise12(options: Options) -> dict[str, Any]:
    """The recipe on made-up prostates, and the same with a logistic loss."""
    data = options.runs / "promise12_phantoms"
    if not data.exists():
        write_phantoms(data, "promise12", PROMISE12_CASES, PROMISE12_SEED)
    dice, efforts = {}, {}
    for loss, settings in PROMISE12_LOSSES.items():
        recipe = written(options.runs, "promise12_vnet", f"promise12_vnet_{loss}", settings)
        spec = trained(recipe, data, options.runs / f"promise12_{loss}", options, budget="12m")
        dice[loss], efforts[loss] = scores(spec)["prostate"], effort(spec)
    return {
        "recipe": "promise12_vnet",
        "cases": f"{PROMISE12_CASES} made up",
        "trainings": efforts,
        "dice": dice,
        "the paper's": {"dice": 0.869, "cross_entropy": 0.739},
        "targets": {"dice": PROSTATE},
        "pass": dice["dice"] >= PROSTATE,
    }


def slices(options: Options) -> dict[str, Any]:
    """2D U-Net, UNet++ and 3D U-Net on the hippocampus set; UNet++ at each of its levels."""
    data, dice, efforts = options.data / "hippocampus", {}, {}
    for name in ("slices_unet2d", "slices_unetpp", "hippocampus_unet3d"):
        recipe = written(options.runs, name, f"{name}_short", steps=SHORT)
        spec = trained(recipe, data, options.runs / f"slices_{name}", options, budget="8m")
        dice[name], efforts[name] = scores(spec), effort(spec)
    return {
        "trainings": efforts,
        "dice": dice,
        "unetpp by level": pruned(options.runs / "slices_slices_unetpp", data, options.threads),
    }


def pruned(run: Path, data: Path, threads: int) -> dict[str, dict[str, float]]:
    """Dice and milliseconds of the engine for a slice, of the cases a run has not seen, at each level."""
    card = load_card("hippocampus")
    held = set(json.loads((run / "run.json").read_text())["split"]["validation"])
    cases = [read_case(files, card) for files in card.read(data).cases if files.case_id in held]
    out: dict[str, dict[str, float]] = {}
    for level in (1, 2, 3, 4):
        options = SegmenterOptions(threads=threads, prune=level)
        segmenter = Segmenter([load_model(run / "model.safetensors")], options)
        found: defaultdict[str, list[float]] = defaultdict(list)
        per_slice = []
        for volume, labels in cases:
            watch = Stopwatch()
            result = evaluate_case(segmenter(volume, watch).labels, labels, segmenter.structures)
            per_slice.append(1000 * watch.seconds["engine"] / volume.grid.shape[2])
            for row in result.rows:
                found[row.name].append(row.metrics["dice"].value)
        means = {name: round(statistics.fmean(values), 4) for name, values in found.items()}
        weights = sum(w.size for w in segmenter.models[0].weights.values())
        out[f"L{level}"] = means | {"ms": round(statistics.median(per_slice), 2), "values": weights}
    return out


LOSSES: dict[str, dict[str, Any]] = {
    "dice": {"name": "dice"},
    "dice, squared": {"name": "dice", "denominator": "squared"},
    "jaccard": {"name": "jaccard"},
    "tversky": {"name": "tversky"},
    "focal tversky": {"name": "focal_tversky"},
    "generalised dice": {"name": "generalised_dice"},
    "cross-entropy": {"name": "cross_entropy"},
    "cross-entropy, weighted": {"name": "cross_entropy", "class_weights": [0.2, 1.0, 1.0]},
    "cross-entropy, border map": {"name": "cross_entropy", "w0": 10.0},
    "focal": {"name": "focal"},
    "lovasz": {"name": "lovasz"},
    "dice + cross-entropy": {"name": "dice_ce"},
    "dice + boundary": {
        "name": "sum",
        "terms": [
            {"name": "dice", "weight": 1.0, "weight_end": 0.5},
            {"name": "boundary", "weight": 0.01, "weight_end": 0.5},
        ],
    },
}
"""Every loss for exclusive labels; the boundary loss joins another, as in its paper."""

OF_REGIONS: dict[str, dict[str, Any]] = {
    "bce + dice": {"name": "bce_dice"},
    "bce - ln dice": {"name": "bce_dice", "form": "log"},
    "bce-dice of UNet++": {"name": "bce_dice", "form": "unetpp"},
    "lovasz hinge": {"name": "lovasz"},
}
"""Those for overlapping regions, of which each structure is then one."""


def losses(options: Options) -> dict[str, Any]:
    """The hippocampus network with each loss, from the same start."""
    dice: Table = {}
    efforts = {}
    regions = card_of_regions(options.runs)
    for name, settings in (LOSSES | OF_REGIONS).items():
        plain = "".join(c if c.isalnum() else "_" for c in name)
        card = str(regions) if name in OF_REGIONS else ""
        recipe = written(
            options.runs, "hippocampus_unet3d", f"loss_{plain}", settings, card=card, steps=SHORT
        )
        run = options.runs / f"loss_{plain}"
        spec = trained(recipe, options.data / "hippocampus", run, options, budget="3m")
        dice[name], efforts[name] = scores(spec), effort(spec)
    return {"recipe": "hippocampus_unet3d", "trainings": efforts, "dice": dice}


def trained(
    recipe: str | Path, data: Path, run: Path, options: Options, *, budget: str, more: list[str] | None = None
) -> ModelSpec:
    """The model of a run, trained now unless it was."""
    budget = options.budget or budget
    length = ["--epochs", str(options.epochs)] if options.epochs else ["--time-budget", budget]
    words = ["train", str(recipe), "--data", str(data), "-o", str(run), "--threads", str(options.threads)]
    if not (run / "validation.csv").exists():
        subprocess.run([*PROGRAM, *words, *length, *(more or [])], check=True, stdout=sys.stderr)
    return load_model(run / "model.safetensors").spec


def card_of_regions(runs: Path) -> Path:
    """The hippocampus set with each structure a region of its own, as a file."""
    settings = to_mapping(load_card("hippocampus"))
    for structure in settings["structures"]:
        structure["members"] = [structure["value"]]
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / "hippocampus_regions.toml"
    path.write_text(toml(settings), encoding="utf-8")
    return path.resolve()


def written(
    runs: Path,
    recipe: str,
    name: str,
    loss: dict[str, Any] | None = None,
    *,
    card: str = "",
    steps: int = 0,
    **training: Any,
) -> Path:
    """A recipe with another loss, card, number of steps an epoch, or settings of its training, as a file."""
    found = load_recipe(recipe)
    training |= {"steps_per_epoch": steps} if steps else {}
    settings_of_training = replace(found.training, **training)
    changed = replace(found, name=name, card=card or found.card, training=settings_of_training)
    settings = to_mapping(changed) | ({"loss": loss} if loss else {})
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"{name}.toml"
    path.write_text(toml(settings), encoding="utf-8")
    return path


def toml(settings: dict[str, Any], place: str = "") -> str:
    """Settings as TOML: values first, then tables; what is None is left out."""
    lines, tables = [], []
    for key, value in settings.items():
        if isinstance(value, dict):
            tables.append(f"\n[{place}{key}]\n{toml(value, f'{place}{key}.')}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"\n[[{place}{key}]]\n{toml(entry, f'{place}{key}.')}" for entry in value]
        elif value is not None:
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join([*lines, *tables])


def scores(spec: ModelSpec) -> dict[str, float]:
    """Mean Dice of each structure on the cases that were measured at the end."""
    rows = [row for row in spec.evidence.validation or () if row.metric == "dice"]
    return {row.structure: round(row.mean, 4) for row in rows if row.mean is not None}


def effort(spec: ModelSpec) -> dict[str, Any]:
    """What a training took."""
    cases = spec.training.cases or CaseCounts()
    return {
        "seconds": spec.training.seconds,
        "steps": spec.training.steps,
        "cases_trained": cases.trained,
        "cases_measured": cases.measured,
    }


def dice_of_cases(table: Path) -> Table:
    """Dice by case and structure, of a run's own table."""
    found: Table = {}
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["metric"] == "dice" and row["value"]:
                found.setdefault(row["case_id"], {})[row["structure"]] = round(float(row["value"]), 4)
    return found


def mean_of(cases: Table) -> dict[str, float]:
    """The mean of each structure over the cases that have it."""
    names = dict.fromkeys(name for case in cases.values() for name in case)
    return {
        name: round(statistics.fmean(case[name] for case in cases.values() if name in case), 4)
        for name in names
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    bf16 = "with" if "avx512_bf16" in flags else "without"
    amx = " and AMX" if "amx_bf16" in flags else ""
    return f"{names[0] if names else platform.processor()}, {bf16} bf16{amx}"


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "hippocampus": hippocampus,
    "brats": brats,
    "promise12": promise12,
    "slices": slices,
    "losses": losses,
}


def arguments() -> Options:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--recipe", default="hippocampus_unet3d", help="of the part hippocampus")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--budget", default="", help="of each training, instead of the part's own")
    parser.add_argument("--epochs", type=int, default=0, help="of each training, instead of a budget")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
