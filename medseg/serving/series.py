"""The DICOM series that a node receives, on disk, so that no kill loses an instance that it acknowledged.

    SERIES/NAME/INSTANCE.dcm   instances; both names are digests of UIDs, which identify an examination
    SERIES/NAME/queued         the set of instances that a job was made of
    SERIES/NAME/refused        there when the series was larger than one may be; its instances are removed

An instance is there under its name when it is on the disk. A series stays for a while after its job was made,
so that instances that come later, or again, are seen for what they are.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medseg.core.digest import hexdigest
from medseg.core.errors import ResourceError
from medseg.io.atomic import NO_ROOM, sync, sync_folder, write_text

HALF, GONE = ".half-", ".gone-"
"""What files are called that are not whole yet, and folders that are being removed."""
QUEUED, REFUSED = "queued", "refused"
CUT = 12
"""Times as long a series is waited for whose sender was cut off, or that the last node left."""
NAME_DIGITS, SHORT_DIGITS = 32, 8


class Sender(Protocol):
    """An association, of which instances come."""

    is_established: bool
    is_released: bool


@dataclass
class Series:
    """What is known of one series.

    Attributes:
        folder: of its instances.
        latest: when something of it came last, on the clock of `time.monotonic`.
        bytes: that its instances hold.
        not_before: when a job can be made of it that could not be made, on the same clock.
        is_due: whether it has something of which no job was made.
        is_cut: whether the last that sent of it did not take leave.
        has_come: whether something of it came since the node was started.
        senders: open associations that sent of it.
        writing: instances that are being written.
        lacking: instances that could not be written, until they come again.
    """

    folder: Path
    latest: float
    bytes: int = 0
    not_before: float = 0.0
    is_due: bool = False
    is_cut: bool = False
    has_come: bool = False
    senders: set[Sender] = field(default_factory=set)
    writing: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The digest that it is known by."""
        return self.folder.name

    @property
    def short(self) -> str:
        """What it is called in the log."""
        return self.name[:SHORT_DIGITS]

    @property
    def files(self) -> list[Path]:
        """Its instances, by name."""
        return sorted(self.folder.glob("*.dcm"))

    @property
    def is_refused(self) -> bool:
        return (self.folder / REFUSED).exists()

    @property
    def queued(self) -> str:
        """The key of the job that was made of it last; empty where there was none."""
        try:
            return (self.folder / QUEUED).read_text("utf-8")
        except OSError:
            return ""


