"""Jobs on disk: a kill between any two writes leaves each done, or queued again."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medseg.core.errors import ResourceError, UsageError
from medseg.io import atomic
from medseg.serving import jobs as of_jobs
from medseg.serving.job import Job, Request
from medseg.serving.jobs import ATTEMPTS, ENDS, FullError, JobBook


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an ordinary exception runs."""


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Callable[..., JobBook]]:
    """Opens the book of one folder, as a service that starts would; an earlier one is gone by then."""
    opened: list[JobBook] = []

    def book(most_waiting: int = 8, keep_s: float = 60.0) -> JobBook:
        while opened:
            opened.pop().close()
        opened.append(JobBook(tmp_path / "jobs", most_waiting, keep_s))
        return opened[0]

    yield book
    opened[0].close()


def sent(book: JobBook, key: str = "", text: str = "voxels", **request: object) -> Job:
    with book.received(Request(**request), key) as new:  # type: ignore[arg-type]
        (new.folder / "scan.nii.gz").write_text(text)
    job = book.get(new.id)
    assert job is not None
    return job


def done(book: JobBook, job: Job) -> Job:
    book.begin(job)
    (job.half / "scan_seg.nii.gz").write_text("labels")
    book.finish(job)
    return job


def test_what_a_service_leaves_is_there_for_the_next(books: Callable[..., JobBook]) -> None:
    book = books()
    waits, ran, ended = sent(book, model="a"), sent(book, model="b"), done(book, sent(book, model="c"))
    book.begin(ran)
    (ran.half / "scan_seg.nii.gz").write_text("half a file")
    again = books()
    found = {job.request.model: job for job in again}
    assert {name: job.state for name, job in found.items()} == {"a": "queued", "b": "queued", "c": "done"}
    assert [job.id for job in again.waiting] == [waits.id, ran.id]
    assert (found["b"].progress.attempts, found["b"].progress.ends) == (0, 1)
    assert found["c"].image("_seg").read_text() == "labels"  # type: ignore[union-attr]
    assert found["c"].id == ended.id
    done(again, found["b"])
    assert found["b"].image("_seg").read_text() == "labels"  # type: ignore[union-attr]
    assert not list(found["b"].folder.glob(".half*"))


