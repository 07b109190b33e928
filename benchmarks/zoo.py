"""Networks of one dataset, trained equally long: Dice on cases they have not seen, and what they cost.

    python benchmarks/zoo.py networks       in volumes and in slices, on the hippocampus set
    python benchmarks/zoo.py supervision    a network with heads on its coarser maps, and with one head

Each trains, goes on with, or just reads its runs in `runs/` (--runs), and prints one JSON line. What a
prediction takes is of a made-up scan of 128 voxels a side, in f32, and means something on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from training import DEFAULT_DATA, PROGRAM, SHORT, effort, processor, scores, trained, written

from medseg.model.file import load_model

PUBLISHED = ("fcn8s", "segnet", "linknet", "deeplabv3plus", "pspnet", "fpn", "hrnet")
NETWORKS = (
    "hippocampus_unet3d",
    "hippocampus_vnet",
    *(f"hippocampus_{name}" for name in PUBLISHED),
    "slices_unet2d",
    *(f"slices_{name}" for name in PUBLISHED),
)
BUDGET = "4m"
EDGE = 128
"""Voxels of an edge of the scan that is predicted."""


def main() -> None:
    options = arguments()
    options.runs.mkdir(parents=True, exist_ok=True)
    scan = options.runs / "noise.nii.gz"
    noise = np.random.default_rng(0).normal(100, 20, (EDGE,) * 3).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), scan)
    if options.part == "networks":
        found = {name: measured(name, name, scan, options) for name in NETWORKS}
    else:
        found = {
            name: measured(
                "hippocampus_plain_unet", f"plain_unet_{name.replace(' ', '_')}", scan, options, every
            )
            for name, every in (("one head", False), ("every head", True))
        }
    line = {
        "benchmark": f"zoo {options.part}",
        "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        "budget": options.budget or BUDGET,
        "scan": f"{EDGE}^3 voxels of noise, f32",
        "networks": found,
    }
    print(json.dumps(line))


def measured(
    recipe: str, name: str, scan: Path, options: argparse.Namespace, every_head: bool = False
) -> dict[str, Any]:
    """A network's training, Dice, parameters, and what a prediction takes."""
    run = options.runs / f"networks_{name}"
    path = written(options.runs, recipe, f"{name}_short", steps=SHORT, deep_supervision=every_head)
    spec = trained(path, options.data / "hippocampus", run, options, budget=BUDGET)
    weights = load_model(run / "model.safetensors").weights
    millions = sum(w.size for key, w in weights.items() if "running" not in key) / 1e6
    return {
        **effort(spec),
        "dice": scores(spec),
        "million parameters": round(millions, 2),
        **cost(scan, run, options.threads),
    }


def cost(scan: Path, run: Path, threads: int) -> dict[str, float]:
    """Median seconds that the network takes for a scan over three processes, and their peak memory in GiB."""
    words = ["predict", str(scan), "-m", str(run / "model.safetensors"), "-o", str(run / "noise_seg.nii.gz")]
    more = ["--overwrite", "--precision", "f32", "--threads", str(threads), "-q"]
    said = []
    for _ in range(3):
        subprocess.run([*PROGRAM, *words, *more], check=True, stdout=sys.stderr)
        said.append(json.loads((run / "noise_seg.json").read_text()))
    return {
        "seconds of a scan": round(statistics.median(s["timing_s"]["engine"] for s in said), 2),
        "peak gib": round(statistics.median(s["peak_memory_bytes"] for s in said) / 2**30, 2),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["networks", "supervision"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--budget", default="", help="of each training, instead of 4 minutes")
    parser.add_argument("--epochs", type=int, default=0, help="of each training, instead of a budget")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
