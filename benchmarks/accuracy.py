"""Dice of a recipe trained for a given time on two cores, on the fold it was not trained on.

    python benchmarks/accuracy.py --data ../shared/data/hippocampus --out runs/accuracy

Trains (or goes on with, or just reads) the run in --out, and prints one JSON line. Targets: anterior 0.89,
posterior 0.87 for `hippocampus_unet3d` in 20 minutes. The machine must be otherwise idle.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from medseg.model import load_model

TARGETS = {"hippocampus_unet3d": {"anterior": 0.89, "posterior": 0.87}}


def main() -> None:
    options = arguments()
    command = [sys.executable, "-c", "from medseg.cli.main import main; main()", "train", options.recipe]
    command += ["--data", str(options.data), "-o", str(options.out), "--threads", str(options.threads)]
    command += ["--time-budget", options.budget]
    subprocess.run(command, check=True, stdout=sys.stderr)
    spec = load_model(options.out / "model.safetensors").spec
    dice = {row["structure"]: row for row in spec.evidence["validation"] if row["metric"] == "dice"}
    targets = TARGETS.get(options.recipe, {})
    reached = {name: round(row["mean"], 4) for name, row in dice.items()}
    print(
        json.dumps(
            {
                "benchmark": "accuracy",
                "recipe": options.recipe,
                "time_budget": options.budget,
                "trained_seconds": spec.training["seconds"],
                "steps": spec.training["steps"],
                "cases_trained": spec.training["cases"]["trained"],
                "cases_measured": spec.training["cases"]["measured"],
                "dice": reached,
                "dice_ci95": {name: row["ci95"] for name, row in dice.items()},
                "targets": targets,
                "pass": all(reached[name] >= target for name, target in targets.items()),
                "threads": options.threads,
                "processor": processor(),
                "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "numpy")},
            }
        )
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    bf16 = "with" if "avx512_bf16" in flags else "without"
    return f"{names[0] if names else platform.processor()}, {bf16} bf16"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="hippocampus_unet3d")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hippocampus"))
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
