"""Whether the main job takes the time and memory that it took at an earlier commit.

    python benchmarks/revisions.py COMMIT SCAN [SCAN ...] [--rounds 5] [--model NAME]

The earlier commit is checked out into a temporary folder. In turns, `medseg predict SCAN` runs in a process
of its own with that code and with this, both in this environment and with their own packaged models. Prints
one line of JSON: the median wall time and the largest peak of memory of each scan, and their ratio (now to
then). Exits with 1 where a ratio is above 1.05. Five rounds of a head take a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LIMIT = 1.05
MEDSEG = "from medseg.cli.main import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="as `medseg predict -m` takes it; the default where none is named")
    options = parser.parse_args()
    words = ["-m", options.model] if options.model else []
    with tempfile.TemporaryDirectory() as folder:
        then = Path(folder) / "then"
        git("worktree", "add", "--detach", str(then), options.commit)
        try:
            trees = {"then": then, "now": HERE}
            scans = {
                scan.name: compared(trees, [str(scan.resolve()), *words], options.rounds)
                for scan in options.scans
            }
        finally:
            git("worktree", "remove", "--force", str(then))
    worst = max(max(found["time_ratio"], found["memory_ratio"]) for found in scans.values())
    result = {
        "benchmark": "revisions",
        "commits": {"then": short(options.commit), "now": short("HEAD")},
        "versions": {name: version(name) for name in ("medseg", "numpy", "openvino", "nibabel")},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "rounds": options.rounds,
        "model": options.model,
        "scans": scans,
        "targets": {"largest_ratio": LIMIT},
        "pass": worst <= LIMIT,
    }
    print(json.dumps(result))
    sys.exit(0 if result["pass"] else 1)


def compared(trees: dict[str, Path], words: list[str], rounds: int) -> dict[str, float]:
    """Median seconds and the largest peak in MiB of both trees; one run of each warms the disk."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
    for turn in range(rounds + 1):
        for name, tree in trees.items():
            spent = predicted(tree, words)
            if turn:
                found[name].append(spent)
    seconds = {name: statistics.median(s for s, _ in runs) for name, runs in found.items()}
    peaks = {name: max(peak for _, peak in runs) for name, runs in found.items()}
    return {
        "then_s": round(seconds["then"], 2),
        "now_s": round(seconds["now"], 2),
        "time_ratio": round(seconds["now"] / seconds["then"], 3),
        "then_MiB": round(peaks["then"]),
        "now_MiB": round(peaks["now"]),
        "memory_ratio": round(peaks["now"] / peaks["then"], 3),
    }


def predicted(tree: Path, words: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one `medseg predict` with the code of `tree`."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = subprocess.Popen(
            [sys.executable, "-c", MEDSEG, "predict", *words, "-o", str(Path(folder) / "labels.nii.gz")],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(run.pid, 0)
        seconds = time.perf_counter() - began
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"`medseg predict {' '.join(words)}` ended with {code} in {tree}")
    return seconds, used.ru_maxrss / 1024


def short(commit: str) -> str:
    return git("rev-parse", "--short", commit)


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
