"""Stopwatch: the time that each step of a prediction takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

IMPORTED = time.monotonic()
PROCESS = Path("/proc/self/stat")
BEGAN = 19
"""Where `PROCESS` says, behind the command's name, how many ticks after the system the process began."""


def process_seconds() -> float:
    """Seconds since this process began; where the system does not say, since this module was imported."""
    try:
        ticks = int(PROCESS.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[BEGAN])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - IMPORTED


class Stopwatch:
    """Seconds by step; time within a step that another step takes is the other's alone.

    Args:
        clock: seconds since some moment; by default the system's.

    Attributes:
        seconds: of each step, in the order first met.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of the block for a step."""
        self._credit()
        self._running.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._credit()
            self._running.pop()

    @property
    def elapsed(self) -> float:
        """Seconds of all steps together, up to now."""
        self._credit()
        return sum(self.seconds.values())

    def over(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and count the time to produce each for a step."""
        iterator = iter(items)
        while True:
            with self.step(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _credit(self) -> None:
        now = self._clock() if self._clock else time.monotonic()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