@pytest.mark.parametrize("step", range(30))
def test_a_kill_at_any_write_loses_and_doubles_no_job(
    books: Callable[..., JobBook], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The process ends before its n-th change on the disk; a client was told of a job, or was not."""
    book, told = books(), []
    count = 0

    def counted(honest: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **named: object) -> object:
            nonlocal count
            count += 1
            if count > step:
                raise Killed
            return honest(*args, **named)

        return change

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "fsync", "mkdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(of_jobs.shutil, "rmtree", lambda *_, **__: None)
        try:
            told.append(sent(book, key="k").id)
            job = book.get(told[0])
            assert job is not None
            done(book, job)
        except Killed:
            pass
    again = books()
    assert {job.id for job in again} >= set(told), "a client was told of it"
    job = again.of_key("k") or sent(again, key="k")  # a client that was told nothing sends it again
    assert job.state in ("queued", "done")
    if job.state == "queued":
        done(again, job)
    assert job.image("_seg").read_text() == "labels"  # type: ignore[union-attr]
    assert len(list(again)) == 1
    assert not list(again.folder.glob(".new*"))


def test_the_id_of_a_key_is_the_folders_own(books: Callable[..., JobBook], tmp_path: Path) -> None:
    other = JobBook(tmp_path / "elsewhere", 8, 60)
    try:
        assert sent(books(), "key").id != sent(other, "key").id
    finally:
        other.close()


def test_one_key_is_one_job(books: Callable[..., JobBook]) -> None:
    book = books()
    first, second = sent(book, "key", "a"), sent(book, "key", "b")
    assert first.id == second.id != sent(book, "other").id
    assert first.inputs[0].read_text() == "a"
    assert len(list(book)) == 2


def test_a_job_that_ends_its_worker_is_given_up(books: Callable[..., JobBook]) -> None:
    book = books()
    job = sent(book)
    for attempt in range(1, ATTEMPTS + 1):
        assert job.state == "queued"
        book.begin(job)
        assert job.progress.attempts == attempt
        book.again(job, ResourceError("the worker ended"))
    assert (job.state, job.progress.fault) == ("failed", "the worker ended")
    for _ in range(2 * ATTEMPTS):  # what is no fault of the job's does not count
        other = sent(book, "other")
        book.begin(other)
        book.again(other, ResourceError("stopped"), counted=False)
    assert other.progress.attempts == 0


def test_a_job_that_ends_the_service_is_given_up(books: Callable[..., JobBook]) -> None:
    job = sent(books())
    for _ in range(ENDS):
        book = books()
        found = book.get(job.id)
        assert found is not None
        assert found.state == "queued"
        book.begin(found)
    last = books().get(job.id)
    assert last is not None
    assert last.state == "failed"
    assert f"the service ended {ENDS} times while it ran" in (last.progress.fault or "")


def test_no_more_jobs_wait_than_may(books: Callable[..., JobBook]) -> None:
    book = books(most_waiting=2)
    first = sent(book)
    sent(book)
    with pytest.raises(FullError, match="2 jobs wait"):
        sent(book)
    done(book, first)
    sent(book)


def test_corrections_come_first_and_then_the_oldest(books: Callable[..., JobBook]) -> None:
    book = books()
    jobs = [sent(book), sent(book), sent(book, kind="refine"), sent(book, kind="correct")]
    assert [job.id for job in book.waiting] == [jobs[n].id for n in (2, 3, 0, 1)]


def test_results_stay_until_they_were_fetched_and_then_for_a_while(
    books: Callable[..., JobBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = books(keep_s=60)
    kept, fetched, failed = (done(book, sent(book)) for _ in range(2)), None, None
    kept, fetched = kept
    failed = sent(book)
    book.begin(failed)
    book.fail(failed, UsageError("no"))
    book.fetched(fetched)
    book.forget_old()
    assert len(list(book)) == 3
    later = time.time() + 61
    monkeypatch.setattr(of_jobs.time, "time", lambda: later)
    book.forget_old()
    assert [job.id for job in book] == [kept.id]
    assert {p.name for p in book.folder.iterdir()} == {kept.id, ".lock", ".secret"}


def test_a_full_disk_leaves_nothing_of_a_job(
    books: Callable[..., JobBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = books()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        sent(book)
    assert not list(book)
    assert {p.name for p in book.folder.iterdir()} == {".lock", ".secret"}


def test_a_full_disk_stops_no_job_that_is_there(
    books: Callable[..., JobBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process goes on by what it knows; the next begins again what the disk does not say was done."""
    book = books()
    job = sent(book)
    with monkeypatch.context() as patch:
        patch.setattr(of_jobs, "write_text", full)
        book.begin(job)
        book.fail(job, UsageError("no"))
    assert job.state == "failed"
    found = books().get(job.id)
    assert found is not None
    assert found.state == "queued"


def full(*_: object, **__: object) -> None:
    raise ResourceError("the disk is full")


def test_two_services_do_not_share_a_folder(books: Callable[..., JobBook]) -> None:
    book = books()
    with pytest.raises(ResourceError, match="another service uses this folder"):
        JobBook(book.folder, 1, 1)


def test_a_damaged_job_is_set_aside_and_the_others_go_on(books: Callable[..., JobBook]) -> None:
    book = books()
    good, bad = sent(book), sent(book)
    (bad.folder / "request.json").write_text("{")
    again = books()
    assert [job.id for job in again] == [good.id]
    assert (again.folder / f".damaged-{bad.id}" / "input" / "scan.nii.gz").is_file()
