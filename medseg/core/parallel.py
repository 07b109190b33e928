"""Work that NumPy does outside Python's lock, in several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def each(work: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """Call `work` with every item, in so many threads; the first fault among the items is raised.

    >>> found = []
    >>> each(found.append, range(3), threads=1), found
    (None, [0, 1, 2])
    """
    if threads <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads, "medseg-each") as pool:
        for _ in pool.map(work, items):
            pass


def spans(start: int, stop: int, parts: int) -> list[tuple[int, int]]:
    """So many runs of whole numbers, or fewer, about equally long, from `start` to behind the last.

    >>> spans(3, 8, 2), spans(0, 1, 4)
    ([(3, 6), (6, 8)], [(0, 1)])
    """
    step = max(1, -(-(stop - start) // max(1, parts)))
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
