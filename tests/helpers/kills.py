"""Kill a command at any moment, again and again: what it leaves is whole, and it ends as without a kill."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import tiny_model

from medseg.core.errors import MedsegError
from medseg.data.phantom import write_phantom_dataset, write_phantom_scan
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.training import checkpoint

PROGRAM = [sys.executable, "-c", "from medseg.cli.main import main; main()"]
OWNER = "run.owner.json"
"""Who trains in a folder: held like a lock, and let go of when the training ends."""
TIMES = {"seconds", "timing_s", "peak_memory_bytes", "processor", "created"}
"""Keys and columns of results that differ from run to run."""

SHAPE = (18, 20, 16)
RECIPE = """
name = "tiny"
card = "phantom"
[network]
name = "unet3d"
widths = [4, 8]
norm = "batch"
[training]
patch = [16, 16, 16]
batch = 1
epochs = 3
steps_per_epoch = 3
"""


@dataclass(frozen=True)
class Work:
    """A command that can be given again after it was killed.

    Attributes:
        words: of the command line.
        out: the folder of its results, made by it.
    """

    words: tuple[str, ...]
    out: Path


@dataclass
class Survived:
    """What many kills did.

    Attributes:
        kills: processes that were killed while they worked.
        torn: files under their own name that were not whole afterwards.
        lost: results that stood before a kill, and not after it.
        different: files that are not at the end what they are without a kill.
    """

    kills: int = 0
    torn: int = 0
    lost: int = 0
    different: int = 0


def training(folder: Path) -> Work:
    write_phantom_dataset(folder / "data", cases=6, shape=SHAPE)
    (folder / "tiny.toml").write_text(RECIPE)
    words = (
        "train",
        folder / "tiny.toml",
        "--data",
        folder / "data",
        "-o",
        folder / "out",
        "--folds",
        3,
        "--fold",
        0,
    )
    return Work((*map(str, words), "--threads", "1", "-q"), folder / "out")


def prediction(folder: Path) -> Work:
    tiny_model().save(folder / "tiny.safetensors")
    (folder / "scans").mkdir()
    for n in range(5):
        write_phantom_scan(folder / "scans" / f"s{n}.nii.gz", seed=n, shape=(24, 24, 24))
    words = (
        "predict",
        folder / "scans",
        "-m",
        folder / "tiny.safetensors",
        "-o",
        folder / "out",
        "--threads",
        1,
    )
    return Work((*map(str, words), "-q"), folder / "out")


def evaluation(folder: Path) -> Work:
    write_phantom_dataset(folder / "data", cases=6, shape=(40, 40, 40))
    shutil.copytree(folder / "data" / "labelsTr", folder / "pred")
    words = ("evaluate", folder / "pred", folder / "data" / "labelsTr", "-o", folder / "out")
    return Work((*map(str, words), "--workers", "1"), folder / "out")


def conversion(folder: Path) -> Work:
    write_phantom_dataset(folder / "data", cases=8, shape=(32, 32, 32))
    words = ("convert", folder / "data", folder / "out", "--from", "decathlon", "--to", "nnunet")
    return Work((*map(str, words), "--overwrite"), folder / "out")


WORKS: dict[str, Callable[[Path], Work]] = {
    "training": training, "prediction": prediction, "evaluation": evaluation, "conversion": conversion,
}  # fmt: skip


def survive(name: str, folder: Path, kills: int, seed: int = 0) -> Survived:
    """Kill a work `kills` times at moments drawn over its whole length, going on after each.

    Moments are counted in processor time, so that the work gets as far on a busy machine.

    Raises:
        AssertionError: the command fails without a kill, or after one.
    """
    folder.mkdir(parents=True)
    work, found = WORKS[name](folder), Survived()
    _, length = _given(work)
    expected = _finished(work)
    shutil.rmtree(work.out)
    generator = np.random.default_rng(seed)
    while found.kills < kills:
        before = state(work.out)
        killed, _ = _given(work, float(generator.uniform(0.3 * length, length)))
        if not killed:
            found.different += _differing(expected, _finished(work))
            shutil.rmtree(work.out)
            continue
        found.kills += 1
        found.torn += len(torn(work.out))
        lost = before.keys() - state(work.out).keys()
        found.lost += len(lost)
        if lost:
            print(f"{name}: lost {', '.join(sorted(lost))}", file=sys.stderr)  # noqa: T201
    _given(work)
    found.different += _differing(expected, _finished(work))
    return found


def _given(work: Work, moment: float = math.inf) -> tuple[bool, float]:
    """Give the command and kill it at a moment: whether it was killed, and the seconds it took.

    Raises:
        AssertionError: it fails.
    """
    process = subprocess.Popen([*PROGRAM, *work.words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    start = time.monotonic()
    seconds = 0.0
    while process.poll() is None:
        seconds = _taken(process.pid, start)
        if seconds >= moment:
            process.kill()
            process.communicate()
            return process.returncode == -signal.SIGKILL, seconds
        time.sleep(0.002)
    _, error = process.communicate()
    assert process.returncode == 0, error
    return False, seconds


def _taken(pid: int, start: float) -> float:
    """Processor time of a process in seconds; where the system does not say, the time since its start."""
    try:
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return time.monotonic() - start
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _finished(work: Work) -> dict[str, str]:
    """What a work that ended says, which leaves nothing else behind."""
    left = [path.name for path in work.out.rglob(".*")]
    assert not left, f"left behind: {left}"
    return state(work.out)


def _differing(expected: dict[str, str], found: dict[str, str]) -> int:
    return sum(expected.get(name) != found.get(name) for name in expected.keys() | found.keys())


def state(folder: Path) -> dict[str, str]:
    """What each file of a folder says, without times; pages and logs of other programs by name alone."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(_said(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and "tensorboard" not in path.parts
        and path.suffix not in (".lock", ".tmp") and path.name != OWNER
    }  # fmt: skip


def _said(path: Path) -> bytes:
    try:
        if path.suffix == ".json":
            return json.dumps(_timeless(json.loads(path.read_bytes())), sort_keys=True).encode()
        if path.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
            return repr([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
        if path.suffix == ".safetensors":
            held = _weights(path)
            return b"".join(key.encode() + np.asarray(held[key]).tobytes() for key in sorted(held))
    except (ValueError, MedsegError):
        return b"torn"
    return b"" if path.suffix in (".html", ".png") else path.read_bytes()


def _weights(path: Path) -> dict[str, Any]:
    return dict(
        checkpoint.load(path).tensors if path.parent.name == "checkpoints" else load_model(path).weights
    )


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMES}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def torn(folder: Path) -> list[Path]:
    """Files that bear their own name and are not whole."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _whole(path)]


def _whole(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix in (".lock", ".tmp"):
        return True
    try:
        if path.name.endswith(".nii.gz"):
            read_volume(path)
            gzip.decompress(path.read_bytes())
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
            return len({len(row) for row in rows}) == 1
        elif path.suffix == ".safetensors":
            _weights(path)
        elif path.suffix == ".html":
            return path.read_text("utf-8").rstrip().endswith("</html>")
    except (ValueError, OSError, EOFError, MedsegError):
        return False
    return True
