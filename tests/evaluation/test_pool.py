"""Processes: every result once, none lost when one dies, none left when the work is given up."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path

import pytest

from medseg.evaluation.pool import each

NUMBERS = list(range(7))


def square(number: int) -> int:
    return number * number


def fatal(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def slow(folder: str) -> int:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)
    return 0


def faulty(number: int) -> int:
    raise ValueError(f"not {number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_its_result_once(workers: int) -> None:
    found = list(each(square, NUMBERS, workers, lambda _: -1))
    assert sorted(found) == [(n, n * n) for n in NUMBERS]
    assert workers > 1 or found == sorted(found)


@pytest.mark.fault("reliability 86")
def test_what_kills_its_process_is_lost_alone() -> None:
    start = time.monotonic()
    found = dict(each(fatal, NUMBERS, 2, lambda n: -n))
    assert found == {n: -3 if n == 3 else n * n for n in NUMBERS}
    assert time.monotonic() - start < 10
    assert not active_children()


def test_a_fault_is_raised_here() -> None:
    with pytest.raises(ValueError, match="not 0"):
        list(each(faulty, [0], 2, lambda _: -1))


@pytest.mark.fault("reliability 86")
def test_giving_up_ends_the_processes_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with closing(each(first_or_slow, [str(tmp_path), ""], 2, lambda _: -1)) as results:
        assert next(results) == (1, 1)
        while not any(tmp_path.iterdir()):
            time.sleep(0.05)
    deadline = time.monotonic() + 20
    while active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not active_children()
    assert time.monotonic() - start < 50


def first_or_slow(folder: str) -> int:
    return slow(folder) if folder else 1
