"""Whether numbers of eight bits pay: a model's graph quantised by NNCF, beside the same in f32.

    python benchmarks/int8.py [--model hippocampus] [--data FOLDER] [--card hippocampus] [--threads 2]

NNCF makes two graphs of the model's: one whose weights alone have eight bits, and one whose maps have them
too, by what the first cases of the dataset let through it. Both and the graph in f32 (and in bf16, where the
processor computes in it) segment the same other cases, and take turns at one tile.

It pays where it is a tenth faster and no structure's mean Dice falls by more than twice the standard error of
its change. medseg ships no such graph: the line says why, or why not. The data is the hippocampus set of
../shared/data, or of where MEDSEG_DATA says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from training import DEFAULT_DATA, processor

from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.inference import engines
from medseg.metrics.case import evaluate_case
from medseg.model.file import Model, load_model
from medseg.preparation.preparation import Preparation
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

FASTER = 1.1
ROUNDS = 15


def main() -> int:
    options = arguments()
    began = time.perf_counter()
    nncf.set_log_level(logging.ERROR)
    card = load_card(options.card)
    found = card.read(options.data)
    read = [read_case(files, card) for files in found.cases[: options.calibrate + options.cases]]
    model = load_model(options.model)
    tiles = [tile_of(model, volume) for volume, _ in read[: options.calibrate]]
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        kinds = {"f32": model, **quantised(model, tiles)}
    precisions = dict.fromkeys(kinds, "f32")
    if "bf16" in engines.precisions("openvino", "cpu"):
        kinds["bf16"], precisions["bf16"] = model, "bf16"
    seconds = in_turn(kinds, precisions, tiles[0], options.threads)
    dice = {
        name: of_cases(one, precisions[name], read[options.calibrate :], options.threads)
        for name, one in kinds.items()
    }
    rows = {name: row(name, seconds, dice) for name in kinds}
    line = {
        "benchmark": "int8",
        "versions": {name: version(name) for name in ("medseg", "openvino", "nncf", "numpy")},
        "processor": processor(),
        "threads": options.threads,
        "model": model.spec.name,
        "cases": options.cases,
        "kinds": rows,
        "pays": [name for name in rows if "int8" in name and rows[name]["pays"]],
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    return 0


def tile_of(model: Model, volume: Any) -> np.ndarray:
    """The one tile that a prepared crop is read as."""
    prepared = Preparation(model.spec.preparation).apply(volume)
    predictor = Segmenter([model]).members[0].predictor
    plan = predictor.plan(prepared.array.shape[1:])
    return np.ascontiguousarray(plan.read(prepared.array, plan.tiles[0])[None])


def quantised(model: Model, tiles: list[np.ndarray]) -> dict[str, Model]:
    """The model with NNCF's graphs."""
    core = ov.Core()
    graph = core.read_model(*model.require_graph(""))
    weights = nncf.compress_weights(graph.clone(), mode=nncf.CompressWeightsMode.INT8_ASYM)
    whole = nncf.quantize(
        graph.clone(),
        nncf.Dataset(tiles),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(tiles),
    )
    return {"int8 weights": with_graph(model, weights), "int8 weights and maps": with_graph(model, whole)}


def with_graph(model: Model, graph: ov.Model) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        ov.serialize(graph, path)
        return replace(model, graph=(path.read_bytes(), path.with_suffix(".bin").read_bytes()), sha256="")


def in_turn(
    kinds: dict[str, Model], precisions: dict[str, Any], tile: np.ndarray, threads: int
) -> dict[str, list[float]]:
    """Seconds of one tile, the kinds in turn."""
    ready = {
        name: engines.load(model, "openvino", precision=precisions[name], threads=threads)
        for name, model in kinds.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(ROUNDS + 1):
        for name, engine in ready.items():
            start = time.perf_counter()
            engine(tile)
            if number:
                taken[name].append(time.perf_counter() - start)
    return taken


def of_cases(model: Model, precision: Any, cases: list[Any], threads: int) -> dict[str, list[float]]:
    """Dice of each structure in each case."""
    segmenter = Segmenter([model], SegmenterOptions(engine="openvino", precision=precision, threads=threads))
    found: dict[str, list[float]] = {}
    for volume, labels in cases:
        for measured in evaluate_case(segmenter(volume).labels, labels, segmenter.structures).rows:
            found.setdefault(measured.name, []).append(measured.metrics["dice"].value)
    return found


def row(
    name: str, seconds: dict[str, list[float]], dice: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    """One kind beside f32."""
    faster = statistics.median(seconds["f32"]) / statistics.median(seconds[name])
    changes = {}
    kept = True
    for structure, values in dice[name].items():
        change = np.array(values) - np.array(dice["f32"][structure])
        error = float(change.std(ddof=1) / len(change) ** 0.5)
        kept &= bool(change.mean() >= -2 * error)
        changes[structure] = {
            "dice": round(statistics.fmean(values), 5),
            "change": round(float(change.mean()), 5),
            "standard_error": round(error, 5),
        }
    return {
        "seconds_of_a_tile": round(statistics.median(seconds[name]), 4),
        "times_faster": round(faster, 3),
        "structures": changes,
        "pays": name != "f32" and kept and faster >= FASTER,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--card", default="hippocampus")
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)) / "hippocampus"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--calibrate", type=int, default=24, help="cases that set the scales")
    parser.add_argument("--cases", type=int, default=40, help="other cases, which are measured")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
