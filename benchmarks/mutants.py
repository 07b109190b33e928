"""Small faults put into readers, measures, findings and checkpoints: what share do the tests notice?

    python benchmarks/mutants.py --log mutants.jsonl             # 184 mutants, half an hour of one core
    python benchmarks/mutants.py metrics --mutants 40 --seed 1 --log metrics.jsonl
    python benchmarks/mutants.py --log mutants.jsonl --again     # those that lived, with every test of now

A mutant differs from the code in one place: a comparison, an operator, a number, a condition that always or
never holds. They are drawn from each room in turn. Each runs against the tests of its room that reach its
line and its module's examples, the quickest and in all half a minute, until one fails, in a process forked
from one that has imported the libraries. What tests reach is recorded first, beside the log; a test written
since always runs.
Every outcome is a line of the log as it comes: the same command goes on where it stopped.
`mutants_equivalent.toml` says which differ in nothing that a user can see, and why.

Prints one JSON line: `killed` by the tests there were, `killed_now` with those written since, survivors.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from mutations import ROOT, Loader, Mutant, mutants_of

ROOMS = {
    "io": (sorted((ROOT / "medseg/io").rglob("*.py")), ["tests/io", "tests/prediction/test_dicom_out.py"]),
    "metrics": (sorted((ROOT / "medseg/metrics").glob("*.py")), ["tests/metrics"]),
    "findings": (
        [*sorted((ROOT / "medseg/findings").rglob("*.py")), ROOT / "medseg/segmentation/verdict.py"],
        [
            "tests/findings", "tests/segmentation/test_quality.py", "tests/segmentation/test_segment.py",
            "tests/prediction/test_dicom_out.py", "tests/reporting/test_report_workflow.py",
        ],
    ),
    "checkpoint": ([ROOT / "medseg/training/checkpoint.py"], ["tests/training/test_checkpoint.py"]),
}  # fmt: skip
"""What is changed, and the tests that must notice."""

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")

SECONDS = 60
"""What a mutant may take beyond five times the seconds of its tests; one that never ends was noticed."""

WORTH_S = 30.0
"""What the tests of a mutant may take, as recorded, when it is first tried."""

BYTES = 16 << 30
"""Of address space: one that takes more was noticed."""


@dataclass(frozen=True)
class Reach:
    """Seconds of each test of a room, and the lines of each file that it reaches."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[int]]]
    made: float
    """When they were recorded: files written since are run as well."""
    worth_s: float
    """What the tests of one mutant may take: slower ones are left out."""

    def of(self, mutant: Mutant) -> set[str]:
        """The quickest tests of those that notice a mutant if any does, in all at most `worth_s`."""
        quickest, left = set(), self.worth_s
        for name in sorted(self.reaching(mutant), key=self.seconds.__getitem__):
            left -= self.seconds[name]
            if left < 0:
                break
            quickest.add(name)
        return quickest

    def reaching(self, mutant: Mutant) -> set[str]:
        """Tests that reach the statement; the file, where it runs on import; all, where none reaches that."""
        name = str(mutant.path.relative_to(ROOT))
        wanted = set(mutant.lines)
        file = {test for test, files in self.lines.items() if files.get(name)}
        if wanted:
            return {test for test in file if wanted.intersection(self.lines[test][name])}
        return file or set(self.seconds)


class Recorder:
    """A pytest plugin that notes what each test reaches and takes."""

    def __init__(self, paths: Sequence[Path], out: Path) -> None:
        self.paths, self.out = {str(path): str(path.relative_to(ROOT)) for path in paths}, out
        self.reached: set[tuple[str, int]] = set()
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[str, list[int]]] = {}

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        return self.line if frame.f_code.co_filename in self.paths else None

    def line(self, frame: FrameType, event: str, _: Any) -> Any:
        self.reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _forget()
        self.reached, start = set(), time.monotonic()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = round(time.monotonic() - start, 2)
            files = defaultdict(list)
            for path, line in sorted(self.reached):
                files[self.paths[path]].append(line)
            self.lines[item.nodeid] = dict(files)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self.out.write_text(json.dumps({"seconds": self.seconds, "lines": self.lines}))


def _forget() -> None:
    """Empty the caches of medseg's functions, which else only the first test would reach."""
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("medseg") else ():
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()


