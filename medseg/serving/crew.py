"""The workers of a service: each a process with its models, given one job at a time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core.errors import MedsegError, ResourceError
from medseg.serving.job import ENDED, Job
from medseg.serving.jobs import JobBook

LOG = logging.getLogger("medseg")
LINE_BYTES = 1 << 20
LOOK_S = 0.2
"""Between two looks at a worker's memory and time."""
TIDY_S = 30.0
"""Between two looks for jobs whose time is over."""
NO_ROOM_S = 1.0
"""Until a job is tried again that could not be begun."""
BEYOND = 1.25
"""Of the memory that a worker plans with, what it may hold: a plan is an estimate."""
LATENCIES = 10_000
"""Jobs whose times are kept for the metrics."""
PROGRAM = (sys.executable, "-m", "medseg.serving.worker")


@dataclass(frozen=True)
class CrewOptions:
    """How workers run.

    Attributes:
        models: files by name.
        cases: folder of the corrected cases, which has one of each model.
        workers: how many.
        threads: of the processor, of each; 0 shares what there is.
        max_memory: bytes that a worker may hold; None takes most of what is free.
        time_limit_s: that a job may take.
    """

    models: Mapping[str, str]
    cases: Path
    workers: int = 1
    threads: int = 0
    max_memory: int | None = None
    time_limit_s: float = 600.0


@dataclass
class Tally:
    """What was done since the service began, for the metrics.

    Attributes:
        ended: jobs by how they ended.
        restarts: workers that were started again.
        seconds: of each job from the request to the end.
    """

    ended: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))