class Shelf:
    """All series of a node; threads may call it at once.

    Args:
        folder: where they lie; made if it is not there.
        most_bytes: that one may hold.
        quiet_s: without an instance, after which a series is whole.
        say: called with what is no secret.
    """

    def __init__(self, folder: Path, most_bytes: int, quiet_s: float, say: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.most_bytes, self.quiet_s, self._say = folder, most_bytes, quiet_s, say
        self._lock = threading.Lock()
        self._series = {series.name: series for series in self._found()}

    def put(self, uid: str, instance: str, data: bytes, sender: Sender) -> None:
        """Keep an instance; it is on the disk when this returns.

        Args:
            uid: of its series.
            instance: its own.
            data: a file of it.
            sender: whom it comes from.

        Raises:
            ResourceError: the disk is full, or the series is larger than one may be.
        """
        name, stem = hexdigest(uid)[:NAME_DIGITS], hexdigest(instance)[:NAME_DIGITS]
        with self._lock:
            series = self._opened(name, sender)
            before = _size(series.folder / f"{stem}.dcm")
            if series.is_refused or series.bytes + len(data) - before > self.most_bytes:
                self._refuse(series)
                raise ResourceError("the series is larger than one may be")
            series.writing.add(stem)
        try:
            _write(series.folder / f"{stem}.dcm", data)
        except OSError as fault:
            with self._lock:
                if not series.lacking:
                    self._say(f"series {series.short}: an instance cannot be kept ({_why(fault)})")
                series.lacking.add(stem)
            raise ResourceError("an instance cannot be kept") from fault
        else:
            with self._lock:
                series.bytes += len(data) - before
                series.lacking.discard(stem)
        finally:
            with self._lock:
                series.writing.discard(stem)
                series.latest = time.monotonic()

    def _opened(self, name: str, sender: Sender) -> Series:
        """A series that something comes of, which may be new."""
        series = self._series.get(name)
        if series is None:
            folder = self.folder / name
            try:
                folder.mkdir(exist_ok=True)
            except OSError as fault:
                self._say(f"series {name[:SHORT_DIGITS]}: an instance cannot be kept ({_why(fault)})")
                raise ResourceError("an instance cannot be kept") from fault
            sync_folder(self.folder)
            series = self._series[name] = Series(folder, time.monotonic())
        series.latest = time.monotonic()
        series.is_due, series.is_cut, series.has_come = True, False, True
        series.senders.add(sender)
        return series

    def _refuse(self, series: Series) -> None:
        """Take no more of a series, and keep nothing: a part would be predicted as the whole."""
        if not series.is_refused:
            self._say(f"series {series.short}: is larger than {self.most_bytes} bytes, and is refused")
            with suppress(OSError):
                (series.folder / REFUSED).touch()
        for path in series.files:
            path.unlink(missing_ok=True)
        series.bytes, series.is_due = 0, False

    def due(self) -> list[Series]:
        """The series that are whole as far as can be told, of which no job was made."""
        with self._lock:
            return [series for series in self._series.values() if self._is_whole(series)]

    def _is_whole(self, series: Series) -> bool:
        for sender in tuple(series.senders):
            if not sender.is_established:
                series.senders.discard(sender)
                series.is_cut |= not sender.is_released
        if not series.is_due or series.senders or series.writing or series.lacking:
            return False
        whole_at = series.latest + self.quiet_s * (CUT if series.is_cut else 1)
        return time.monotonic() > max(whole_at, series.not_before)

    def taken(self, series: Series) -> list[Path]:
        """The instances that a job is to be made of; what comes from now on makes another."""
        with self._lock:
            series.is_due = False
            return series.files

    def again(self, series: Series, seconds: float) -> None:
        """Say that no job could be made of it yet, and when to try again."""
        with self._lock:
            series.is_due, series.not_before = True, time.monotonic() + seconds

    def note(self, series: Series, key: str) -> None:
        """State which job was made of it, for the next node too.

        Raises:
            ResourceError: the disk is full.
        """
        write_text(series.folder / QUEUED, key, overwrite=True)

    def forget_old(self, keep_s: float) -> None:
        """Remove the series of which nothing came for so long, and which wait for no job."""
        with self._lock:
            for series in tuple(self._series.values()):
                waits = series.is_due and not series.lacking
                if waits or series.senders or series.writing or _age_s(series.folder) <= keep_s:
                    continue
                del self._series[series.name]
                gone = series.folder.with_name(f"{GONE}{series.name}")
                with suppress(OSError):
                    series.folder.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def _found(self) -> list[Series]:
        """The series that the last node left; those of which it made no job are due."""
        found = []
        for folder in sorted(self.folder.iterdir()):
            if folder.name.startswith(GONE):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.is_dir():
                for left in folder.glob(f"{HALF}*"):
                    left.unlink(missing_ok=True)
                series = Series(folder, time.monotonic(), is_cut=True)
                series.bytes = sum(map(_size, series.files))
                series.is_due = bool(series.files) and series.queued != key_of(series, series.files)
                found.append(series)
        return found


def key_of(series: Series, files: Sequence[Path]) -> str:
    """The key of the job of a series: it changes with the set of its instances, and with nothing else."""
    return f"{series.name} {hexdigest(' '.join(path.stem for path in files))}"


def _write(path: Path, data: bytes) -> None:
    """Write a file, and force it to the disk under its name."""
    half = path.with_name(f"{HALF}{secrets.token_hex(8)}")
    try:
        half.write_bytes(data)
        sync(half)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    sync_folder(path.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age_s(folder: Path) -> float:
    """Since a file was last put into it."""
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _why(fault: OSError) -> str:
    return "the disk is full" if fault.errno in NO_ROOM else fault.strerror or type(fault).__name__
