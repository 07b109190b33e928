"""52 structures on 256^3: every measure of every structure, beside MONAI and surface-distance.

Two tasks: a brain's label map against itself shifted by a few voxels, which is how a fair segmentation
differs from its reference, and against the map of another brain, which lies far off. All structures
are measured by medseg. The peers work structure by structure; they get a sample of those, at equal
distances in the order of their voxels, and their time for all is the sample's mean times 52.

The same quantities on both sides, in the same process in turn:

- surface-distance: Dice, HD95, HD100, average distance of all surfels, NSD; ours in surfel mode;
- MONAI: Dice, HD95, average symmetric distance of border voxels, NSD of surfels; ours in both modes.

Ours run before, between and after the peers; their times are medians, and of everything `evaluate_case`
measures, which is more. On a machine that does other work, compare processor seconds. Prints one line of
JSON; exits with 1 where the shifted map takes more than a tenth of a peer's time, or a number differs by
more than its tolerance.

    python benchmarks/metrics.py [--threads 2] [--sample 8] [--tasks shifted,another]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import InstanceRule, evaluate_case
from medseg.metrics.case import CaseResult

DATA = Path(os.environ.get("MEDSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MAPS = ("training_seg_01.nii.gz", "training_seg_02.nii.gz")
SHIFT_VOXELS = (2, 1, 1)
TAU_MM = 1.25
"""No distance on a grid of 1 mm: float32 decides no tie."""

TARGET = 10.0
MODES = ("surfel", "voxel")

TOLERANCES = {
    "surface-distance": {"dice": 1e-12, "hd95_mm": 1e-9, "hd100_mm": 1e-9, "assd_mm": 1e-9, "nsd": 1e-9},
    "monai": {"dice": 1e-6, "voxel hd95_mm": 1e-5, "voxel assd_mm": 1e-5, "nsd": 1e-4},
}

Mask = np.ndarray
Spacing = tuple[float, ...]
Peer = Callable[[Mask, Mask, Spacing], dict[str, float]]


class Seconds(NamedTuple):
    """On the clock, and of the processors."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> Seconds:
        return Seconds(time.perf_counter() - self.wall, time.process_time() - self.processor)


def median(seconds: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(column) for column in zip(*seconds, strict=True)))


def main() -> None:
    args = arguments()
    warnings.simplefilter("ignore")
    if args.memory_of:
        print(json.dumps(memory(args.memory_of, args.data, args.threads)))
        return
    import torch

    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    tasks = {task: measured(task, args) for task in args.tasks.split(",")}
    line = {
        "benchmark": "metrics",
        "versions": {n: version(n) for n in ("medseg", "numpy", "scipy", "monai", "surface-distance")},
        "machine": {"processor": platform.machine(), "processors": os.cpu_count(), "threads": args.threads},
        **tasks,
        "targets": {"times faster, shifted": TARGET, "tolerances": TOLERANCES},
        "total_seconds": round(time.perf_counter() - began, 1),
        "pass": all(task["pass"] for task in tasks.values()),
    }
    print(json.dumps(line, allow_nan=False))
    sys.exit(0 if line["pass"] else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=8, help="structures that the peers measure")
    parser.add_argument("--tasks", default="shifted,another")
    parser.add_argument("--memory-of", choices=("shifted", "another"), help=argparse.SUPPRESS)
    return parser.parse_args()


def pair(task: str, data: Path) -> tuple[LabelMap, LabelMap, StructureSet]:
    """Reference, prediction, and the structures that both brains have."""
    images = [nib.load(data / "brain_labels" / name) for name in MAPS]
    first, second = (np.asanyarray(image.dataobj).astype(np.int16) for image in images)
    values = sorted(set(np.unique(first).tolist()) & set(np.unique(second).tolist()) - {0})
    structures = from_labels({value: str(value) for value in values})
    predicted = np.roll(first, SHIFT_VOXELS, (0, 1, 2)) if task == "shifted" else second
    grid = Grid(first.shape, images[0].affine)
    return LabelMap(first, grid), LabelMap(predicted, grid), structures


