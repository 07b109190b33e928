"""A pool of processes: at most as many tasks run as there are workers."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

IMPORTED = ("medseg.evaluation.measure",)
"""What is imported once for all processes."""

T = TypeVar("T")
R = TypeVar("R")


def each(
    task: Callable[[T], R], items: Sequence[T], workers: int, died: Callable[[T], R]
) -> Generator[tuple[int, R], None, None]:
    """The number of each item and what the task made of it, as they finish; in order with one worker.

    One worker is this process. Close the generator to end the processes at once.

    Args:
        task: a function of a module, so that it can be sent to another process, as can its items.
        items: what it is called with.
        workers: processes at a time.
        died: makes the result of an item whose process died, of too little memory for example.

    Raises:
        Exception: what the task raises.
    """
    if workers <= 1:
        yield from ((number, task(item)) for number, item in enumerate(items))
        return
    waiting = deque(range(len(items)))
    with _team() as team:
        while waiting or team:
            while waiting and len(team) < workers:
                team.append(_Worker(task))
                team[-1].begin(waiting.popleft(), items)
            for worker in _ready(team):
                number, result = worker.number, worker.result(died, items)
                if waiting and worker.lives:
                    worker.begin(waiting.popleft(), items)
                else:
                    worker.end()
                    team.remove(worker)
                yield number, result


class _Worker:
    """A fresh process with one item at a time, and the line to it; it ends when the line is cut.

    It is no copy of this process, whose threads a copy would lack. Where that is sound, it is one of a
    process that has imported what it needs, and done nothing else.
    """

    def __init__(self, task: Callable[[Any], Any]) -> None:
        context: Any = get_context("forkserver" if sys.platform == "linux" else "spawn")
        context.set_forkserver_preload(list(IMPORTED))
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(task, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.lives = -1, True

    def begin(self, number: int, items: Sequence[Any]) -> None:
        self.number = number
        with suppress(BrokenPipeError):  # its end of the line says so again when the result is read
            self.line.send(items[number])

    def result(self, died: Callable[[Any], Any], items: Sequence[Any]) -> Any:
        """What it made of its item."""
        try:
            done, result = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.lives = False
            return died(items[self.number])
        if not done:
            raise result
        return result

    def end(self) -> None:
        self.line.close()
        self.process.join()

    def kill(self) -> None:
        self.process.terminate()
        self.end()


def _ready(team: Sequence[_Worker]) -> list[_Worker]:
    """Those that have a result, or have died."""
    lines = wait([worker.line for worker in team])
    return [worker for worker in team if worker.line in lines]


@contextmanager
def _team() -> Iterator[list[_Worker]]:
    """The workers, none of which is left when the block ends."""
    team: list[_Worker] = []
    try:
        yield team
    finally:
        for worker in team:
            worker.kill()


def _serve(task: Callable[[Any], Any], line: Connection) -> None:
    """Do what comes over the line until it is cut. Ctrl-C is left to the process at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError):
        while True:
            item = line.recv()
            try:
                answer = True, task(item)
            except Exception as fault:
                answer = False, fault
            line.send(answer)
