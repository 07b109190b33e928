"""How fast a training goes: medseg's trainer, nnU-Net's, and a loop as MONAI's tutorials have it.

    python benchmarks/training_speed.py [--device cuda] [--threads 2] [--workers 2] [--rounds 7] [--steps 8]

The same network (3D U-Net, widths 16 to 160, batch norm), scans, patch, batch and kind of optimiser (AdamW).
Each trainer is a process of its own (`peers/`) that prepares the scans, makes patches and computes steps as
it does by itself; it only waits between rounds until its turn has come. All are bound to as many cores as
--threads says, helper processes included. One whose turn it is not is held up by SIGSTOP, with its helpers
and the batches they have made, so that no round begins with more of them than the last one left; Linux is
needed. Steps before the first round use up what was made while a trainer started, and are not counted.

What differs is what trainers do about it:
- precision: medseg computes in bf16 where the processor has instructions for it (and is then measured in f32
  too); nnU-Net and MONAI in f32 on a CPU, and under autocast in f16 on a GPU;
- memory layout: medseg computes with channels last, the others as torch lays tensors out;
- patches: nnU-Net reads them from compressed files, larger than the network's for its rotations need the rim,
  and changes them in processes of their own, as MONAI's DataLoader does with crops of cached scans; medseg
  reads a changed patch of a scan in memory in one interpolation, in a thread;
- augmentation: the recipe's (elastic 0.3, rotation and scaling 0.5, mirrors, contrast, noise), nnU-Net's
  (rotation and scaling 0.2 each, mirrors, blur, low resolution, contrast, noise), MONAI's tutorials'
  (mirrors, scaled and shifted intensities), which is the least;
- medseg averages the weights at every step, and looks for values that are not finite.

The scans are left atria at 0.625 mm of ../shared/data, or of where MEDSEG_DATA says; phantoms where there are
none. Prints one line of JSON; exits with 1 where medseg on a CPU trains fewer than 1.5 times as many patches
a second as nnU-Net. A GPU has no target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import torch

from medseg.data.phantom import write_phantoms
from medseg.networks.arithmetic import computes_in_bf16

HERE = Path(__file__).resolve().parent
DEFAULT_DATA = HERE.parents[1] / "shared" / "data"
PACKAGES = ("medseg", "torch", "numpy", "nnunetv2", "batchgenerators", "batchgeneratorsv2", "monai")
TARGET = 1.5
PATCH, BATCH = (80, 64, 48), 2
WARM_STEPS = 16
"""Before the first round: as many batches as nnU-Net's two queues hold, and some."""

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> int:
    options = arguments()
    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    with tempfile.TemporaryDirectory() as folder:
        job = write_job(Path(folder), options)
        rounds = measured(job, contestants(options), options)
        scans = len(list((Path(folder) / "raw" / DATASET / "imagesTr").iterdir()))
    seconds = {name: [r["seconds"] / options.steps for r in each] for name, each in rounds.items()}
    ratios = {
        f"{ours} / {peer}": compared(seconds[ours], seconds[peer])
        for ours in seconds
        if ours.startswith("medseg")
        for peer in ("nnU-Net", "MONAI")
    }
    reached = ratios["medseg / nnU-Net"]["ratio"] >= TARGET
    line = {
        "benchmark": "training_speed",
        "versions": {name: version(name) for name in PACKAGES},
        "processor": processor(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "scans": scans,
        "patch": PATCH,
        "batch": BATCH,
        **{name: getattr(options, name) for name in ("threads", "workers", "rounds", "steps")},
        "trainers": {name: figures(each, options.steps) for name, each in rounds.items()},
        "ratios": ratios,
        "target": TARGET if options.device == "cpu" else None,
        "pass": reached or options.device != "cpu",
        "total_seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    return 0 if line["pass"] else 1


# What is trained.

DATASET = "Dataset001_Speed"


def write_job(folder: Path, options: argparse.Namespace) -> Path:
    """The scans in nnU-Net's layout, which all three can read, and what is to be done with them."""
    data = folder / "raw" / DATASET
    scans = sorted((options.data / "left_atrium" / "images").glob("*.nii.gz"))[: options.cases]
    if scans:
        for path in scans:
            place(path, data / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
            place(path.parents[1] / "masks" / path.name, data / "labelsTr" / path.name)
        about = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, "left atrium": 1},
            "numTraining": len(scans),
            "file_ending": ".nii.gz",
        }
        (data / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    else:
        write_phantoms(data, "nnunet", options.cases, 0)
    labels = json.loads((data / "dataset.json").read_text("utf-8"))["labels"]
    zooms = nib.load(min((data / "imagesTr").iterdir())).header.get_zooms()
    job = folder / "job.json"
    settings = {
        "data": str(data),
        "folder": str(folder),
        "outputs": len(labels),
        "spacing_mm": [float(mm) for mm in zooms],
        "patch": PATCH,
        "batch": BATCH,
        "device": options.device,
        "threads": options.threads,
        "workers": options.workers,
    }
    job.write_text(json.dumps(settings), encoding="utf-8")
    return job


def place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


# Who trains.


class Contestant:
    """A trainer that goes on for as many steps as it is asked for, and is held up otherwise."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.log = name, log
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "peers" / command[0]), *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w", encoding="utf-8"),
            text=True,
            env={**os.environ, "TMPDIR": str(log.parent)},
            start_new_session=True,
        )

    def round(self, steps: int) -> dict[str, float]:
        """Seconds of so many steps, those within the steps, and those of cores that were at work."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.killpg(self.process.pid, signal.SIGCONT)
        before = self._core_seconds()
        print(steps, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended:\n{self.log.read_text('utf-8')[-4000:]}")
        worked = self._core_seconds() - before
        os.killpg(self.process.pid, signal.SIGSTOP)
        return json.loads(answer) | {"core_s": worked}

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _core_seconds(self) -> float:
        """Time of cores that the trainer and its helpers have used."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text("utf-8").rpartition(")")[2].split()
            except OSError:  # it has ended since
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_A_SECOND


def contestants(options: argparse.Namespace) -> dict[str, list[str]]:
    """Scripts of `peers/`, and words after the job."""
    medseg = {"medseg": ["medseg_train.py"]}
    if options.device == "cpu" and computes_in_bf16(torch.device("cpu")):
        medseg["medseg in f32"] = ["medseg_train.py", "f32"]
    return medseg | {"nnU-Net": ["nnunet_train.py"], "MONAI": ["monai_train.py"]}


def measured(
    job: Path, scripts: dict[str, list[str]], options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """The rounds of each trainer, in turn."""
    started: list[Contestant] = []
    try:
        for name, (script, *words) in scripts.items():
            started.append(Contestant(name, [script, str(job), *words], job.with_name(f"{name}.log")))
            started[-1].round(WARM_STEPS)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in scripts}
        for _ in range(options.rounds):
            for one in started:
                found[one.name].append(one.round(options.steps))
        return found
    finally:
        for one in started:
            one.end()


# What came of it.


def figures(rounds: list[dict[str, float]], steps: int) -> dict[str, Any]:
    """Medians over rounds."""
    seconds = statistics.median(r["seconds"] for r in rounds) / steps
    network = statistics.median(r["in_steps_s"] / r["seconds"] for r in rounds)
    return {
        "steps_a_second": round(1 / seconds, 3),
        "patches_a_second": round(BATCH / seconds, 3),
        "share_in_the_network": round(network, 4),
        "share_waiting_for_data": round(1 - network, 4),
        "core_seconds_a_step": round(statistics.median(r["core_s"] for r in rounds) / steps, 3),
        "seconds_a_step_by_round": [round(r["seconds"] / steps, 3) for r in rounds],
    }


def compared(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """How many times as many patches a second."""
    return {
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
        "ratio_of_each_round": [round(b / a, 3) for a, b in zip(ours, theirs, strict=True)],
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    bf16 = "with" if computes_in_bf16(torch.device("cpu")) else "without"
    return f"{names[0] if names else platform.processor()}, {bf16} bf16"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="cores, and threads of torch")
    parser.add_argument("--workers", type=int, default=2, help="processes that make patches, of the peers")
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