def measured(task: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both sides' times and the differences of their numbers, for one task."""
    reference, predicted, structures = pair(task, args.data)
    names = sampled(reference, structures, args.sample)
    values = [structures[name].value for name in names]
    cases: dict[str, CaseResult] = {}
    runs: dict[str, list[Seconds]] = {name: [] for name in (*MODES, "instances")}
    found, seconds = {}, {}
    for library, peer in PEERS.items():
        ours(reference, predicted, structures, args.threads, cases, runs)
        found[library], seconds[library] = theirs(peer, reference, predicted, values)
    ours(reference, predicted, structures, args.threads, cases, runs)
    own = {name: median(each) for name, each in runs.items()}
    peers = {}
    for library in PEERS:
        mine = [own[mode] for mode in (MODES if library == "monai" else MODES[:1])]
        gaps = differences(library, cases, dict(zip(names, found[library], strict=True)))
        peers[library] = compared(seconds[library], mine, len(structures)) | {
            "largest_difference": gaps,
            "equal": all(gap <= TOLERANCES[library][name] for name, gap in gaps.items()),
        }
    return {
        "structures": len(structures),
        "shape": reference.grid.shape,
        "sample": names,
        "seconds": {name: round(s.wall, 2) for name, s in own.items()},
        "memory_mib": remembered(task, args),
        **peers,
        "pass": all(
            p["equal"] and (task != "shifted" or p["times_faster"] >= TARGET) for p in peers.values()
        ),
    }


def compared(each: list[Seconds], mine: list[Seconds], structures: int) -> dict[str, Any]:
    """A peer's time for all structures beside ours, on the clock and on the processor."""
    share = structures / len(each)
    wall, processor = share * sum(s.wall for s in each), share * sum(s.processor for s in each)
    own_wall, own_processor = sum(s.wall for s in mine), sum(s.processor for s in mine)
    return {
        "seconds_of_sample": [round(s.wall, 2) for s in each],
        "seconds_of_all": round(wall, 1),
        "seconds_ours": round(own_wall, 2),
        "times_faster": round(wall / own_wall, 1),
        "processor_seconds_of_all": round(processor, 1),
        "processor_seconds_ours": round(own_processor, 2),
        "times_less_processor": round(processor / own_processor, 1),
    }


def sampled(reference: LabelMap, structures: StructureSet, count: int) -> list[str]:
    """Structures at equal distances in the order of their voxels, each from the middle of its part."""
    voxels = {s.name: int((reference.array == s.value).sum()) for s in structures}
    ranked = sorted(structures.names, key=lambda name: voxels[name])
    return [ranked[int((n + 0.5) * len(ranked) / count)] for n in range(min(count, len(ranked)))]


def ours(
    reference: LabelMap,
    predicted: LabelMap,
    structures: StructureSet,
    threads: int,
    cases: dict[str, CaseResult],
    runs: dict[str, list[Seconds]],
) -> None:
    """Measure every structure in both modes, and the instances beside them; note numbers and seconds."""
    for mode in MODES:
        began = Seconds.now()
        cases[mode] = evaluate_case(
            predicted, reference, structures, tolerance_mm=TAU_MM, mode=mode, threads=threads
        )
        runs[mode].append(began.since())
    began = Seconds.now()
    evaluate_case(predicted, reference, structures, surface=False, instances=InstanceRule())
    runs["instances"].append(began.since())


def theirs(
    peer: Peer, reference: LabelMap, predicted: LabelMap, values: list[int]
) -> tuple[list[dict[str, float]], list[Seconds]]:
    """A peer's numbers and seconds for each structure."""
    arrays = [np.ascontiguousarray(labels.array) for labels in (reference, predicted)]
    found, seconds = [], []
    for value in values:
        began = Seconds.now()
        found.append(peer(*(array == value for array in arrays), reference.grid.spacing_mm))
        seconds.append(began.since())
    return found, seconds


def surface_distance_peer(r: Mask, p: Mask, spacing: Spacing) -> dict[str, float]:
    """surface-distance 0.1; the two names NumPy 2 removed are given back to it."""
    vars(np).update(Inf=np.inf, NaN=np.nan)
    import surface_distance as sd

    d = sd.compute_surface_distances(r, p, spacing)
    forth, back = sd.compute_average_surface_distance(d)
    areas = float(d["surfel_areas_gt"].sum()), float(d["surfel_areas_pred"].sum())
    return {
        "dice": float(sd.compute_dice_coefficient(r, p)),
        "hd95_mm": float(sd.compute_robust_hausdorff(d, 95)),
        "hd100_mm": float(sd.compute_robust_hausdorff(d, 100)),
        "assd_mm": float((forth * areas[0] + back * areas[1]) / sum(areas)),
        "nsd": float(sd.compute_surface_dice_at_tolerance(d, TAU_MM)),
    }


def monai_peer(r: Mask, p: Mask, spacing: Spacing) -> dict[str, float]:
    import torch
    from monai import metrics as mm

    y, y_pred = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (r, p))
    mapped: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}
    found = {
        "dice": mm.compute_dice(y_pred, y, include_background=True),
        "voxel hd95_mm": mm.compute_hausdorff_distance(y_pred, y, percentile=95, **mapped),
        "voxel assd_mm": mm.compute_average_surface_distance(y_pred, y, symmetric=True, **mapped),
        "nsd": mm.compute_surface_dice(y_pred, y, class_thresholds=[TAU_MM], use_subvoxels=True, **mapped),
    }
    return {name: float(value) for name, value in found.items()}


PEERS: dict[str, Peer] = {"surface-distance": surface_distance_peer, "monai": monai_peer}


def differences(
    library: str, cases: dict[str, CaseResult], found: dict[str, dict[str, float]]
) -> dict[str, float]:
    """The largest difference of each number over the sample."""
    largest = dict.fromkeys(TOLERANCES[library], 0.0)
    for structure, numbers in found.items():
        for name, number in numbers.items():
            mode = "voxel" if name.startswith("voxel ") else "surfel"
            value = cases[mode][structure].metrics[name.removeprefix("voxel ")].value
            gap = 0.0 if value == number else abs((math.nan if value is None else value) - number)
            largest[name] = max(largest[name], gap if math.isfinite(gap) else sys.float_info.max)
    return largest


def remembered(task: str, args: argparse.Namespace) -> dict[str, float]:
    """Peak memory of ours, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", task, "--data", str(args.data)]
    done = subprocess.run(
        [*command, "--threads", str(args.threads)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(task: str, data: Path, threads: int) -> dict[str, float]:
    """MiB of this process before, and at its most while measuring in both modes."""
    reference, predicted, structures = pair(task, data)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for mode in MODES:
        evaluate_case(predicted, reference, structures, tolerance_mm=TAU_MM, mode=mode, threads=threads)
    peak = resident("VmHWM")
    return {"label_maps": round(before), "peak": round(peak), "ours": round(peak - before)}


def resident(field: str) -> float:
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
