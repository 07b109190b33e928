"""Nothing gets slower unseen: ten main paths, each as a multiple of work that never changes.

    python benchmarks/guard.py [--rounds 5] [--threads 2] [--only read,page] [--keep]

Path and reference take turns in one run, so that what the machine is and does falls out of their ratio. It is
compared with the median of the last five lines that were kept of the same processor, where there are any.
Prints one line of JSON; --keep adds it to `results/guard.jsonl`, which keeps the last twenty. Exits with 1
where a path takes a tenth more than before; every change by a tenth is named. Everything is made here: no
data is needed. Takes a minute on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from training import PROGRAM, processor

import medseg
from medseg.augment.compose import Augmenter
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.inference.restore import restored_labels
from medseg.io import read_volume, write_image, write_labels
from medseg.losses import registry as losses
from medseg.losses.spec import LossSpec
from medseg.metrics import evaluate_case
from medseg.model.spec import NetworkSpec
from medseg.preparation.preparation import Preparation, PreparationSpec
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.page import report_maps
from medseg.training.loop import Trainer
from medseg.training.planning.augmenting import usual_augmentation
from medseg.training.setup import build_network, training_case
from medseg.training.spec import TrainingSpec

KEPT = Path(__file__).resolve().parent / "results" / "guard.jsonl"
MOST_KEPT, COMPARED = 20, 5
CHANGE = 0.1
SHAPE = (192, 192, 160)
COUNT = 4
"""Structures of the label maps."""

Work = Callable[[], object]


class Compared(NamedTuple):
    """A path and what it is a multiple of."""

    ours: Work
    reference: Work


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        every = paths(Path(folder), options.threads)
        chosen = options.only.split(",") if options.only else list(every)
        found = {name: measured(every[name], options.rounds) for name in chosen}
    line: dict[str, Any] = {
        "benchmark": "guard",
        "when": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("medseg", "numpy", "torch", "openvino", "scipy")},
        "processor": processor(),
        "threads": options.threads,
        "rounds": options.rounds,
        "ratios": {name: each["ratio"] for name, each in found.items()},
        "seconds": {name: each["seconds"] for name, each in found.items()},
    }
    lines = kept()
    before = {name: earlier(lines, line, name) for name in found}
    changes = {
        name: round(ratio / before[name] - 1, 3)
        for name, ratio in line["ratios"].items()
        if before[name] and abs(ratio / before[name] - 1) > CHANGE
    }
    slower = [name for name, change in changes.items() if change > 0]
    line |= {
        "before": before,
        "changes": changes,
        "pass": not slower,
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    if options.keep:
        KEPT.write_text("".join(json.dumps(each) + "\n" for each in [*lines, line][-MOST_KEPT:]), "utf-8")
    sys.exit(1 if slower else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="names of paths, separated by commas")
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


def kept() -> list[dict[str, Any]]:
    """The lines there are, oldest first."""
    return [json.loads(line) for line in KEPT.read_text("utf-8").splitlines()] if KEPT.exists() else []


def earlier(lines: list[dict[str, Any]], now: dict[str, Any], name: str) -> float | None:
    """A path's ratio in the last kept lines of the same processor and threads; None where there is none."""
    like = [
        line["ratios"][name]
        for line in lines
        if name in line["ratios"] and all(line[key] == now[key] for key in ("processor", "threads"))
    ]
    return statistics.median(like[-COMPARED:]) if like else None


def measured(path: Compared, rounds: int) -> dict[str, Any]:
    """A path's time, its reference's, and their ratio."""
    ours, reference = in_turn(path._asdict(), rounds).values()
    return {"ratio": round(ours / reference, 3), "seconds": [ours, reference]}


def in_turn(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Median seconds of each, in turn, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(each), 5) for name, each in times.items()}


# The work that never changes.


def start_of_python() -> object:
    """A process that imports a good part of the standard library."""
    modules = "asyncio, decimal, email.message, http.client, json, unittest.mock, xml.dom.minidom"
    return subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)


def arithmetic() -> Work:
    """Products of matrices, with as many threads as torch has."""
    left = torch.rand(1024, 1024, generator=torch.Generator().manual_seed(0))

    def work() -> object:
        out = left
        for _ in range(8):
            out = torch.softmax(out @ left, dim=1)
        return out

    return work


def one_thread() -> Work:
    """Passes over more memory than the caches hold, and a sort."""
    values = np.random.default_rng(0).random(2**23, np.float32)
    return lambda: np.sort(np.sqrt(values * 1.5 + 0.5)[: 2**21])


# The paths.


def scene() -> tuple[Volume, LabelMap, LabelMap, StructureSet]:
    """A scan of smooth noise, labels cut from it, and the same labels shifted."""
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, 6.0)
    smooth /= smooth.std()
    labels = np.digitize(smooth, np.linspace(0.0, 1.5, COUNT)).astype(np.uint8)
    grid, form = Grid(SHAPE, np.eye(4)), FileForm()
    image = (1000 + 100 * smooth + 10 * noise).astype(np.int16)
    other = np.roll(labels, (2, 1, 1), (0, 1, 2))
    structures = from_labels({n: f"structure {n}" for n in range(1, COUNT + 1)})
    volume = Volume(image[None], grid, ("image",), form)
    return volume, LabelMap(labels, grid, form), LabelMap(other, grid, form), structures


