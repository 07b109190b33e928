"""How time and memory grow with the scan, and time with the number of scans.

    python benchmarks/scaling.py [--sizes 64,128,256,512] [--cases 1,10,100] [--runs 3]

Sizes: `medseg predict` from a cold start on cubes of so many voxels a side, by the network of `memory.py`
(20 structures, random weights: specks of labels everywhere) at the scan's own voxels, so that the network
computes every voxel. Cases: so many crops of 48^3 in one call, by the packaged hippocampus model. A line of
the logarithms is fitted to what is beyond the start of the program, which an empty scan takes too: its slope
is 1 where twice the voxels take twice the time.

Prints one line of JSON; exits with 1 where a time lies more than a fifth from its line, or a slope is above
1.1. Takes ten minutes on two cores. `python docs/pictures.py scaling` draws `results/scaling.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from memory import network
from training import PROGRAM, processor

from medseg.core.volume import FileForm, Grid
from medseg.io import write_image
from medseg.segmentation.prediction import read_summary, summary_path

SPACING_MM = 1.5
FIRST_SIDE, CROP_SIDE = 16, 48
STEEPEST, FARTHEST = 1.1, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="64,128,256,512")
    parser.add_argument("--cases", default="1,10,100")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = of_sizes([int(n) for n in options.sizes.split(",")], options.runs, folder)
        cases = of_cases([int(n) for n in options.cases.split(",")], options.runs, folder)
    lines = {
        "time of sizes": line_of(sizes["voxels"], sizes["seconds_beyond_start"]),
        "time of cases": line_of(cases["cases"], cases["seconds_beyond_start"]),
    }
    straight = all(line["slope"] <= STEEPEST and line["farthest"] <= FARTHEST for line in lines.values())
    result = {
        "benchmark": "scaling",
        "versions": {n: version(n) for n in ("medseg", "openvino", "numpy")},
        "processor": processor(),
        "runs": options.runs,
        "sizes": sizes,
        "cases": cases,
        "lines": lines,
        "targets": {"steepest slope": STEEPEST, "farthest from the line": FARTHEST},
        "total_seconds": round(time.perf_counter() - began, 1),
        "pass": straight,
    }
    print(json.dumps(result))
    sys.exit(0 if straight else 1)


def of_sizes(sides: list[int], runs: int, folder: Path) -> dict[str, Any]:
    """Seconds and the peak of memory of a scan, by its voxels."""
    model = folder / "model.safetensors"
    network().save(model)
    found: dict[int, tuple[float, float]] = {}
    for side in (FIRST_SIDE, *sides):
        scan = folder / f"cube_{side}.nii.gz"
        write_noise(scan, side, SPACING_MM)
        found[side] = predicted(scan, model, folder / "cube_seg.nii.gz", runs if side <= 256 else 1)
        scan.unlink()
    start = found[FIRST_SIDE][0]
    return {
        "voxels": [side**3 for side in sides],
        "start_s": round(start, 3),
        "seconds": [round(found[side][0], 3) for side in sides],
        "seconds_beyond_start": [round(found[side][0] - start, 4) for side in sides],
        "peak_gib": [round(found[side][1], 3) for side in sides],
    }


def of_cases(counts: list[int], runs: int, folder: Path) -> dict[str, Any]:
    """Seconds of one call, by how many crops it is given."""
    crop = folder / "crop.nii.gz"
    write_noise(crop, CROP_SIDE, 1.0)
    start, inside = timed_start(crop, folder, runs)
    seconds = {1: start + inside}  # of a single case, wall times of other calls would be mostly their noise
    for count in sorted({*counts} - {1}):
        scans = folder / f"crops_{count}"
        scans.mkdir()
        for number in range(count):
            shutil.copy(crop, scans / f"crop_{number:03d}.nii.gz")
        seconds[count] = statistics.median(timed_folder(scans, folder / "out") for _ in range(runs))
    return {
        "cases": counts,
        "start_s": round(start, 3),
        "seconds": [round(seconds[count], 3) for count in counts],
        "seconds_beyond_start": [round(seconds[count] - start, 4) for count in counts],
    }


def write_noise(path: Path, side: int, spacing_mm: float) -> None:
    image = np.random.default_rng(0).normal(500, 100, (side,) * 3).astype(np.int16)
    grid = Grid(image.shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    write_image(path, image, grid, form=FileForm())


def predicted(scan: Path, model: Path, target: Path, runs: int) -> tuple[float, float]:
    """The median wall time of a prediction, and its peak of memory in GiB."""
    words = [
        *PROGRAM,
        "predict",
        str(scan),
        "-m",
        str(model),
        "-o",
        str(target),
        "--overwrite",
        "--force",
        "-q",
    ]
    walls, peaks = [], []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - began)
        summary = read_summary(summary_path(target))
        peaks.append(0 if summary is None else summary.peak_memory_bytes or 0)
    return statistics.median(walls), max(peaks) / 2**30


def timed_folder(scans: Path, out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    return timed("predict", scans, "-m", "hippocampus", "-o", out)


def timed_start(scan: Path, folder: Path, runs: int) -> tuple[float, float]:
    """What a call of one case takes before it begins with it, and what the steps of the case take."""
    target, starts, insides = folder / "start_seg.nii.gz", [], []
    words = [
        *PROGRAM,
        "predict",
        str(scan),
        "-m",
        "hippocampus",
        "-o",
        str(target),
        "--overwrite",
        "--force",
        "-q",
    ]
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        wall, summary = time.perf_counter() - began, read_summary(summary_path(target))
        insides.append(0.0 if summary is None else summary.seconds)
        starts.append(wall - insides[-1])
    return statistics.median(starts), statistics.median(insides)


def timed(*words: object) -> float:
    """The wall time of a command of medseg's."""
    command = [*PROGRAM, *map(str, words), "--force", "-q"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def line_of(sizes: list[int], seconds: list[float]) -> dict[str, float]:
    """Slope of the line through the logarithms, and the largest relative distance of a time from it."""
    x, y = (np.log([max(v, 1e-3) for v in values]) for values in (sizes, seconds))
    slope, offset = np.polyfit(x, y, 1)
    away = np.abs(np.expm1(y - (slope * x + offset))).max()
    return {"slope": round(float(slope), 3), "farthest": round(float(away), 3)}


if __name__ == "__main__":
    main()
