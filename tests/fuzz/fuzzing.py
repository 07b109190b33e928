"""The fuzzer: spoiled files are read, each within limits, and what is no value and no refusal is a finding.

    python tests/fuzz/fuzzing.py                            # 20,000 inputs, two processes
    python tests/fuzz/fuzzing.py nifti tiff --inputs 2000
    python tests/fuzz/fuzzing.py --seed 7 --keep findings

Input n of a format is always the same for a seed, whatever was run before it, so that every finding can be
made again. What is found goes to the folder `--keep`; one that was mended belongs into
`tests/fuzz/corpus/FORMAT/`, where the suite reads it from then on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "helpers")]

from targets import TARGETS, Target  # noqa: E402

from medseg.core.errors import MedsegError  # noqa: E402

SECONDS, MEGABYTES = 5.0, 500.0
"""What one input may take, beside what the process holds already."""

REFUSALS = {2, 3, 4, 5, 6}
INPUTS, PROCESSES = 20_000, 2


class Hang(BaseException):
    """An input took too long; no handler of the code under test may swallow it."""


@dataclass
class Outcome:
    """What became of one input.

    Attributes:
        fault: what is wrong; "" for a value or a refusal.
        codes: exit codes of the readers, 0 for a value.
    """

    fault: str = ""
    codes: tuple[int, ...] = ()
    seconds: float = 0.0
    megabytes: float = 0.0


@dataclass
class Bench:
    """A format with its good files, in a folder of its own."""

    name: str
    folder: Path
    target: Target = field(init=False)
    seeds: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.target = TARGETS[self.name]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seeds = self.target.seeds(self.folder)

    @property
    def path(self) -> Path:
        return self.folder / self.target.file

    def spoiled(self, seed: int, number: int) -> bytes:
        """Input `number` of a seed."""
        generator = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        blob = self.seeds[int(generator.integers(0, len(self.seeds)))]
        return self.target.spoil(blob, generator)

    def outcome(self, blob: bytes) -> Outcome:
        """Give the bytes to every reader."""
        self.path.write_bytes(blob)
        found = Outcome()
        before, start = _held_mb(reset=True), time.perf_counter()
        for reader in self.target.readers:
            try:
                with limited(SECONDS), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    reader(self.path)
                found.codes += (0,)
            except MedsegError as refusal:
                found.codes += (refusal.exit_code,)
                if refusal.exit_code not in REFUSALS or "\n" in str(refusal):
                    found.fault = f"refused with {refusal.exit_code}: {refusal}"
            except Hang:
                found.fault = f"took more than {SECONDS:g} s"
            except Exception as fault:
                found.fault = f"{type(fault).__name__}: {fault}"[:300]
        found.seconds, found.megabytes = time.perf_counter() - start, _held_mb(reset=False) - before
        if found.megabytes > MEGABYTES:
            found.fault = found.fault or f"took {found.megabytes:.0f} MB"
        return found


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `Hang` in what takes longer."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _held_mb(*, reset: bool) -> float:
    """The most memory held since the last reset; 0 where the system does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


# Many inputs, in processes that may die


@dataclass
class Run:
    """What became of many inputs of one format."""

    name: str
    inputs: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    megabytes: float = 0.0
    findings: list[tuple[int, str]] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        faults = [fault for _, fault in self.findings]
        hangs, memory = (sum(f.startswith(word) for f in faults) for word in ("took more", "took "))
        return {
            "inputs": self.inputs,
            "read": self.codes[0],
            "refused": sum(n for code, n in self.codes.items() if code),
            "crashes": len(faults) - memory,
            "hangs": hangs,
            "over_memory": memory - hangs,
            "slowest_s": round(self.seconds, 2),
            "most_mb": round(self.megabytes),
        }


def fuzz(name: str, inputs: int, seed: int, keep: Path | None = None) -> Run:
    """Read `inputs` spoiled files of a format in a process of their own; a new one follows one that dies."""
    run = Run(name)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while run.inputs < inputs:
            _part(run, inputs, seed, Path(folder), keep)
    return run


def _part(run: Run, inputs: int, seed: int, folder: Path, keep: Path | None) -> None:
    """The inputs that are left, as far as one process gets."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (run.name, folder / str(run.inputs), range(run.inputs, inputs), seed, theirs)
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        while run.inputs < inputs:
            if not ours.poll(SECONDS * 4 if run.inputs else 120):
                found = Outcome(
                    f"took more than {SECONDS:g} s, without a way to stop it", seconds=SECONDS * 4
                )
            else:
                found = ours.recv()
            _note(run, found, seed, keep, folder)
            if not found.codes and found.fault.endswith("stop it"):
                return
    except EOFError:
        process.join()
        _note(run, Outcome(f"ended the process with {process.exitcode}"), seed, keep, folder)
    finally:
        process.kill()
        process.join()


def _work(name: str, folder: Path, numbers: range, seed: int, line: Connection) -> None:
    bench = Bench(name, folder)
    for number in numbers:
        line.send(bench.outcome(bench.spoiled(seed, number)))


def _note(run: Run, found: Outcome, seed: int, keep: Path | None, folder: Path) -> None:
    if found.fault:
        run.findings.append((run.inputs, found.fault))
        if keep is not None:
            bench = Bench(run.name, Path(tempfile.mkdtemp(dir=folder)))
            place = keep / run.name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{seed}-{run.inputs}").write_bytes(bench.spoiled(seed, run.inputs))
    run.inputs += 1
    run.codes.update(found.codes)
    run.seconds, run.megabytes = max(run.seconds, found.seconds), max(run.megabytes, found.megabytes)


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz the formats named; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("formats", nargs="*", choices=[*TARGETS, []], help="which; all of them, if not said")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of all formats together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--keep", type=Path, help="folder for what was found")
    options = parser.parse_args(words)
    names = options.formats or list(TARGETS)
    found = False
    for run in every(names, -(-options.inputs // len(names)), options.seed, options.processes, options.keep):
        found = found or bool(run.findings)
        print(run.name, json.dumps(run.content()), flush=True)  # noqa: T201
        for number, fault in run.findings:
            print(f"  {number}: {fault}", flush=True)  # noqa: T201
    return int(found)


def every(names: Sequence[str], inputs: int, seed: int, processes: int, keep: Path | None) -> Iterator[Run]:
    """Several formats in order, as many at a time as there are processes."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(lambda name: fuzz(name, inputs, seed, keep), names)


if __name__ == "__main__":
    sys.exit(main())
