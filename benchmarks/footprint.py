"""What feature maps an engine holds at once, for every network: the table that plans memory.

    python benchmarks/footprint.py

A network with random weights answers for one tile in a process of its own, with batch and with instance norm;
what the process grew by, less image and logits, is stated in maps of the network's first width at full
resolution. Prints one line of JSON, and exits with 1 where a network holds more than
`medseg.inference.tiles.MAPS_ALIVE` says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import torch

from medseg.core.structures import Structure
from medseg.inference import engines
from medseg.inference.engines.base import EngineName
from medseg.inference.engines.torch import to_graph
from medseg.inference.tiles import MAPS_ALIVE
from medseg.io.memory import held_bytes, peak_memory_bytes
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec, Norm
from medseg.networks import registry
from medseg.training.setup import facts_of

WIDTHS, OUTPUTS, SIDE = (16, 32, 64, 128), 4, 112
OPTIONS = {"fast_unet": {"detail": 16}}
NORMS = ("batch", "instance")
ENGINES: tuple[EngineName, ...] = ("openvino", "torch")


def main() -> None:
    if len(sys.argv) > 1:
        print(maps_held(*sys.argv[1:]))
        return
    began = time.perf_counter()
    found = {
        name: {engine: max(in_a_process(name, norm, engine) for norm in NORMS) for engine in ENGINES}
        for name in MAPS_ALIVE
    }
    table = {name: dict(zip(ENGINES, maps, strict=True)) for name, maps in MAPS_ALIVE.items()}
    line = {
        "benchmark": "footprint",
        "versions": {n: version(n) for n in ("medseg", "openvino", "torch")},
        "tile": [SIDE] * 3,
        "maps": found,
        "table": table,
        "total_seconds": round(time.perf_counter() - began, 1),
        "pass": all(found[name][e] <= table[name][e] for name in table for e in ENGINES),
    }
    print(json.dumps(line))
    sys.exit(0 if line["pass"] else 1)


def in_a_process(name: str, norm: str, engine: str) -> float:
    command = [sys.executable, __file__, name, norm, engine]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def maps_held(name: str, norm: Norm, engine: EngineName) -> float:
    """Of one network in this process, which has held nothing larger before."""
    torch.manual_seed(0)
    spec = NetworkSpec(name, 1, OUTPUTS, widths=WIDTHS, norm=norm, options=OPTIONS.get(name, {}))
    built = registry.build(spec).eval()
    structures = tuple(Structure(n, f"structure {n}") for n in range(1, OUTPUTS))
    weights = {key: value.detach().numpy() for key, value in built.state_dict().items()}
    described = ModelSpec(name, spec, facts_of(built), ("MR",), structures)
    run = engines.load(Model(described, weights, to_graph(built, 1, 3)), engine, threads=2)
    rng = np.random.default_rng(0)
    run(rng.random((1, 1, 32, 32, 32), dtype=np.float32))
    tile = rng.random((1, 1, SIDE, SIDE, SIDE), dtype=np.float32)
    before = held_bytes()
    run(tile)
    values = ((peak_memory_bytes() or 0) - before) / tile.nbytes
    return round((values - 2 * OUTPUTS) / WIDTHS[0], 2)


if __name__ == "__main__":
    main()
