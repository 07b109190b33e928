"""Cases overlap, stay in order, and are never more than three."""

from __future__ import annotations

import threading

import pytest

from medseg.prediction.pipeline import one_by_one, overlapped

Notes = list[tuple[str, int]]
Waits = dict[tuple[str, int], threading.Event]


class Case:
    """Notes when each step begins and ends."""

    def __init__(
        self, number: int, notes: list[tuple[str, int]], waits: dict[tuple[str, int], threading.Event]
    ):
        self.number, self.notes, self.waits = number, notes, waits

    def _step(self, name: str) -> None:
        event = self.waits.get((name, self.number))
        self.notes.append((name, self.number))
        if event is not None:
            assert event.wait(10), f"{name} {self.number} waited in vain"

    def read(self) -> None:
        self._step("read")

    def segment(self) -> None:
        self._step("segment")

    def write(self) -> int:
        self._step("write")
        return self.number


def cases(count: int, waits: Waits | None = None) -> list[Case]:
    notes: Notes = []
    return [Case(n, notes, waits or {}) for n in range(count)]


@pytest.mark.parametrize("run", [one_by_one, overlapped])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_come_in_order_and_every_step_once(run, count: int) -> None:
    jobs = cases(count)
    assert list(run(jobs)) == list(range(count))
    if jobs:
        assert sorted(jobs[0].notes) == sorted(
            (step, n) for n in range(count) for step in ("read", "segment", "write")
        )
        for n in range(count):
            order = [jobs[0].notes.index((step, n)) for step in ("read", "segment", "write")]
            assert order == sorted(order)


def test_the_next_is_read_while_this_one_is_segmented() -> None:
    read = threading.Event()
    jobs = cases(2, {("segment", 0): read})
    jobs[1].read = lambda: read.set()  # type: ignore[method-assign]
    assert list(overlapped(jobs)) == [0, 1]


def test_this_one_is_segmented_while_the_last_is_written() -> None:
    segmented = threading.Event()
    jobs = cases(2, {("write", 0): segmented})
    jobs[1].segment = lambda: segmented.set()  # type: ignore[method-assign]
    assert list(overlapped(jobs)) == [0, 1]


def test_no_more_than_one_is_read_ahead() -> None:
    jobs = cases(5)
    results = overlapped(jobs)
    next(results)
    begun = {n for step, n in jobs[0].notes if step == "read"}
    assert begun <= {0, 1, 2}
    assert list(results) == [1, 2, 3, 4]
