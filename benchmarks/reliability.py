"""Spoiled files of every format, and kills at any moment: nothing crashes, hangs, is torn or lost.

    python benchmarks/reliability.py                        # 20,000 inputs and 80 kills, twenty minutes
    python benchmarks/reliability.py --inputs 0 --kills 5
    python benchmarks/reliability.py --mutants mutants.json # with the line of mutants.py beside

(a) Files of each format are spoiled and read as `make fuzz` does (`tests/fuzz`): each is a value or a refusal
    with a documented exit code, within 5 s and 500 MB.
(b) Training, prediction of a folder, evaluation and conversion are killed by signal 9 at moments drawn over
    their whole length, each going on after a kill (`tests/helpers/kills.py`): no file under its own name is
    torn, no result that stood is lost, and all is in the end what it is without a kill.

Prints one line of JSON; exits with 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / room) for room in ("fuzz", "helpers")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])

from fuzzing import INPUTS, MEGABYTES, PROCESSES, SECONDS, every  # noqa: E402
from kills import WORKS, survive  # noqa: E402
from targets import TARGETS  # noqa: E402
from training import processor  # noqa: E402


def main() -> int:
    options = arguments()
    start = time.monotonic()
    formats = fuzzed(options.inputs, options.seed, options.formats)
    fuzz_s = time.monotonic() - start
    kills = killed(options.kills, options.works, options.seed)
    found: dict[str, Any] = {
        "benchmark": "reliability",
        "versions": {name: version(name) for name in ("medseg", "numpy", "nibabel", "SimpleITK", "torch")},
        "processor": processor(),
        "limits": {"seconds": SECONDS, "megabytes": MEGABYTES},
        "inputs": sum(run["inputs"] for run in formats.values()),
        "crashes": sum(run["crashes"] for run in formats.values()),
        "hangs": sum(run["hangs"] for run in formats.values()),
        "over_memory": sum(run["over_memory"] for run in formats.values()),
        "formats": formats,
        "fuzz_s": round(fuzz_s),
        "kills": kills,
    }
    if options.mutants is not None:
        mutants = json.loads(options.mutants.read_text())
        found["mutants"] = {key: mutants[key] for key in ("tried", "killed", "share")}
    print(json.dumps(found))
    broken = found["crashes"] + found["hangs"] + found["over_memory"]
    return int(bool(broken or any(run[fault] for run in kills.values() for fault in FAULTS)))


FAULTS = ("torn", "lost", "different")


def fuzzed(inputs: int, seed: int, names: list[str]) -> dict[str, Any]:
    """What became of the inputs of each format."""
    if not inputs:
        return {}
    runs = every(names, -(-inputs // len(names)), seed, PROCESSES, None)
    return {run.name: run.content() for run in runs}


def killed(kills: int, names: list[str], seed: int) -> dict[str, Any]:
    """What became of each work that was killed."""
    if not kills:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        return {name: asdict(survive(name, Path(folder) / name, kills, seed)) for name in names}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of all formats together")
    parser.add_argument("--formats", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--kills", type=int, default=20, help="of each work")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--mutants", type=Path, help="what mutants.py printed")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
