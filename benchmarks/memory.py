"""What a large scan needs: 512x512x600 and 20 structures at 1.5 mm, in a memory limit and without one.

    python benchmarks/memory.py [--limit 3G]

The network is that of the BRATS benchmark with batch norm and random weights: labels lie in specks
everywhere, which is the most work that turning probabilities into labels can be. Prints one line of JSON,
and exits with 1 where the peak is above the limit or the labels differ.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import zoom

from medseg.core.structures import Structure
from medseg.inference.engines.base import available_threads
from medseg.inference.engines.torch import to_graph
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.networks import registry
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.segmentation.prediction import read_summary, summary_path
from medseg.training.setup import facts_of

SHAPE, VOXEL_MM = (512, 512, 600), (0.75, 0.75, 1.0)
STRUCTURES, SPACING_MM = 20, 1.5
EQUAL = 0.9999
COMMAND = [sys.executable, "-c", "from medseg.cli.main import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", default="3G")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, scan = folder / "model.safetensors", folder / "scan.nii.gz"
        network().save(model)
        write_scan(scan)
        limited = predicted(scan, model, folder / "limited.nii.gz", "--max-memory", args.limit)
        free = predicted(scan, model, folder / "free.nii.gz")
        one, other = (np.asarray(nib.load(folder / f).dataobj) for f in ("limited.nii.gz", "free.nii.gz"))
        share = float((one == other).mean())
    limit = int(args.limit.removesuffix("G")) * 2**30
    line = {
        "benchmark": "memory",
        "versions": {n: version(n) for n in ("medseg", "openvino", "torch", "numpy")},
        "threads": available_threads(),
        "scan": {"shape": SHAPE, "voxel_mm": VOXEL_MM, "structures": STRUCTURES, "at_mm": SPACING_MM},
        "limit_gib": limit / 2**30,
        "limited": limited,
        "without a limit": free,
        "labels equal": share,
        "by arithmetic": arithmetic(),
        "targets": {"peak_gib": limit / 2**30, "labels equal": EQUAL},
        "total_seconds": round(time.perf_counter() - began, 1),
        "pass": limited["peak_gib"] < limit / 2**30 and share >= EQUAL,
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


def network() -> Model:
    """A network that was never trained, its normalisations those of no particular data."""
    torch.manual_seed(0)
    spec = NetworkSpec(
        "unet3d", 1, STRUCTURES + 1, widths=(16, 32, 64, 128), norm="batch", options={"bias": False}
    )
    built = registry.build(spec).eval()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    described = ModelSpec(
        name="memory",
        network=spec,
        facts=facts_of(built),
        channels=("CT",),
        structures=tuple(Structure(n, f"structure {n}") for n in range(1, STRUCTURES + 1)),
        preparation=PreparationSpec(
            (SPACING_MM,) * 3, normalisation=NormalisationSpec("range", percentiles=(0.5, 99.5))
        ),
    )
    weights = {name: value.detach().numpy() for name, value in built.state_dict().items()}
    return Model(described, weights, to_graph(built, 1, 3))


def write_scan(path: Path) -> None:
    """Smooth lumps and noise, int16."""
    rng = np.random.default_rng(0)
    coarse = tuple(math.ceil(n / 16) for n in SHAPE)
    lumps = zoom(rng.normal(size=coarse).astype(np.float32), np.divide(SHAPE, coarse), order=1)
    image = (400 * lumps + rng.normal(0, 30, SHAPE).astype(np.float32)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.diag([*VOXEL_MM, 1.0])), path)


def predicted(scan: Path, model: Path, target: Path, *more: str) -> dict[str, Any]:
    """One run of `medseg predict`: what it planned, took and held."""
    command = [*COMMAND, "predict", str(scan), "-m", str(model), "-o", str(target), *more]
    told = subprocess.run([*command, "--dry-run", "--json"], check=True, capture_output=True, text=True)
    (plan,) = json.loads(told.stdout)
    began = time.perf_counter()
    subprocess.run([*command, "-q"], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    summary = read_summary(summary_path(target))
    if summary is None:
        raise FileNotFoundError(summary_path(target))
    return {
        "plan": plan["plans"],
        "expected_gib": round(plan["memory_bytes"] / 2**30, 2),
        "peak_gib": round((summary.peak_memory_bytes or 0) / 2**30, 2),
        "wall_s": round(wall, 1),
        "timing_s": summary.timing_s,
    }


def arithmetic() -> dict[str, Any]:
    """What the peers hold at the least, by how they work; not measured."""
    inner = math.prod(round(n * mm / SPACING_MM) for n, mm in zip(SHAPE, VOXEL_MM, strict=True))
    outer, outputs = math.prod(SHAPE), STRUCTURES + 1
    return {
        "MONAI: summed logits and count map of the whole scan, float32, GiB": gib(4 * (outputs + 1) * inner),
        "MONAI: inverted probabilities on the scan's grid, float32, GiB": gib(4 * outputs * outer),
        "nnU-Net: summed logits, float16, GiB": gib(2 * (outputs + 1) * inner),
        "nnU-Net: resampled logits on the scan's grid, float32, GiB": gib(4 * outputs * outer),
    }


def gib(size: int) -> float:
    return round(size / 2**30, 1)


if __name__ == "__main__":
    main()
