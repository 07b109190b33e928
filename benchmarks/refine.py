"""What ten scribbled voxels a structure are worth: Dice before and after `medseg refine`, by each method.

Voxels are drawn from the reference, as a user would scribble: where the start is wrong, away from borders if
there are others, and of the background near the structures. Two starts: none, and a spoilt reference, which
lacks a third of its length and is grown by two voxels in another.

    python benchmarks/refine.py hippocampus [--cases 3] [--seed 0] [--reach MM]      # one JSON line
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import medseg
from medseg.classical.refine import METHODS
from medseg.core.boxes import bounding_box, widened
from medseg.core.volume import LabelMap, Volume
from medseg.io import ReadOptions, read_labels, read_volume

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = {
    "left_atrium": ("left_atrium/images", "left_atrium/masks"),
    "hippocampus": ("hippocampus/imagesTr", "hippocampus/labelsTr"),
    "prostate": ("prostate_crops/images", "prostate_crops/labels"),
}
REACH_MM = {"left_atrium": 15.0, "hippocampus": 10.0, "prostate": 10.0}
VOXELS, NEAR = 10, 6
"""Scribbled voxels a structure, and voxels from a structure up to which background is scribbled on."""
BACKGROUND = 255


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=FOLDERS)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the voxels that are drawn")
    parser.add_argument("--reach", type=float, help="in mm")
    args = parser.parse_args()
    began = time.perf_counter()
    reach_mm = args.reach or REACH_MM[args.data]
    scores: dict[str, dict[str, list[float]]] = {"none": {}, "spoilt": {}}
    seconds: dict[str, list[float]] = {}
    names = []
    for name, scan, reference in cases(args.data, args.cases):
        names.append(name)
        for kind, start in (("none", None), ("spoilt", spoilt(reference))):
            seeds = scribbled(reference, start, np.random.default_rng(args.seed))
            before = 0.0 if start is None else mean_dice(start, reference)
            scores[kind].setdefault("before", []).append(before)
            for method in METHODS:
                since = time.perf_counter()
                found = medseg.refine(scan, seeds, start=start, method=method, reach_mm=reach_mm)
                seconds.setdefault(method, []).append(time.perf_counter() - since)
                scores[kind].setdefault(method, []).append(mean_dice(found, reference))
    line = {
        "benchmark": "refine",
        "data": args.data,
        "cases": names,
        "voxels_a_structure": VOXELS,
        "reach_mm": reach_mm,
        "versions": {
            package: version(package) for package in ("medseg", "scikit-image", "scipy", "SimpleITK")
        },
        "machine": {"processor": platform.machine()},
        "mean_dice": {k: {m: round(float(np.mean(v)), 3) for m, v in s.items()} for k, s in scores.items()},
        "median_seconds": {method: round(float(np.median(taken)), 2) for method, taken in seconds.items()},
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))


def cases(data: str, count: int) -> Iterator[tuple[str, Volume, LabelMap]]:
    """Name, scan and reference of some cases, spread over the data set."""
    images, labels = (Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)) / folder for folder in FOLDERS[data])
    files = sorted(path for path in images.iterdir() if (labels / path.name).is_file())
    for number in np.linspace(0, len(files) - 1, count + 2).round().astype(int)[1:-1]:
        path = files[number]
        several = len(nib.load(labels / path.name).shape) > 3  # the first volume is the reference
        options = ReadOptions(volume=0 if several else None)
        yield path.name, read_volume(path), read_labels(labels / path.name, options=options)


def spoilt(reference: LabelMap) -> LabelMap:
    """A reference without a third of its length, and grown by two voxels in the last third."""
    array = reference.array.copy()
    box = bounding_box(array) or ()
    axis = int(np.argmax([s.stop - s.start for s in box]))
    ends = [round(box[axis].start + share * (box[axis].stop - box[axis].start)) for share in (1 / 3, 2 / 3)]
    along = np.arange(array.shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)])
    grown = ndimage.grey_dilation(array, size=5)
    array = np.where(along < ends[0], 0, np.where(along >= ends[1], grown, array))
    return LabelMap(array.astype(reference.array.dtype), reference.grid, reference.form)


def scribbled(reference: LabelMap, start: LabelMap | None, rng: np.random.Generator) -> LabelMap:
    """Drawn voxels of each structure, and of the background near them."""
    labels = reference.array
    seeds = np.zeros(labels.shape, np.int16)
    box = widened(bounding_box(labels) or (), NEAR, labels.shape)
    near = ndimage.binary_dilation(labels > 0, iterations=NEAR)
    for value in (0, *np.unique(labels[box][labels[box] > 0])):
        inside = (labels == value) & near
        for fewer in ((start.array != value) if start else None, ndimage.binary_erosion(inside)):
            if fewer is not None and (inside & fewer).sum() >= VOXELS:
                inside &= fewer
        voxels = np.argwhere(inside)
        chosen = voxels[rng.choice(len(voxels), min(VOXELS, len(voxels)), replace=False)]
        seeds[tuple(chosen.T)] = value or BACKGROUND
    return LabelMap(seeds, reference.grid, reference.form)


def mean_dice(found: LabelMap, reference: LabelMap) -> float:
    values = [int(value) for value in np.unique(reference.array) if value]
    return float(np.mean([medseg.metrics.dice(found, reference, label=value) for value in values]))


if __name__ == "__main__":
    main()
