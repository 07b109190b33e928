"""A DICOM node: series come by C-STORE, become jobs, and the objects of these are sent on by C-STORE.

    DATA/dicom/series/    what comes, see `serving.series`
    DATA/dicom/jobs/      what is made of it, see `serving.jobs`; a job was fetched when its objects were sent

pynetdicom receives in threads of its own; all else is done in one loop, but for sending, which may wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from medseg.core.errors import InputError, MedsegError, ResourceError, counted
from medseg.io.dicom.library import dataset, unwarned
from medseg.serving.crew import Crew, CrewOptions
from medseg.serving.job import Job, Request
from medseg.serving.jobs import PRIVATE, JobBook
from medseg.serving.routes import Route
from medseg.serving.sending import Peer, UnreachableError, send
from medseg.serving.series import Series, Shelf, key_of

SCANS = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "4", "128"))
"""CT, MR and PET, a file a slice: what objects can be made from."""
ECHO = "1.2.840.10008.1.1"
CAPTURES = tuple(f"1.2.840.10008.5.1.4.1.1.7{kind}" for kind in ("", ".1", ".2", ".3", ".4"))
"""Secondary captures, which come with a study: they are taken and never predicted."""
SYNTAXES = tuple(
    f"1.2.840.10008.1.2{kind}" for kind in (".1", "", ".2", ".1.99", ".4.57", ".4.70", ".4.80", ".4.90", ".5")
)
"""Transfer syntaxes that lose nothing: plain, deflated; lossless JPEG, JPEG-LS and JPEG 2000; RLE."""
SUCCESS, OUT_OF_RESOURCES, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
"""Statuses of C-STORE (PS3.4, table B.2-1)."""
ASSOCIATIONS = 32
SLACK_BYTES = 1 << 20
"""Beyond the largest series, what one instance may bring: a larger one is not even heard to its end."""
IDLE_S = 60
"""After which a sender that says nothing is cut off."""
NAMES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
OBJECTS = ("_seg.dcm", "_sr.dcm", "_report.dcm")
"""Of a job, in the order that they are sent: a report refers to the segmentation."""
LOOK_S = 0.2
"""Between two looks for series that are whole, and jobs that are done."""
NO_ROOM_S = 5.0
"""Until a job is made that could not be made."""
AGAIN_S, LATEST_S = 2.0, 300.0
"""Until objects are sent again that the peer did not take: at first, and at most after ever more failures."""


@dataclass(frozen=True)
class ListenOptions:
    """How a node runs.

    Attributes:
        data: folder of its series and jobs.
        crew: the models, and how workers run.
        routes: asked in order; the first that takes a series says its model.
        peer: whom objects are sent to.
        title: application entity title of the node.
        senders: titles of those that may send; empty for all.
        host: address to listen to.
        port: to listen to; 0 takes a free one.
        quiet_s: without an instance, after which a series is whole.
        strict: a doubtful result is not sent, and its job fails.
        most_bytes: that a series may hold.
        most_waiting: jobs that may wait or run at a time.
        keep_s: how long a series stays after it came, and a job after its objects were sent.
    """

    data: Path
    crew: CrewOptions
    routes: tuple[Route, ...]
    peer: Peer
    title: str = "MEDSEG"
    senders: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 11112
    quiet_s: float = 5.0
    strict: bool = False
    most_bytes: int = 2**30
    most_waiting: int = 256
    keep_s: float = 86400.0


@dataclass
class Pause:
    """Until when nothing is tried that failed; longer with every failure."""

    until: float = 0.0
    seconds: float = AGAIN_S

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def longer(self) -> None:
        self.until, self.seconds = time.monotonic() + self.seconds, min(2 * self.seconds, LATEST_S)


@dataclass
class Node:
    """What receives, what queues, and what sends.

    Attributes:
        options: of the node.
        say: called with what is no secret.
        paused: since the peer cannot be reached.
        pauses: of jobs whose objects it did not take, by their id.
        heard: bytes of the instance that a sender is sending.
    """

    options: ListenOptions
    say: Callable[[str], None]
    paused: Pause = field(default_factory=Pause)
    pauses: dict[str, Pause] = field(default_factory=dict)
    heard: WeakKeyDictionary[Any, int] = field(default_factory=WeakKeyDictionary)

    def __post_init__(self) -> None:
        options, folder = self.options, self.options.data / "dicom"
        self.book = JobBook(folder / "jobs", options.most_waiting, options.keep_s)
        self.crew = Crew(self.book, options.crew)
        self.shelf = Shelf(folder / "series", options.most_bytes, options.quiet_s, self.say)
        self.failed = {job.id for job in self.book if job.state == "failed"}

    # Receiving, in threads of pynetdicom

    def listening(self) -> ThreadedAssociationServer:
        """Begin to receive; the server of pynetdicom.

        Raises:
            ResourceError: the address cannot be listened to.
        """
        options = self.options
        entity = AE(options.title)
        entity.require_calling_aet = list(options.senders)
        entity.maximum_associations = ASSOCIATIONS
        entity.network_timeout = IDLE_S
        for kind in (*SCANS, *CAPTURES):
            entity.add_supported_context(kind, list(SYNTAXES))
        entity.add_supported_context(ECHO)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self.stored),
            (evt.EVT_CONN_OPEN, _limit_silence),
            (evt.EVT_DATA_RECV, self.limit_bytes),
        ]
        try:
            server = entity.start_server((options.host, options.port), block=False, evt_handlers=handlers)
        except OSError as fault:
            text = f"{options.host}:{options.port} cannot be listened to ({fault.strerror})"
            raise ResourceError(text, hint="choose another with --port") from None
        return cast("ThreadedAssociationServer", server)

    def stored(self, event: Any) -> int:
        """Keep an instance; who sent it is told of success when it is on the disk."""
        self.heard[event.assoc] = 0
        try:
            data = event.encoded_dataset()
            header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(NAMES))
            kind, instance, series = (str(header[name].value) for name in NAMES)
        except Exception:  # of a header that is damaged, of many kinds
            self.say("an instance was refused, because its header is damaged or does not name its series")
            return CANNOT_UNDERSTAND
        asked = event.request
        if (kind, instance) != (asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID):
            self.say("an instance was refused, because it is not the one that its sender named")
            return MISMATCH
        try:
            self.shelf.put(series, instance, data, event.assoc)
        except ResourceError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def limit_bytes(self, event: Any) -> None:
        """Hang up on who sends one instance that is larger than a series may be."""
        link = event.assoc
        self.heard[link] = self.heard.get(link, 0) + len(event.data)
        if self.heard[link] > self.options.most_bytes + SLACK_BYTES:
            self.say(f"a sender was cut off: more than {self.options.most_bytes} bytes in one instance")
            line = link.dul.socket.socket
            link.dul.socket.close()
            line.close()

    # Queueing

    async def queue(self) -> None:
        """Make jobs of series that are whole, for ever."""
        while True:
            for series in self.shelf.due():
                try:
                    await self.queued(series)
                except (MedsegError, OSError) as fault:  # too many wait, or the disk is full
                    self.say(f"series {series.short}: cannot be queued yet: {_said(fault)}")
                    self.shelf.again(series, NO_ROOM_S)
                except Exception as fault:  # of one series; the words of a bug may name a patient
                    self.say(f"series {series.short}: is set aside ({type(fault).__name__}, a bug in medseg)")
            self.shelf.forget_old(self.options.keep_s)
            self.tell_failures()
            await asyncio.sleep(LOOK_S)

    async def queued(self, series: Series) -> None:
        """Make a job of a series, if it is a new set of instances and a route takes it."""
        files = self.shelf.taken(series)
        key, before = key_of(series, files), series.queued
        known = self.book.of_key(key)
        if known is not None and known.state == "failed" and series.has_come:
            self.book.remove(known)  # it was sent again
            self.failed.discard(known.id)
        elif known is not None or before == key:
            if series.has_come:
                self.say(f"series {series.short}: came again as it was, and is not predicted again")
            self.shelf.note(series, key)
            return
        route = self.route_of(series, files)
        if route is None:
            return
        settings = {"dicom": True, "strict": self.options.strict}
        wanted = Request("predict", route.model, settings, sent=series.name)
        with self.book.received(wanted, key) as new:
            (new.folder / "scan").mkdir()
            for number, path in enumerate(files):
                os.link(path, new.folder / "scan" / f"{number:05}.dcm")
        self.shelf.note(series, key)
        late = ", more than before: predicted anew" if before and before != key else ""
        self.say(f"series {series.short}: {counted(len(files), 'instance')}{late}, model {route.model}")
        await self.replace(series, new.id)
        await self.crew.call()

    def route_of(self, series: Series, files: Sequence[Path]) -> Route | None:
        """The first route that takes a series, by the first header of it that can be read."""
        keys = {condition.key for route in self.options.routes for condition in route.conditions}
        for path in files:
            try:
                header = dataset(path, tags=("SOPClassUID", *keys))
                if header.SOPClassUID not in SCANS:
                    self.say(f"series {series.short}: holds no slices, and is set aside")
                    return None
                route = next((route for route in self.options.routes if route.takes(header)), None)
            except (InputError, AttributeError, ValueError, TypeError):
                continue
            if route is None:
                self.say(f"series {series.short}: no route takes it, and it is set aside")
            return route
        self.say(f"series {series.short}: no header can be read, and it is set aside")
        return None

    async def replace(self, series: Series, job_id: str) -> None:
        """End the jobs of a part of a series, now that there is one of more of it."""
        for job in self.book:
            if job.request.sent == series.name and job.id != job_id:
                await self.crew.cancel(job)

    def tell_failures(self) -> None:
        """Say which jobs failed since the last look."""
        for job in self.book:
            if job.state == "failed" and job.id not in self.failed:
                self.failed.add(job.id)
                hint = f"; {job.progress.hint}" if job.progress.hint else ""
                self.say(f"series {_short(job)}: failed: {job.progress.fault}{hint}")

    # Sending

    async def deliver(self) -> None:
        """Send the objects of jobs that are done, for ever: the oldest first, one job at a time."""
        while True:
            if self.paused.is_over and (job := self.to_send()):
                await self.sent(job)
            else:
                await asyncio.sleep(LOOK_S)

    def to_send(self) -> Job | None:
        """The job whose objects are sent next."""
        jobs = [job for job in self.book if job.state == "done" and job.progress.fetched is None]
        free = [job for job in jobs if job.id not in self.pauses or self.pauses[job.id].is_over]
        return min(free, key=lambda job: job.progress.ended or 0.0, default=None)

    async def sent(self, job: Job) -> None:
        """Send the objects of one job, or say why they are sent later."""
        paths = [path for ending in OBJECTS if (path := job.file(ending)) is not None]
        try:
            await apart(lambda: send(paths, self.options.peer, self.options.title))
        except UnreachableError as fault:
            self.say(f"the peer cannot be reached: {fault}; tried again in {self.paused.seconds:g} s")
            self.paused.longer()
        except Exception as fault:  # of one job; others are sent
            pause = self.pauses.setdefault(job.id, Pause())
            text = f"series {_short(job)}: the peer did not take it: {_said(fault)}"
            self.say(f"{text}; tried again in {pause.seconds:g} s")
            pause.longer()
        else:
            self.paused = Pause()
            self.pauses.pop(job.id, None)
            self.book.fetched(job)
            self.say(f"series {_short(job)}: {counted(len(paths), 'object')} sent")


def listen(options: ListenOptions, say: Callable[[str], None]) -> None:
    """Receive, predict and send until SIGTERM or SIGINT.

    Raises:
        ResourceError: the address cannot be listened to, or another node has the folder.
    """
    os.umask(PRIVATE)
    with unwarned():
        node = Node(options, say)
        try:
            asyncio.run(_run(node))
        finally:
            node.book.close()


async def _run(node: Node) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: loop.call_soon_threadsafe(stopped.set))
    node.crew.start()
    tasks = [asyncio.create_task(task) for task in (node.queue(), node.deliver(), stopped.wait())]
    try:
        options = node.options
        host, port = node.listening().server_address[:2]
        node.say(f"series go to {options.peer.host}:{options.peer.port} ({options.peer.title}) as objects")
        node.say(f"series and jobs are kept in {options.data}")
        name = f"[{host}]" if ":" in host else host
        node.say(f"listening to {name}:{port} as {options.title}; end it with Ctrl-C")
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await node.crew.stop()


async def apart(work: Callable[[], None]) -> None:
    """Do what may wait in a thread that the end of the node does not wait for."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle(fault: Exception | None) -> None:
        if ended.done():
            return
        if fault is None:
            ended.set_result(None)
        else:
            ended.set_exception(fault)

    def run() -> None:
        fault = None
        try:
            work()
        except Exception as raised:
            fault = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, fault)

    threading.Thread(target=run, daemon=True).start()
    await ended


def _limit_silence(event: Any) -> None:
    """Let a sender that stops in the middle of a message be cut off."""
    event.assoc.dul.socket.socket.settimeout(IDLE_S)


def _short(job: Job) -> str:
    return job.request.sent[:8]


def _said(fault: Exception) -> str:
    """What is told of a fault; the words of others than ours may hold a header's."""
    return fault.fault if isinstance(fault, MedsegError) else type(fault).__name__
