"""A service without its answers: its jobs, the workers that do them, the trainings beside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import ResourceError
from medseg.serving.crew import Crew, CrewOptions
from medseg.serving.job import Incoming, Job
from medseg.serving.job import Request as Wanted
from medseg.serving.jobs import JobBook
from medseg.serving.trainings import Trainings


@dataclass(frozen=True)
class ServeOptions:
    """How a service runs.

    Attributes:
        data: folder of its jobs, and of the cases that are kept.
        models: files by name.
        token: that clients must state; empty where none is needed.
        most_bytes: that a request may send, and a scan hold unpacked.
        most_waiting: jobs that may wait or run at a time.
        keep_s: how long a job stays after its result was fetched.
        workers, threads, max_memory, time_limit_s: see `crew.CrewOptions`.
    """

    data: Path
    models: Mapping[str, str]
    token: str = ""
    most_bytes: int = 2**30
    most_waiting: int = 256
    keep_s: float = 86400.0
    workers: int = 1
    threads: int = 0
    max_memory: int | None = None
    time_limit_s: float = 600.0

    @property
    def cases(self) -> Path:
        """The folder of the corrected cases, which has one of each model."""
        return self.data / "cases"


class Service:
    """The jobs of a service, who does them, and what is trained beside.

    Args:
        options: how it runs.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.book = JobBook(options.data / "jobs", options.most_waiting, options.keep_s)
        self.crew = Crew(
            self.book,
            CrewOptions(
                options.models,
                options.cases,
                options.workers,
                options.threads,
                options.max_memory,
                options.time_limit_s,
            ),
        )
        self.trainings = Trainings(options.data / "trainings", options.threads)

    @asynccontextmanager
    async def running(self, _: object) -> AsyncIterator[None]:
        """Work as long as the application runs."""
        self.crew.start()
        try:
            yield
        finally:
            await self.crew.stop()
            await self.trainings.stop()
            self.book.close()

    async def queued(self, wanted: Wanted, key: str, fill: Callable[[Incoming], Awaitable[None]]) -> Job:
        """A new job, with the files that `fill` writes."""
        with self.book.received(wanted, key) as new:
            await fill(new)
        job = self.book.get(new.id)
        if job is None:
            raise ResourceError("the job was removed while it was sent")
        await self.crew.call()
        return job
