"""Jobs of a service on disk: what was asked and what became of it, so that no kill loses or doubles one.

    JOBS/ID/request.json    what is to be done; never changed
    JOBS/ID/state.json      how far it is; replaced as a whole
    JOBS/ID/input/          the files that were received
    JOBS/ID/result/         the files that were made, all of them

A folder gets its name when all that is in it is whole. So a job that a client was told of is there after any
kill, and one that is there has its result or is queued again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from medseg.core.digest import hexdigest
from medseg.core.errors import InputError, MedsegError, ResourceError
from medseg.core.specs import to_mapping
from medseg.io.atomic import sync_folder, write_text
from medseg.serving.job import ENDED, HALF, REQUEST, Incoming, Job, Progress, Request, stated

LOG = logging.getLogger("medseg")
NEW, GONE, DAMAGED = ".new-", ".gone-", ".damaged-"
"""What folders are called that are not whole yet, are being removed, or cannot be read."""
PRIVATE = 0o077
"""What others on this machine may not do with what a service or a node writes: anything."""
ATTEMPTS, ENDS = 3, 20
"""Times that a job may end its worker before it is given up, and times that the service may be killed while
it runs: that is seldom a job's fault, but one that always ends the service must not go on for ever."""
ID = re.compile(r"[0-9a-f]{32}")


class FullError(ResourceError):
    """The service has as many jobs waiting as it takes."""


