"""One graphics card: prediction, training and elastic deformation beside nnU-Net and MONAI with autocast.

    python benchmarks/gpu.py [predict] [train] [elastic] [--device cuda]
    python benchmarks/gpu.py --device cpu --tiny      # that the script runs, on any machine

- predict: a phantom's scan of 240x240x155 and two channels, files to files in processes of their own, by a 3D
  U-Net of widths 32 to 256 that learnt for a moment; tiles of 128^3, overlap 0.5. Ours takes the tiles that
  its plan chooses. The labels mean nothing; the time does.
- train: `training_speed.py --device cuda`, whose docstring tells what is compared.
- elastic: an image and labels of 160^3 on the card; ours beside MONAI's Rand3DElasticd on the same card.

Prints one line of JSON; exits with 1 where on a card a prediction is not 3 times as fast as nnU-Net's, or a
training not 1.5 times. A peer that is not installed is named as missing, and no figure stands in its place.
Takes ten minutes on a card.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import elastic as elastic_bench
import numpy as np
import torch
from guard import in_turn
from inference import PEERS
from training import PROGRAM

import medseg
from medseg.core.volume import FileForm, Grid
from medseg.data.phantom import write_phantoms
from medseg.io import write_image
from medseg.model.spec import InferenceSpec, NetworkSpec
from medseg.training.recipe import Recipe
from medseg.training.spec import TrainingSpec

HERE = Path(__file__).resolve().parent
PACKAGES = {"nnU-Net": "nnunetv2", "MONAI": "monai"}
PREDICT_TARGET, TRAIN_TARGET = 3.0, 1.5


def main() -> None:
    options = arguments()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = {part: PARTS[part](Path(folder), options) for part in options.parts or PARTS}
    names = ("medseg", "torch", "nnunetv2", "monai", "openvino")
    on_card = options.device != "cpu"
    reached = all(part.get("pass", True) for part in found.values())
    line = {
        "benchmark": "gpu",
        "versions": {name: version(name) for name in names if installed(name)},
        "missing": [name for name, package in PACKAGES.items() if not installed(package)],
        "device": torch.cuda.get_device_name() if on_card else "cpu",
        "tiny": options.tiny,
        **found,
        "targets": {"predict": PREDICT_TARGET, "train": TRAIN_TARGET} if on_card else None,
        "pass": reached or not on_card,
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=min(12, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="sizes that a processor computes in a minute")
    return parser.parse_args()


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def predict(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Wall times of whole predictions, in turn."""
    shape, tile = ((48, 48, 40), 32) if options.tiny else ((240, 240, 155), 128)
    model = momentary_model(folder, tile, options)
    random = np.random.default_rng(0)
    channels = [folder / f"{name}.nii.gz" for name in ("flair", "t1c")]
    for path in channels:
        image = random.integers(0, 1000, shape).astype(np.int16)
        write_image(path, image, Grid(shape, np.eye(4)), form=FileForm())
    names = medseg.load(str(model)).channels
    words = [f"{name}={path}" for name, path in zip(names, channels, strict=True)]
    ours = [
        *PROGRAM, "predict", *words, "-m", str(model), "-o", str(folder / "ours.nii.gz"), "--overwrite",
        "--device", options.device, "--force", "-q",
    ]  # fmt: skip
    commands = {"medseg": ours}
    for name, script in PEERS.items():
        if installed(PACKAGES[name]):
            out = folder / ("nnunet" if name == "nnU-Net" else "monai.nii.gz")
            commands[name] = [
                sys.executable, str(HERE / "peers" / script), "--model", str(model),
                "--channels", *map(str, channels), "--out", str(out), "--tile", str(tile),
                "--threads", str(options.threads), "--device", options.device,
            ]  # fmt: skip
    taken = in_turn({name: running(command) for name, command in commands.items()}, options.rounds)
    ratios = {name: round(taken[name] / taken["medseg"], 2) for name in taken if name != "medseg"}
    reached = ratios.get("nnU-Net", 0.0) >= PREDICT_TARGET
    return {"shape": shape, "tile": tile, "seconds": taken, "ratios": ratios, "pass": reached}


def momentary_model(folder: Path, tile: int, options: argparse.Namespace) -> Path:
    """A model of two channels that has seen a few patches."""
    write_phantoms(folder / "data", "brats2013", 4, 0, (48, 48, 40))
    widths = (8, 16, 32) if options.tiny else (32, 64, 128, 256)
    recipe = Recipe(
        name="momentary",
        card="brats2013",
        network=NetworkSpec("unet3d", widths=widths, norm="instance"),
        training=TrainingSpec(patch=(32, 32, 32), batch=1, epochs=1, steps_per_epoch=2, selection_share=0.0),
        inference=InferenceSpec(tile=(tile,) * 3),
    )
    medseg.train(folder / "data", output=folder / "run", recipe=recipe, fold=None, device=options.device)
    return folder / "run" / "model.safetensors"


def running(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


def train(_: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The line of `training_speed.py`."""
    missing = [name for name, package in PACKAGES.items() if not installed(package)]
    if missing:
        return {"left out": f"{', '.join(missing)} not installed"}
    words = ["--device", options.device, "--threads", str(options.threads)]
    words += ["--workers", str(max(1, options.threads - 1))]
    words += ["--rounds", "1", "--steps", "2", "--cases", "2"] if options.tiny else []
    command = [sys.executable, str(HERE / "training_speed.py"), *words]
    ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found | {"pass": found["ratios"]["medseg / nnU-Net"]["ratio"] >= TRAIN_TARGET}


def elastic(_: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Draws of a deformation and its application, on the device."""
    size = 32 if options.tiny else 160
    where = torch.device(options.device)
    random = torch.Generator().manual_seed(0)
    image = torch.rand((1, size, size, size), generator=random).to(where)
    labels = torch.randint(6, (size,) * 3, generator=random, dtype=torch.uint8).to(where)
    works: dict[str, Callable[[], object]] = {"medseg": settled(elastic_bench.ours(image, labels), where)}
    if installed("monai"):
        works["MONAI"] = settled(elastic_bench.with_monai(image, labels), where)
    taken = in_turn(works, 4 * options.rounds)
    ratios = {name: round(taken[name] / taken["medseg"], 2) for name in taken if name != "medseg"}
    return {"size": size, "seconds": taken, "ratios": ratios}


def settled(work: Callable[[], object], where: torch.device) -> Callable[[], object]:
    """The work, with waiting until a card has done what it was told."""

    def run() -> None:
        work()
        if where.type == "cuda":
            torch.cuda.synchronize()

    return run


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "predict": predict,
    "train": train,
    "elastic": elastic,
}

if __name__ == "__main__":
    main()