@dataclass(frozen=True)
class Only:
    """A pytest plugin that leaves the named tests, and those that the record lacks, quickest first."""

    names: set[str]
    seconds: dict[str, float]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        left = [item for item in items if item.nodeid in self.names or item.nodeid not in self.seconds]
        items[:] = sorted(left, key=lambda item: self.seconds.get(item.nodeid, 0.0))


def recorded(room: str, log: Path, worth_s: float) -> Reach:
    """What the tests of a room reach, from beside the log or of a run of them all."""
    out = log.with_suffix(f".{room}.json")
    if not out.exists():
        paths, tests = ROOMS[room]
        ended = in_child(lambda: _tests(None, tests, Recorder(paths, out)), 3600)
        assert out.exists(), f"the tests of {room} fail without a mutant: {ended}"
    return Reach(**json.loads(out.read_text()), made=out.stat().st_mtime, worth_s=worth_s)


def passes(mutant: Mutant, reach: Reach) -> bool:
    """Whether the tests that a mutant runs against pass without it."""
    names = reach.of(mutant)
    files = sorted({name.split("::")[0] for name in names})
    return in_child(lambda: _tests(None, files, Only(names, reach.seconds)), 3600) == 0


def outcome(mutant: Mutant, tests: Sequence[str], reach: Reach) -> dict[str, Any]:
    """What became of a mutant: "lives", or noticed by a test, "dies", or by its time, "hangs"."""
    names, start = reach.of(mutant), time.monotonic()
    files = sorted({name.split("::")[0] for name in names})
    more = sorted(file for file in _files(tests) if (ROOT / file).stat().st_mtime > reach.made)
    own = [str(mutant.path.relative_to(ROOT))]
    seconds = SECONDS + 5 * sum(reach.seconds[name] for name in names)
    code = in_child(lambda: _tests(mutant, own + files + more, Only(names, reach.seconds)), seconds)
    became = {0: "lives", int(pytest.ExitCode.NO_TESTS_COLLECTED): "lives", None: "hangs"}.get(code, "dies")
    took = round(time.monotonic() - start, 1)
    return {"became": became, "tests": len(names), "reaching": len(reach.reaching(mutant)), "s": took}


def _files(tests: Sequence[str]) -> set[str]:
    found = [sorted((ROOT / t).glob("test_*.py")) if (ROOT / t).is_dir() else [ROOT / t] for t in tests]
    return {str(file.relative_to(ROOT)) for file in chain(*found)}