def paths(folder: Path, threads: int) -> dict[str, Compared]:
    """Every path with its reference, on files in a folder."""
    volume, labels, other, structures = scene()
    scan = folder / "scan.nii.gz"
    write_image(scan, volume.array[0], volume.grid, form=volume.form)
    small, grid = folder / "small.nii.gz", Grid((48,) * 3, np.eye(4))
    write_image(small, volume.array[0, :48, :48, :48], grid, form=volume.form)
    payload = volume.array.tobytes()
    packed = zlib.compress(payload, 4)
    elsewhere = np.asarray(labels.array[:96, :96, :96] == 0)
    start = [*PROGRAM, "predict", str(small), "-m", "hippocampus", "-o"]

    def predict() -> object:
        words = [*start, str(folder / "small_seg.nii.gz"), "--overwrite", "--threads", str(threads)]
        return subprocess.run(words, check=True, capture_output=True)

    def write() -> object:
        return write_labels(folder / "labels.nii.gz", labels, overwrite=True)

    def page() -> object:
        out, told = folder / "page.html", ReportOptions(case_id="guard")
        return report_maps(volume, labels, structures, out=out, options=told, overwrite=True)

    def measures() -> object:
        return evaluate_case(other, labels, structures, tolerance_mm=1.0, threads=threads)

    return {
        "start to end of a small scan": Compared(predict, start_of_python),
        "read": Compared(lambda: read_volume(scan), lambda: zlib.decompress(packed)),
        "prepare": Compared(prepared(volume), one_thread()),
        "network": Compared(network(threads), arithmetic()),
        "restore": Compared(restored(volume, structures), one_thread()),
        "write": Compared(write, lambda: zlib.compress(labels.array.tobytes(), 4)),
        "page": Compared(page, one_thread()),
        "measures": Compared(measures, lambda: ndimage.distance_transform_edt(elsewhere)),
        "patches": Compared(patches(volume, labels, structures), arithmetic()),
        "training step": Compared(step(volume, labels, structures, folder, threads), arithmetic()),
    }


def prepared(volume: Volume) -> Work:
    preparation = Preparation(PreparationSpec((1.5, 1.5, 1.5), "nonzero"))
    return lambda: preparation.apply(volume)


def network(threads: int) -> Work:
    engine = medseg.load("hippocampus", engine="openvino", precision="f32", threads=threads).members[0].engine
    tile = np.random.default_rng(0).random((1, 1, 64, 64, 64), np.float32)
    return lambda: engine(tile)


def restored(volume: Volume, structures: StructureSet) -> Work:
    """Labels from probabilities at twice the spacing."""
    seen = Preparation(PreparationSpec((2.0, 2.0, 2.0))).apply(volume)
    noise = np.random.default_rng(0).normal(size=(COUNT + 1, *seen.grid.shape)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3, 3))
    shares = np.exp(20 * smooth)
    shares /= shares.sum(axis=0)
    rows = [(slice(n, n + 8), shares[:, n : n + 8]) for n in range(0, shares.shape[1], 8)]
    return lambda: restored_labels([seen], [iter(rows)], structures)


def patches(volume: Volume, labels: LabelMap, structures: StructureSet) -> Work:
    """Eight patches, changed as a training changes them."""
    shape = (64, 64, 64)
    augmenter = Augmenter(usual_augmentation(shape, (1.0, 1.0, 1.0), (0,)), structures, (1.0, 1.0, 1.0))
    image, indices = torch.from_numpy(volume.array.astype(np.float32)), torch.from_numpy(labels.array.copy())

    def work() -> object:
        generator = torch.Generator().manual_seed(0)
        return [augmenter.draw(generator, image, indices, (96, 96, 80), shape, 0.5) for _ in range(8)]

    return work


def step(volume: Volume, labels: LabelMap, structures: StructureSet, folder: Path, threads: int) -> Work:
    """A step of a small 3D U-Net in f32, its patches included."""
    shape = (64, 64, 64)
    spec = NetworkSpec("unet3d", 1, COUNT + 1, widths=(16, 32, 64), norm="batch")
    image = volume.array.astype(np.float32) / 100 - 10
    trainer = Trainer(
        network=build_network(spec, seed=0, device="cpu", threads=threads),
        loss=losses.build(LossSpec("dice_ce"), regions=False),
        target=torch.Tensor.long,
        augmenter=Augmenter(usual_augmentation(shape, (1.0, 1.0, 1.0)), structures, (1.0, 1.0, 1.0)),
        cases=[training_case("guard", image, labels.array)],
        validate=lambda _: {},
        spec=TrainingSpec(patch=shape, batch=2, epochs=100, steps_per_epoch=100, precision="f32"),
        epochs=100,
        folder=folder,
    )
    return lambda: trainer.step(trainer.batch([0, 0], trainer.progress.step))


if __name__ == "__main__":
    main()
