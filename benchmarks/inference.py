"""How fast a prediction is, beside MONAI and nnU-Net with the same weights, in one run.

    python benchmarks/inference.py end-to-end --model FILE   # a BRATS case from a cold start, by step
    python benchmarks/inference.py same-tiles --model FILE   # the same tiles in f32: network and blending
    python benchmarks/inference.py small --model FILE        # 128^3 from a cold start; 320x320x24
    python benchmarks/inference.py folder                    # 50 crops in one call; killed and resumed
    python benchmarks/inference.py frontier --model FILE...  # Dice and seconds, trained equally long
    python benchmarks/inference.py anytime                   # a head within time budgets, beside the whole

FILE is a model of the BRATS 2013 recipe, or, for `frontier`, several of hippocampus recipes. Peers run as
processes of their own (`peers/`), with as many threads, on the same files; a wall time includes imports.
Each part prints one line of JSON and exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from training import processor

import medseg
from medseg.inference.engines import load as load_engine
from medseg.inference.engines import precisions
from medseg.inference.engines.base import available_threads
from medseg.inference.predictor import Predictor
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.preparation.preparation import Preparation
from medseg.segmentation.prediction import PredictionSummary, read_summary, summary_path

HERE = Path(__file__).resolve().parent
DEFAULT_DATA = HERE.parents[1] / "shared" / "data"
COMMAND = [sys.executable, "-c", "from medseg.cli.main import main; main()"]
PEERS = {"MONAI": "monai_predict.py", "nnU-Net": "nnunet_predict.py"}
PATIENT = "brats_2013_pat0003_1"
TILE = 96
RUNS = 5

END_TO_END = {
    "seconds": 2.0,
    "MONAI overlap 0.5": 25.0,
    "MONAI overlap 0.25": 10.0,
    "nnU-Net overlap 0.5": 25.0,
    "least Dice": 0.995,
    "everything but the engine, seconds": 1.5,
    "engine over its bare time": 1.2,
}
SAME_TILES_TARGET = 2.5
BF16_DICE = 0.99
SMALL_SECONDS, THIN_TARGET = 1.5, 30.0
FOLDER_SECONDS, THROUGHPUT_TARGET = 3.0, 2.5
HEAD, BUDGETS, BUDGET_RUNS = "hcp_100307_t1.nii.gz", (2, 4, 6, 8, 10, 3600), 3
BUDGET_OVER = 1.1
"""What a prediction may take, as a share of its budget, where the quick look itself fits into it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", type=Path, nargs="+", default=[])
    args = parser.parse_args()
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = PARTS[args.part](args.model, data, Path(folder))
    packages = ("medseg", "openvino", "torch", "monai", "nnunetv2", "numpy")
    line = {
        "benchmark": f"inference {args.part}",
        "versions": {name: version(name) for name in packages if find_spec(name)},
        "processor": processor(),
        "threads": available_threads(),
        **found,
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


# One BRATS case, files to file.


def end_to_end(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """Wall times from a cold start, labels compared, and our time by step."""
    (model,) = models
    patient = data / "brats2013" / PATIENT
    channels = [patient / f"{name}_subtrMeanDivStd.nii.gz" for name in ("Flair", "T1c")]
    words = [f"{name}={path}" for name, path in zip(("flair", "t1c"), channels, strict=True)]
    walls, summary = predicted(words, model, folder / "ours.nii.gz", runs=RUNS)
    ours, here = statistics.median(walls), labels_of(folder / "ours.nii.gz")
    peers = {}
    for name, overlap in (("MONAI", 0.5), ("MONAI", 0.25), ("nnU-Net", 0.5)):
        out = folder / f"{name} {overlap}.nii.gz"
        taken = peer(name, model, channels, out, "--overlap", overlap)
        peers[f"{name} overlap {overlap}"] = taken | {
            "ratio": round(taken["wall_s"] / ours, 1),
            "dice": dices(here, labels_of(out), model),
        }
    cropped = peer("MONAI", model, channels, folder / "c.nii.gz", "--overlap", 0.25, "--crop")
    rounded = bf16_beside_f32(words, model, folder)
    bare = bare_seconds(model, words, channels)
    engine = summary.timing_s["engine"]
    others = ours - engine
    figures = {
        "seconds": round(ours, 2),
        "everything but the engine, seconds": round(others, 2),
        "engine over its bare time": round(engine / bare, 2),
        "least Dice": min(min(d["dice"].values()) for d in peers.values()),
        **{name: found["ratio"] for name, found in peers.items()},
    }
    reached = {
        name: figures[name] >= target if "overlap" in name or "Dice" in name else figures[name] <= target
        for name, target in END_TO_END.items()
    }
    if rounded:
        reached["bf16"] = min(rounded["dice with f32"].values()) >= BF16_DICE
    return {
        "model": facts(model),
        "case": PATIENT,
        "walls_s": [round(w, 2) for w in walls],
        "peak_memory_gib": round((summary.peak_memory_bytes or 0) / 2**30, 2),
        "timing_s": summary.timing_s,
        "engines": summary.provenance.engines,
        "bare_engine_s": round(bare, 2),
        "dice of MONAI at overlap 0.25 with itself at 0.5": dices(
            labels_of(folder / "MONAI 0.25.nii.gz"), labels_of(folder / "MONAI 0.5.nii.gz"), model
        ),
        "peers": peers,
        "MONAI cropped to the foreground, overlap 0.25": cropped
        | {"ratio": round(cropped["wall_s"] / ours, 1)},
        "bf16": rounded,
        "figures": figures,
        "targets": END_TO_END,
        "reached": reached,
        "pass": all(reached.values()),
    }


def bf16_beside_f32(words: Sequence[str], model: Path, folder: Path) -> dict[str, Any] | None:
    """Wall times in bf16, and how far its labels are from those in f32; None where there is no bf16."""
    if "bf16" not in precisions("openvino", "cpu"):
        return None
    found = {}
    for precision in ("f32", "bf16"):
        target = folder / f"{precision}.nii.gz"
        walls, _ = predicted([*words, "--precision", precision], model, target, runs=RUNS)
        found[precision] = statistics.median(walls), labels_of(target)
    return {
        "wall_s": round(found["bf16"][0], 2),
        "f32 wall_s": round(found["f32"][0], 2),
        "dice with f32": dices(found["bf16"][1], found["f32"][1], model),
    }


def bare_seconds(model: Path, words: Sequence[str], channels: Sequence[Path]) -> float:
    """What the engine takes for the fewest tiles of the case, once it is warm."""
    segmenter = medseg.load(str(model))
    names = tuple(word.partition("=")[0] for word in words)
    volume = read_volume(dict(zip(names, channels, strict=True)))
    member = segmenter.members[0]
    prepared = Preparation(member.model.spec.preparation).apply(volume)
    cut = member.predictor.plan(prepared.array.shape[1:])
    tile = cut.read(prepared.array, cut.tiles[0])[None]
    member.engine(tile)
    return len(cut.tiles) * median_seconds(lambda: member.engine(tile), 3)


# The same tiles.


def same_tiles(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """Sliding window of equal tiles in f32, in one process: ours with OpenVINO, MONAI's with torch."""
    import torch
    from monai.inferers.utils import sliding_window_inference

    sys.path.append(str(HERE / "peers"))
    from _network import network_of

    (model,) = models
    loaded, threads = load_model(str(model)), available_threads()
    names = loaded.spec.channels
    files = [data / "brats2013" / PATIENT / f"{n}_subtrMeanDivStd.nii.gz" for n in ("Flair", "T1c")]
    volume = read_volume(dict(zip(names, files, strict=True)))
    image = Preparation(loaded.spec.preparation).apply(volume).array[:, :144, :144, :96]
    network = network_of(model, threads)
    facts_ = loaded.spec.facts
    predictor = Predictor(
        engines=[load_engine(loaded, "openvino", precision="f32", threads=threads)],
        stride=facts_.stride,
        radius=facts_.receptive_radius,
        tile_independent=facts_.tile_independent,
        tile=(TILE,) * 3,
        strategy="sliding_window",
    )

    def ours() -> NDArray[np.float32]:
        return predictor.probabilities(image)

    def monai() -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.from_numpy(image)[None], (TILE,) * 3, 1, network, overlap=0.5, mode="gaussian"
            )
            return torch.softmax(logits, dim=1)[0].numpy()

    difference = float(np.abs(ours() - monai()).max())
    pairs = [(seconds(ours), seconds(monai)) for _ in range(3)]
    ratios = [b / a for a, b in pairs]
    ratio = statistics.median(ratios)
    return {
        "model": facts(model),
        "image": image.shape,
        "tiles": len(predictor.plan(image.shape[1:]).tiles),
        "ours_s": round(statistics.median(a for a, _ in pairs), 2),
        "monai_s": round(statistics.median(b for _, b in pairs), 2),
        "ratio": round(ratio, 2),
        "ratios": [round(r, 2) for r in ratios],
        "largest difference of a probability": difference,
        "target": SAME_TILES_TARGET,
        "pass": ratio >= SAME_TILES_TARGET,
    }


# Small and thin scans.


def small(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """A 128^3 scan from a cold start; a scan of 24 thick slices beside isotropic tiles of MONAI's."""
    (model,) = models
    cube, thin = folder / "cube.nii.gz", folder / "thin.nii.gz"
    channels = [data / "brats2013" / PATIENT / f"{n}_subtrMeanDivStd.nii.gz" for n in ("Flair", "T1c")]
    images = [nib.as_closest_canonical(nib.load(path)) for path in channels]
    names = ("flair", "t1c")
    cubes, thins = [], []
    for name, image in zip(names, images, strict=True):
        array = np.asarray(image.dataobj, np.float32)
        cubes.append(folder / f"{name}_{cube.name}")
        nib.save(nib.Nifti1Image(array[56:184, 56:184, 13:141], image.affine), cubes[-1])
        slices = array[40:200, 40:200, 20:140].reshape(160, 160, 24, -1).mean(axis=3)
        wide = slices.repeat(2, axis=0).repeat(2, axis=1)
        thins.append(folder / f"{name}_{thin.name}")
        nib.save(nib.Nifti1Image(wide, image.affine @ np.diag([0.5, 0.5, 5.0, 1])), thins[-1])
    told = [[f"{n}={p}" for n, p in zip(names, paths, strict=True)] for paths in (cubes, thins)]
    cube_walls, cube_summary = predicted(told[0], model, folder / "a.nii.gz", runs=RUNS)
    thin_walls, thin_summary = predicted(told[1], model, folder / "b.nii.gz", runs=RUNS)
    there = peer("MONAI", model, thins, folder / "c.nii.gz", "--overlap", 0.5)
    ratio = there["wall_s"] / statistics.median(thin_walls)
    agreement = dices(labels_of(folder / "b.nii.gz"), labels_of(folder / "c.nii.gz"), model)
    return {
        "model": facts(model),
        "128^3": {
            "wall_s": round(statistics.median(cube_walls), 2),
            "walls_s": [round(w, 2) for w in cube_walls],
            "timing_s": cube_summary.timing_s,
            "target_s": SMALL_SECONDS,
        },
        "320x320x24": {
            "wall_s": round(statistics.median(thin_walls), 2),
            "timing_s": thin_summary.timing_s,
            "monai": there,
            "ratio": round(ratio, 1),
            "dice": agreement,
            "target": THIN_TARGET,
        },
        "pass": statistics.median(cube_walls) < SMALL_SECONDS and ratio >= THIN_TARGET,
    }


# A folder.


def folder_of_cases(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """50 hippocampus crops in one call, with and without their mirror images; beside single calls; killed."""
    scans = folder / "scans"
    scans.mkdir()
    found = sorted((data / "hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))[:50]
    for path in found:
        shutil.copy(path, scans)
    command = [*COMMAND, "predict", str(scans), "-m", "hippocampus", "-q"]

    def whole(out: Path) -> float:
        return seconds(lambda: subprocess.run([*command, "-o", str(out)], check=True))

    mirrored = [whole(folder / f"mirrored{n}") for n in range(3)]
    alone = single_seconds(found, folder)
    ratio = alone * len(found) / statistics.median(mirrored)
    command.append("--no-tta")
    walls = [whole(folder / f"out{n}") for n in range(3)]
    wall = statistics.median(walls)
    return {
        "cases": len(found),
        "wall_s": round(wall, 2),
        "walls_s": [round(w, 2) for w in walls],
        "with the mirrored scan, as the model asks for, wall_s": round(statistics.median(mirrored), 2),
        "single call's inference, seconds": round(alone, 3),
        "throughput against 50 of them": round(ratio, 2),
        "killed": killed(command, folder / "killed", len(found)),
        "targets": {"wall_s": FOLDER_SECONDS, "throughput": THROUGHPUT_TARGET},
        "stated for nnU-Net": {"without mirroring_s": 28, "with_s": 129},
        "pass": wall < FOLDER_SECONDS and ratio >= THROUGHPUT_TARGET,
    }


def single_seconds(scans: Sequence[Path], folder: Path) -> float:
    """Reading to writing of one case in a call of its own, without start and imports: the median of nine."""
    taken = []
    for path in scans[::6]:
        target = folder / path.name.replace(".nii.gz", "_single.nii.gz")
        _, summary = predicted([str(path)], Path("hippocampus"), target, runs=1)
        taken.append(sum(summary.timing_s.values()))
    return statistics.median(taken)


def killed(command: Sequence[str], out: Path, cases: int) -> dict[str, Any]:
    """Kill the call once half of the results are there, and start it again."""
    running = subprocess.Popen([*command, "-o", str(out)], stderr=subprocess.DEVNULL)
    while len(list(out.glob("*_seg.json"))) < cases // 2 and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*_seg.json")}
    subprocess.run([*command, "-o", str(out)], check=True)
    after = {path: path.stat().st_mtime_ns for path in out.glob("*_seg.json")}
    torn = 0
    for path in out.glob("*_seg.nii.gz"):
        try:
            np.asarray(nib.load(path).dataobj)
        except (OSError, EOFError, ValueError):
            torn += 1
    return {
        "finished when killed": len(before),
        "of them done again": sum(after[path] != stamp for path, stamp in before.items()),
        "finished in the end": len(after),
        "torn": torn,
    }


# Dice and seconds.


def frontier(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """What each model's own file says of its Dice, and what its engine takes for a crop, alternating."""
    segmenters = [medseg.load(str(model)) for model in models]
    volume = medseg.read(sorted((data / "hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))[0])
    taken: list[list[float]] = [[] for _ in models]
    for _ in range(9):
        for row, segmenter in zip(taken, segmenters, strict=True):
            member = segmenter.members[0]
            prepared = Preparation(member.model.spec.preparation).apply(volume)
            row.append(seconds(lambda m=member, p=prepared: m.predictor.probabilities(p.array)))
    rows = []
    for model, segmenter, row in zip(models, segmenters, taken, strict=True):
        spec = segmenter.models[0].spec
        scores = {
            s.structure: round(s.mean, 4)
            for s in spec.evidence.validation or ()
            if s.metric == "dice" and s.mean is not None
        }
        rows.append(
            facts(model)
            | {
                "network": spec.network.name,
                "widths": spec.network.widths,
                "trained_s": spec.training.seconds,
                "steps": spec.training.steps,
                "dice": scores,
                "engine_s": round(statistics.median(row), 4),
            }
        )
    return {"models": rows, "pass": True}


# A time budget.


def anytime(models: Sequence[Path], data: Path, folder: Path) -> dict[str, Any]:
    """A head with the packaged model: seconds from reading to writing, and Dice with the whole prediction."""
    scan, model = str(data / "heads" / HEAD), Path("brain")
    full = folder / "full.nii.gz"
    _, summary = predicted([scan], model, full, runs=BUDGET_RUNS)
    rows = {
        f"{budget} s": budgeted([scan, "--time-budget", f"{budget}s"], model, full, folder)
        for budget in BUDGETS
    }
    means = [row["mean_dice"] for row in rows.values()]
    reached = {
        "more time, more Dice": means == sorted(means),
        "some budget computes some tiles": any(0 < row["tiles"] < row["of"] for row in rows.values()),
        "enough time, the same labels": rows[f"{BUDGETS[-1]} s"]["differing"] == 0,
        "budgets kept where a tile was computed": all(
            row["seconds"] <= BUDGET_OVER * budget
            for budget, row in zip(BUDGETS, rows.values(), strict=True)
            if row["tiles"]
        ),
    }
    return {
        "model": facts(model),
        "case": HEAD,
        "whole_s": summary.seconds,
        "budgets": rows,
        "reached": reached,
        "pass": all(reached.values()),
    }


def budgeted(words: Sequence[str], model: Path, full: Path, folder: Path) -> dict[str, Any]:
    """The median of some predictions within a budget, beside the whole one."""
    target = folder / "budgeted.nii.gz"
    _, summary = predicted(words, model, target, runs=BUDGET_RUNS)
    ours, theirs = labels_of(target), labels_of(full)
    found = dices(ours, theirs, model)
    last = summary_of(target)
    return {
        "seconds": summary.seconds,
        "tiles": len(last.budget.tiles) if last.budget else None,
        "of": last.budget.of if last.budget else None,
        "verdict": last.quality.flag if last.quality else None,
        "mean_dice": round(statistics.mean(found.values()), 4),
        "least_dice": min(found.values()),
        "differing": int((ours != theirs).sum()),
        "timing_s": summary.timing_s,
    }


# What they share.


def predicted(
    words: Sequence[str], model: Path, target: Path, *, runs: int
) -> tuple[list[float], PredictionSummary]:
    """Wall times of `medseg predict` from a cold start; the summary of the run with the median time."""
    command = [*COMMAND, "predict", *words, "-m", str(model), "-o", str(target), "--overwrite", "-q"]
    found = []
    for _ in range(runs):
        wall = seconds(lambda: subprocess.run(command, check=True))
        found.append((wall, summary_of(target)))
    ordered = sorted(found, key=lambda pair: pair[0])
    return [wall for wall, _ in found], ordered[len(ordered) // 2][1]


def summary_of(target: Path) -> PredictionSummary:
    """What lies beside a prediction.

    Raises:
        FileNotFoundError: nothing does.
    """
    summary = read_summary(summary_path(target))
    if summary is None:
        raise FileNotFoundError(summary_path(target))
    return summary


def peer(name: str, model: Path, channels: Sequence[Path], out: Path, *more: object) -> dict[str, Any]:
    """One run of a peer: its wall time and what it says of its steps."""
    target = out.with_name(out.name.removesuffix(".nii.gz")) if name == "nnU-Net" else out
    command = [
        sys.executable, str(HERE / "peers" / PEERS[name]), "--model", str(model),
        "--channels", *map(str, channels), "--out", str(target), "--tile", str(TILE),
        "--threads", str(available_threads()), *map(str, more),
    ]  # fmt: skip
    began = time.perf_counter()
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - began
    return {"wall_s": round(wall, 1), "steps_s": json.loads(ran.stdout.splitlines()[-1])}


def labels_of(path: Path) -> NDArray[np.integer[Any]]:
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.uint8)


def dices(ours: NDArray[np.integer[Any]], theirs: NDArray[np.integer[Any]], model: Path) -> dict[str, float]:
    """Dice of each structure that either found."""
    found = {}
    for structure in load_model(str(model)).spec.structure_set:
        a, b = ours == structure.value, theirs == structure.value
        if a.any() or b.any():
            found[structure.name] = round(2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum())), 5)
    return found


def facts(model: Path) -> dict[str, Any]:
    loaded = load_model(str(model))
    return {"name": loaded.spec.name, "norm": loaded.spec.network.norm, "sha256": loaded.sha256}


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def median_seconds(call: Callable[[], object], runs: int) -> float:
    return statistics.median(seconds(call) for _ in range(runs))


PARTS: dict[str, Callable[[Sequence[Path], Path, Path], dict[str, Any]]] = {
    "end-to-end": end_to_end,
    "same-tiles": same_tiles,
    "small": small,
    "folder": folder_of_cases,
    "frontier": frontier,
    "anytime": anytime,
}


if __name__ == "__main__":
    main()
