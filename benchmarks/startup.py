"""How long the command line takes to say anything, and what it imports for it.

(a) `medseg --help` takes less than 0.3 s of wall time and imports no numpy.
(b) `medseg info scan.nii.gz` imports neither torch nor monai.
(c) `medseg predict scan.nii.gz` has read its model and begins with the scan after 0.35 s, and imports none of
    what it does not need.
Beside them, `import monai`, which the usual scripts begin with. All run from compiled modules, as an
installation does after its first use.

Prints one line of JSON: medians over the rounds of wall and of processor time, which a busy machine
disturbs less; exits with 1 when a promise is not kept. Takes half a minute on two quiet cores.

    python benchmarks/startup.py [--rounds 7]
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

from medseg.data.phantom import write_phantom_scan

HELP_SECONDS, PREDICT_SECONDS = 0.3, 0.35
NOT_FOR_PREDICT = ("torch", "monai", "SimpleITK", "nibabel", "scipy", "matplotlib", "pydantic", "pydicom")
HEAVY = ("numpy", "openvino", *NOT_FOR_PREDICT)
MEDSEG = "from medseg.cli.main import main; main()"
LISTED = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(" ".join(sorted({m.split(".")[0] for m in sys.modules}))))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="runs of each; at least 7 for the record")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii.gz"
        write_phantom_scan(scan)
        commands = {
            "help": [MEDSEG, "--help"],
            "info": [MEDSEG, "info", str(scan)],
            "import_monai": ["import monai"],
            "bare_python": ["pass"],
        }
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        words = ["-m", "hippocampus", "-o", f"{folder}/labels.nii.gz", "--overwrite", "--force", "--timing"]
        predict = [MEDSEG, "predict", str(scan), *words]
        times = measure(commands, rounds)
        starts = [start_of(predict) for _ in range(rounds + 1)][1:]
        imports = {name: imported(command) for name, command in (commands | {"predict": predict}).items()}
    medians = {name: summary(found) for name, found in times.items()}
    help_s, info_s, monai_s = (medians[n]["wall_s"] for n in ("help", "info", "import_monai"))
    start_s = statistics.median(starts)
    light = not imports["help"] and not {"torch", "monai"} & set(imports["info"])
    light = light and not set(NOT_FOR_PREDICT) & set(imports["predict"])
    result = {
        "benchmark": "startup",
        "versions": {
            name: version(name) for name in ("medseg", "typer", "numpy", "nibabel", "torch", "monai")
        },
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "rounds": rounds,
        "medians": medians,
        "start_of_predict_s": {"median": round(start_s, 3), "least": round(min(starts), 3)},
        "heavy_imports": imports,
        "monai_to_help": round(monai_s / help_s, 1),
        "monai_to_info": round(monai_s / info_s, 1),
        "targets": {
            "help_wall_s": HELP_SECONDS,
            "heavy_imports_of_help": [],
            "torch_or_monai_in_info": False,
            "start_of_predict_s": PREDICT_SECONDS,
        },
        "pass": help_s < HELP_SECONDS and start_s <= PREDICT_SECONDS and light,
    }
    print(json.dumps(result))
    sys.exit(0 if result["pass"] else 1)


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) seconds of each command; one run of each warms the disk, then they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            used, began = spent(), time.perf_counter()
            subprocess.run(python(command), stdout=subprocess.DEVNULL, check=True)
            if turn:
                times[name].append((time.perf_counter() - began, spent() - used))
    return times


def start_of(command: list[str]) -> float:
    """Seconds of a prediction before it reads its scan, as `--timing` says."""
    done = subprocess.run(python(command), capture_output=True, text=True, check=True)
    return next(float(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("start"))


def imported(command: list[str]) -> list[str]:
    """The heavy packages a command imports."""
    program, *words = command
    done = subprocess.run(python([LISTED + program, *words]), capture_output=True, text=True, check=True)
    return [name for name in HEAVY if name in done.stderr.split()]


def python(command: list[str]) -> list[str]:
    return [sys.executable, "-c", *command]


def spent() -> float:
    """Processor seconds of all children so far."""
    times = os.times()
    return times.children_user + times.children_system


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    wall, processor = zip(*times, strict=True)
    return {
        "wall_s": round(statistics.median(wall), 3),
        "wall_least_s": round(min(wall), 3),
        "processor_s": round(statistics.median(processor), 3),
    }


if __name__ == "__main__":
    main()