class Crew:
    """Gives the jobs of a book to workers, and keeps these to their limits."""

    def __init__(self, book: JobBook, options: CrewOptions) -> None:
        self.book, self.options, self.tally = book, options, Tally()
        self._called = asyncio.Condition()
        self._changed = asyncio.Condition()
        self._running: dict[str, Process] = {}
        self._taken: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin to work, in tasks of the running loop."""
        hands = [self._work() for _ in range(self.options.workers)]
        self._tasks = [asyncio.create_task(task) for task in (*hands, self._tidy())]

    async def stop(self) -> None:
        """End at once: what runs is queued again, for the next service, and who waits is answered."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self._running.values():
            _kill(process)
        for job in self.book:
            if job.state == "running":
                self.book.again(job, ResourceError("the service was stopped"), counted=False)
        await self._tell()

    async def call(self) -> None:
        """Say that there is a new job."""
        async with self._called:
            self._called.notify()

    async def cancel(self, job: Job) -> None:
        """End a job that waits or runs."""
        if job.state in ENDED:
            return
        self.book.cancel(job)
        if process := self._running.get(job.id):
            _kill(process)
        self._count(job)
        await self._tell()

    async def until(self, job: Job, seconds: float, state: str = "", share: float = -1.0) -> None:
        """Wait until a job has ended, or is elsewhere than a client knows, but not longer."""

        def moved() -> bool:
            seen = bool(state and (job.state != state or job.share > share))
            return seen or job.state in ENDED or self._stopping

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(moved)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _work(self) -> None:
        """One worker: take a job, have it done, take the next; what goes wrong here ends nothing."""
        process: Process | None = None
        try:
            while True:
                job = await self._next()
                try:
                    if process is None or process.returncode is not None:
                        self.tally.restarts += process is not None
                        process = await self._hired()
                    self.book.begin(job)
                    await self._have_done(process, job)
                except (OSError, MedsegError) as fault:  # a full disk, no memory for a process
                    LOG.error("a job could not start: %s", type(fault).__name__)
                    if job.state == "running":
                        self.book.again(job, ResourceError("the service has no room for it"), counted=False)
                    await asyncio.sleep(NO_ROOM_S)
                finally:
                    self._taken.discard(job.id)
        finally:
            if process is not None:
                _kill(process)

    async def _next(self) -> Job:
        """The job that is to be done next, which no other worker takes."""
        async with self._called:
            await self._called.wait_for(lambda: bool(self._free()))
            job = self._free()[0]
            self._taken.add(job.id)
            return job

    def _free(self) -> list[Job]:
        return [job for job in self.book.waiting if job.id not in self._taken]

    async def _hired(self) -> Process:
        """A new worker, which has imported what it needs."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=LINE_BYTES
        )
        options = self.options
        threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)
        where = {"models": dict(options.models), "cases": str(options.cases)}
        await _order(process, **where, threads=threads, max_memory=options.max_memory)
        await _line(process)
        return process

    async def _have_done(self, process: Process, job: Job) -> None:
        """Have a job done, and state what became of it."""
        self._running[job.id] = process
        talk = asyncio.create_task(self._talk(process, job))
        try:
            fault = await self._watched(process, talk)
            if job.state == "running":
                self._settle(job, talk, fault)
                self._count(job)
        finally:
            talk.cancel()
            self._running.pop(job.id, None)
            if job.state == "cancelled":
                shutil.rmtree(job.half, ignore_errors=True)
        await self._tell()

    def _settle(self, job: Job, talk: asyncio.Task[dict[str, Any] | None], fault: MedsegError | None) -> None:
        """State what became of a job that nobody cancelled."""
        said = talk.result() if talk.done() and not talk.cancelled() else None
        if fault is not None:
            self.book.fail(job, fault)
        elif said is None:
            hint = "if it happens again, report it as a bug in medseg"
            self.book.again(job, ResourceError("the worker ended while it did this", hint=hint))
        elif "failed" in said:
            self.book.fail(job, Stated(**said["failed"]))
        else:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        try:
            self.book.finish(job)
        except MedsegError as fault:
            self.book.fail(job, fault)

    async def _talk(self, process: Process, job: Job) -> dict[str, Any] | None:
        """The last thing that a worker says of a job; None where it ended without."""
        request = job.request
        with suppress(ConnectionError):
            await _order(
                process,
                kind=request.kind,
                model=request.model,
                settings=dict(request.settings),
                inputs=str(job.folder / "input"),
                out=str(job.half),
            )
        while (said := await _line(process)) is not None:
            if "done" in said or "failed" in said:
                return said
            job.step, job.share = said["step"], said["share"]
            await self._tell()
        await process.wait()
        return None

    async def _watched(
        self, process: Process, talk: asyncio.Task[dict[str, Any] | None]
    ) -> MedsegError | None:
        """Wait for the end of a job, and end a worker that goes beyond a limit; the fault then."""
        began = time.monotonic()
        while not talk.done():
            await asyncio.wait([talk], timeout=LOOK_S)
            fault = self._beyond(process.pid, time.monotonic() - began)
            if fault is not None and not talk.done():
                _kill(process)
                await process.wait()
                return fault
        return None

    def _beyond(self, pid: int, seconds: float) -> MedsegError | None:
        limit, most = self.options.time_limit_s, self.options.max_memory
        if seconds > limit:
            text = f"it took more than the {limit:g} s that a job may take here"
            return ResourceError(text, hint="use a smaller scan, or start the service with more --time-limit")
        held = _held(pid)
        if most is not None and held > BEYOND * most:
            text = f"it took {held / 2**30:.1f} GiB, and {most / 2**30:.1f} GiB is what a worker may hold"
            return ResourceError(text, hint="use a smaller scan, or start the service with more --max-memory")
        return None

    def _count(self, job: Job) -> None:
        if job.state in ENDED:
            self.tally.ended[job.state] += 1
            self.tally.seconds.append((job.progress.ended or 0.0) - job.request.received)

    async def _tidy(self) -> None:
        while True:
            self.book.forget_old()
            await asyncio.sleep(TIDY_S)


class Stated(MedsegError):
    """A fault of a worker, with the exit code that it had there."""

    def __init__(self, fault: str, hint: str | None, exit_code: int) -> None:
        super().__init__(fault, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]


async def _order(process: Process, **words: Any) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(words).encode() + b"\n")
        await process.stdin.drain()


async def _line(process: Process) -> dict[str, Any] | None:
    """The next thing that a worker says; None when it has ended."""
    if process.stdout is None:
        return None
    line = await process.stdout.readline()
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return said


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def _held(pid: int) -> int:
    """Bytes that a process holds; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