def in_child(work: Any, seconds: float) -> int | None:
    """The exit code of a forked process; None, if it had to be ended."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            work()
        finally:
            os._exit(os.EX_SOFTWARE)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _tests(mutant: Mutant | None, tests: Sequence[str], plugin: object) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if mutant is not None:
        sys.meta_path.insert(0, Loader(mutant))
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        # plain: pytest imports what it rewrites itself, and would import the module as it is
        options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--basetemp", f"{folder}/tests"]
        code = pytest.main([*options, "-m", "not slow and not realdata", *tests], plugins=[plugin])
    os._exit(int(code))


def preload() -> None:
    """Import what takes long, once; nothing of medseg."""
    import highdicom  # noqa: F401
    import monai  # noqa: F401
    import nibabel  # noqa: F401
    import pydantic  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import SimpleITK  # noqa: F401
    import skimage  # noqa: F401
    import tifffile  # noqa: F401
    import torch  # noqa: F401

    assert not any(name.split(".")[0] == "medseg" for name in sys.modules)


def drawn(rooms: Sequence[str], mutants: int, seed: int) -> tuple[dict[str, int], list[tuple[str, Mutant]]]:
    """How many there are of each room, and those drawn, of each room in turn."""
    count, orders = {}, []
    for room in rooms:
        every = [m for path in ROOMS[room][0] for m in mutants_of(path)]
        count[room] = len(every)
        order = np.random.default_rng([seed, *room.encode()]).permutation(len(every))
        orders.append([(room, every[n]) for n in order])
    turns = [pair for turn in zip_longest(*orders) for pair in turn if pair is not None]
    return count, turns[:mutants]


def tried(options: argparse.Namespace, chosen: list[tuple[str, Mutant]]) -> None:
    """Try each mutant that the log lacks, or each that lived; every outcome is written at once."""
    last = {row["key"]: row for row in written(options.log)}
    left = [(room, m.key, m) for room, m in chosen if m.key not in last]
    if options.again:
        lived = [row for row in last.values() if row["became"] == "lives"]
        left = [(row["room"], row["key"], m) for row in lived if (m := found_again(row["key"])) is not None]
    start = time.monotonic()
    worth_s = math.inf if options.again else WORTH_S
    reach = {room: recorded(room, options.log, worth_s) for room in sorted({room for room, _, _ in left})}
    for room, mutant in {room: m for room, _, m in left}.items():
        assert passes(mutant, reach[room]), f"tests of {room} fail without a mutant"
    with options.log.open("a") as log:
        for room, key, mutant in left:
            if time.monotonic() - start > 60 * options.minutes:
                break
            row = {"room": room, "key": key, **outcome(mutant, ROOMS[room][1], reach[room])}
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(f"{row['became']}  {key}", file=sys.stderr, flush=True)


def found_again(key: str) -> Mutant | None:
    """The mutant of a log where its line may have moved: the nearest with the same text."""
    place, line = key.split(" ", 1)[0].split(":")
    same = [m for m in mutants_of(ROOT / place) if _unplaced(m.key) == _unplaced(key)]
    return min(same, key=lambda m: abs(m.line - int(line)), default=None)


def written(log: Path) -> list[dict[str, Any]]:
    """The rows of the log; a last one that was cut off is left out, and cut off the file too."""
    whole = log.read_text() if log.exists() else ""
    kept = whole[: whole.rfind("\n") + 1]
    if kept != whole:
        log.write_text(kept)
    return [json.loads(line) for line in kept.splitlines()]


def content(options: argparse.Namespace, there_are: dict[str, int]) -> dict[str, Any]:
    """What the log says."""
    first: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
    for row in written(options.log):
        first.setdefault(row["key"], row)
        last[row["key"]] = row
    equivalent = tomllib.loads(EQUIVALENT.read_text("utf-8"))
    count = Counter(row["room"] for row in first.values())
    killed, now = (
        Counter(row["room"] for row in rows.values() if row["became"] != "lives") for rows in (first, last)
    )
    lived = sorted(key for key, row in last.items() if row["became"] == "lives")
    reasons = {key: equivalent[_said(key)] for key in lived if _said(key) in equivalent}
    total = sum(count.values())
    return {
        "there_are": there_are, "tried": dict(count), "killed": dict(killed), "killed_now": dict(now),
        "share": round(killed.total() / max(1, total), 3),
        "share_now": round(now.total() / max(1, total), 3),
        "share_now_of_not_equivalent": round(now.total() / max(1, total - len(reasons)), 3),
        "hangs": sum(row["became"] == "hangs" for row in first.values()),
        "survivors_of_first": sorted(key for key, row in first.items() if row["became"] == "lives"),
        "survivors": [key for key in lived if key not in reasons],
        "equivalent": reasons,
        "s": round(sum(row["s"] for row in first.values())),
    }  # fmt: skip


def _unplaced(key: str) -> str:
    """The path and the change, which stay when lines move."""
    place, text = key.split(": ", 1)
    return f"{place.split(':')[0]}: {text}"


def _said(key: str) -> str:
    """The path, the line as it reads, and the change: what `mutants_equivalent.toml` names a mutant by."""
    mutant = found_again(key)
    if mutant is None:
        return ""
    line = mutant.path.read_text("utf-8").splitlines()[mutant.line - 1].strip()
    return f"{mutant.path.relative_to(ROOT)}: {line}: {mutant.text}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help="which; all of them, if not said")
    parser.add_argument("--mutants", type=int, default=184, help="drawn of all there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="after which no further one is begun")
    parser.add_argument("--log", type=Path, required=True, help="what was tried; a new run goes on from it")
    parser.add_argument("--again", action="store_true", help="try those that lived, with the tests of now")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    preload()
    there_are, chosen = drawn(options.rooms or list(ROOMS), options.mutants, options.seed)
    tried(options, chosen)
    from training import processor

    found = {
        "benchmark": "mutants", "python": platform.python_version(), "processor": processor(),
        "seed": options.seed, **content(options, there_are),
    }  # fmt: skip
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
