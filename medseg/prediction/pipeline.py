"""Cases one after the other: the next is read, and the last written, while this one is segmented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Steps(Protocol[R_co]):
    """What a job does: three steps, of which none raises an ordinary fault."""

    def read(self) -> None: ...

    def segment(self) -> None: ...

    def write(self) -> R_co: ...


def one_by_one(jobs: Sequence[Steps[R_co]]) -> Iterator[R_co]:
    """Each job whole before the next; its result."""
    for job in jobs:
        job.read()
        job.segment()
        yield job.write()


def overlapped(jobs: Sequence[Steps[R_co]]) -> Iterator[R_co]:
    """Results in order; three jobs at most are under way, each in another step."""
    writing: Future[R_co] | None = None
    with ThreadPoolExecutor(1, "medseg-read") as reader, ThreadPoolExecutor(1, "medseg-write") as writer:
        reading = [reader.submit(job.read) for job in jobs[:1]]
        for number, job in enumerate(jobs):
            reading.pop().result()
            if number + 1 < len(jobs):
                reading.append(reader.submit(jobs[number + 1].read))
            job.segment()
            if writing is not None:
                yield writing.result()
            writing = writer.submit(job.write)
        if writing is not None:
            yield writing.result()
