"""Steps within steps count once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from medseg.core import stopwatch
from medseg.core.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    return now


def test_a_step_within_another_counts_for_itself_alone(clock: list[float]) -> None:
    watch = Stopwatch()
    with watch.step("outer"):
        clock[0] += 1
        with watch.step("inner"):
            clock[0] += 10
        clock[0] += 2
    clock[0] += 1000
    with watch.step("outer"):
        clock[0] += 4
    assert watch.seconds == {"outer": 7, "inner": 10}


def test_items_count_for_who_makes_them_not_for_who_takes_them(clock: list[float]) -> None:
    def made() -> Iterator[int]:
        for n in range(3):
            clock[0] += 10
            yield n

    watch = Stopwatch()
    with watch.step("take"):
        for _ in watch.over("make", made()):
            clock[0] += 1
    assert watch.seconds == {"take": 3, "make": 30}


def test_a_step_that_fails_is_counted_and_left(clock: list[float]) -> None:
    watch = Stopwatch()
    with suppress(KeyError), watch.step("fails"):
        clock[0] += 5
        raise KeyError
    with watch.step("next"):
        clock[0] += 1
    assert watch.seconds == {"fails": 5, "next": 1}


def test_a_process_knows_when_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; time.sleep(0.3); from medseg.core.stopwatch import process_seconds as s; print(s())"
    before = time.monotonic()
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert 0.25 < float(told) < time.monotonic() - before + 0.05
    monkeypatch.setattr(stopwatch, "PROCESS", tmp_path / "absent")
    assert 0 <= stopwatch.process_seconds() <= time.monotonic() - stopwatch.IMPORTED