class JobBook:
    """All jobs of a service, which this process alone may change.

    Args:
        folder: where they lie; made if it is not there.
        most_waiting: jobs that may wait or run at a time.
        keep_s: how long a job stays after its result was fetched, or after it failed or was cancelled.

    Raises:
        ResourceError: another process has the folder.
    """

    def __init__(self, folder: Path, most_waiting: int, keep_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.most_waiting, self.keep_s = folder, most_waiting, keep_s
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            hint = "stop it, or give another folder with --data"
            raise ResourceError("another service uses this folder", source=folder, hint=hint) from None
        self._swept()
        self._secret = self._own_secret()
        self._jobs = {job.id: job for job in self._found()}

    def close(self) -> None:
        self._lock.release()

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    @property
    def waiting(self) -> list[Job]:
        """What is to be done, in order: corrections first, for somebody waits with a brush in hand."""
        queued = [job for job in self if job.state == "queued"]
        return sorted(queued, key=lambda job: (job.request.kind == "predict", job.request.received, job.id))

    @property
    def under_way(self) -> int:
        """Jobs that wait or run."""
        return sum(job.state not in ENDED for job in self)

    def require_room(self, kind: str) -> None:
        """Refuse one more job where too many wait; predictions that wait keep nobody from correcting.

        Raises:
            FullError: they do.
        """
        alike = sum(
            job.state not in ENDED and (job.request.kind == "predict") == (kind == "predict") for job in self
        )
        if alike >= self.most_waiting:
            raise FullError(f"{alike} jobs wait, which is the most", hint="try again later")

    def of_key(self, key: str) -> Job | None:
        """The job of a client's key, if there is one."""
        return self._jobs.get(self._id_of(key)) if key else None

    def _id_of(self, key: str) -> str:
        """The id of a key's job, which nobody can tell who has not the folder's secret; of no key, any."""
        return hexdigest(f"{self._secret} {key}")[:32] if key else secrets.token_hex(16)

    def _own_secret(self) -> str:
        """The secret of the folder, made with it."""
        path = self.folder / ".secret"
        if not path.is_file():
            write_text(path, secrets.token_hex(32))
            path.chmod(0o600)
        return path.read_text("utf-8")

    @contextmanager
    def received(self, request: Request, key: str = "") -> Iterator[Incoming]:
        """A new job, which is queued when the block that fills its folder has ended.

        Args:
            request: what is to be done; the block may state more.
            key: of the client; a job with the same key is the same job.

        Raises:
            FullError: too many jobs wait.
            ResourceError: the disk is full.
        """
        self.require_room(request.kind)
        folder = self.folder / f"{NEW}{secrets.token_hex(8)}"
        new = Incoming(self._id_of(key), folder / "input", request)
        try:
            new.folder.mkdir(parents=True)
            yield new
            self.require_room(request.kind)  # others came while this was sent
            stated = replace(new.request, received=time.time())
            write_text(folder / REQUEST, json.dumps(to_mapping(stated)))
            self._place(folder, new.id)
            self._jobs.setdefault(new.id, Job(new.id, self.folder / new.id, stated))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _place(self, folder: Path, job_id: str) -> None:
        """Give the folder of a new job its name; the second of two with one key is dropped."""
        _synced(folder / "input")
        if job_id not in self._jobs:
            folder.rename(self.folder / job_id)
            sync_folder(self.folder)

    def begin(self, job: Job) -> None:
        """State that a worker has it; whatever an earlier attempt left is removed."""
        self._state(job, replace(job.progress, state="running", attempts=job.progress.attempts + 1))
        for left in job.folder.glob(f"{HALF}*"):
            shutil.rmtree(left)
        job.half.mkdir()
        job.step, job.share = "read", 0.0

    def finish(self, job: Job) -> None:
        """Make what the worker wrote the result."""
        _synced(job.half)
        job.half.rename(job.result)
        sync_folder(job.folder)
        self._state(job, replace(job.progress, state="done", ended=time.time()))

    def fail(self, job: Job, fault: MedsegError) -> None:
        """State why it failed; the source of a fault, which may be a path, is not kept."""
        self._state(
            job,
            replace(
                job.progress,
                state="failed",
                ended=time.time(),
                fault=fault.fault,
                hint=fault.hint,
                exit_code=fault.exit_code,
            ),
        )
        shutil.rmtree(job.half, ignore_errors=True)

    def again(self, job: Job, fault: MedsegError, *, counted: bool = True) -> None:
        """Queue it again, after its worker ended; one that did so too often has failed.

        Args:
            job: that was running.
            fault: what to state where it has failed.
            counted: whether the job may have been the cause.
        """
        if counted and job.progress.attempts >= ATTEMPTS:
            self.fail(job, fault)
            return
        attempts = job.progress.attempts - (not counted)
        shutil.rmtree(job.half, ignore_errors=True)
        self._state(job, replace(job.progress, state="queued", attempts=attempts))

    def cancel(self, job: Job) -> None:
        """State that nobody wants it any more."""
        self._state(job, replace(job.progress, state="cancelled", ended=time.time()))
        shutil.rmtree(job.half, ignore_errors=True)

    def fetched(self, job: Job) -> None:
        """State that its result was fetched."""
        self._state(job, replace(job.progress, fetched=time.time()))

    def remove(self, job: Job) -> None:
        """Forget it, and delete its files."""
        self._jobs.pop(job.id, None)
        gone = job.folder.with_name(f"{GONE}{job.id}")
        with suppress(OSError):
            job.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def forget_old(self) -> None:
        """Remove the jobs whose time is over: fetched, failed or cancelled so long ago."""
        for job in self:
            done = job.progress.fetched if job.state == "done" else job.progress.ended
            if job.state in ENDED and done is not None and time.time() - done > self.keep_s:
                self.remove(job)

    def _state(self, job: Job, progress: Progress) -> None:
        """State how far a job is; on a full disk this process alone knows, and the next begins it again."""
        job.progress = progress
        try:
            write_text(job.folder / "state.json", json.dumps(to_mapping(progress)), overwrite=True)
        except ResourceError as fault:
            LOG.error("the state of a job cannot be kept: %s", fault.fault)

    def _swept(self) -> None:
        """Remove what was not whole when the last service ended."""
        for left in (*self.folder.glob(f"{NEW}*"), *self.folder.glob(f"{GONE}*")):
            shutil.rmtree(left, ignore_errors=True)

    def _found(self) -> Iterator[Job]:
        """The jobs that the last service left, each done or queued again; a damaged one is set aside."""
        for folder in sorted(p for p in self.folder.iterdir() if ID.fullmatch(p.name)):
            try:
                request: Request = stated(Request, folder / REQUEST)
                progress: Progress = stated(Progress, folder / "state.json", Progress())
            except InputError as fault:
                LOG.error("a job is set aside, because %s %s", Path(fault.source or "").name, fault.fault)
                folder.rename(folder.with_name(f"{DAMAGED}{folder.name}"))
                continue
            job = Job(folder.name, folder, request, progress)
            if job.state == "running":
                self._recover(job)
            yield job

    def _recover(self, job: Job) -> None:
        """Of a job that was running when the service ended: take its result if it is whole, or queue it."""
        if job.result.is_dir():
            self._state(job, replace(job.progress, state="done", ended=time.time()))
            return
        job.progress = replace(job.progress, ends=job.progress.ends + 1)
        fault = ResourceError(
            f"the service ended {job.progress.ends} times while it ran",
            hint="give the service more memory, or use a smaller scan",
        )
        if job.progress.ends >= ENDS:
            self.fail(job, fault)
        else:
            self.again(job, fault, counted=False)


def _synced(folder: Path) -> None:
    """Force a folder and all in it to the disk."""
    for path in folder.iterdir():
        if path.is_dir():
            _synced(path)
        else:
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(folder)
