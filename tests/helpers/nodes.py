"""DICOM nodes for tests: `medseg listen` in a process of its own, senders, and an archive that receives."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from io_files import write_dicom
from pynetdicom import AE, AllStoragePresentationContexts, evt

PROGRAM = (sys.executable, "-c", "from medseg.cli.main import main; main()", "listen", "--port", "0")
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
OBJECTS = {"SEG", "SR", "DOC"}
"""Modalities of what is made of a series."""


def write_series(folder: Path, number: int, *, description: str = "T1 mprage", count: int = 20) -> list[Path]:
    """Slices of an MR series of a patient and a study of its own."""
    tags = {
        0x00080016: ("UI", MR_IMAGE),
        0x00080060: ("CS", "MR"),
        0x0008103E: ("LO", description),
        0x00100010: ("PN", f"Canary^{number}"),
        0x00100020: ("LO", f"patient-{number}"),
        0x0020000D: ("UI", f"1.2.3.{number}"),
        0x00200052: ("UI", f"1.2.4.{number}"),
    }
    return write_dicom(folder / f"series{number}", count, size=(24, 20), uid=f"1.2.5.{number}", tags=tags)


def send(paths: Sequence[Path], port: int, *, sender: str = "SENDER", leave: bool = True) -> list[int | None]:
    """Send files over one association; the statuses, None where the node ended it."""
    with sending(port, sender, leave=leave) as store:
        return [store(path) for path in paths]


@contextmanager
def sending(
    port: int, sender: str = "SENDER", *, leave: bool = True
) -> Iterator[Callable[[Path], int | None]]:
    """An association to a node, which takes files; it is released, or cut off, at the end."""
    entity = AE(sender)
    entity.acse_timeout = entity.dimse_timeout = 10
    entity.add_requested_context(MR_IMAGE, EXPLICIT)
    link = entity.associate("127.0.0.1", port)
    assert link.is_established, "the node takes no association"
    line = link.dul.socket.socket  # type: ignore[union-attr]

    def store(path: Path) -> int | None:
        header = pydicom.dcmread(path)
        status = link.send_c_store(header).get("Status") if link.is_established else None
        return None if status is None else int(status)

    try:
        yield store
    finally:
        if leave and link.is_established:
            link.release()
        elif link.is_established:
            link.abort()
        line.close()  # pynetdicom leaves one open that the node closed first


@dataclass
class Archive:
    """Whom objects are sent to.

    Attributes:
        answers: statuses of the next that come; then success.
        came: the objects in the order that they came, also those that were refused.
    """

    answers: list[int] = field(default_factory=list)
    came: list[Any] = field(default_factory=list)
    port: int = 0
    server: Any = None

    def start(self) -> Archive:
        entity = AE("ARCHIVE")
        entity.supported_contexts = AllStoragePresentationContexts
        handlers: list[Any] = [(evt.EVT_C_STORE, self._stored)]
        self.server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]
        return self

    def stop(self) -> None:
        self.server.shutdown()

    def _stored(self, event: Any) -> int:
        found = event.dataset
        found.file_meta = event.file_meta
        self.came.append(found)
        return self.answers.pop(0) if self.answers else 0

    @property
    def kept(self) -> dict[str, Any]:
        """Objects by what identifies them: one that comes again is the same."""
        return {str(one.SOPInstanceUID): one for one in self.came}

    def of(self, number: int) -> list[Any]:
        """The objects of a patient, see `write_series`."""
        return [one for one in self.kept.values() if one.PatientID == f"patient-{number}"]

    def wait(self, count: int, seconds: float = 60.0) -> list[Any]:
        """Wait until so many objects are kept."""
        until = time.monotonic() + seconds
        while len(self.kept) < count and time.monotonic() < until:
            time.sleep(0.05)
        assert len(self.kept) >= count, f"{len(self.kept)} objects came, and {count} were expected"
        return list(self.kept.values())


@dataclass
class Listening:
    """`medseg listen` with a folder of its own; it may be killed, and started again."""

    data: Path
    words: tuple[str, ...]
    process: subprocess.Popen[str] | None = None
    port: int = 0
    log: list[str] = field(default_factory=list)

    def start(self) -> Listening:
        self.process = subprocess.Popen(
            [*PROGRAM, "--data", str(self.data), "--threads", "1", *self.words],
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        assert ready.wait(30), f"the node did not start: {self.log}"
        assert self.port, f"the node did not start: {self.log}"
        return self

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        self.port = 0
        with process.stderr:
            for line in process.stderr:
                self.log.append(line.rstrip())
                if line.startswith("listening to "):
                    self.port = int(line.split(" as ")[0].rsplit(":", 1)[1])
                    ready.set()
        ready.set()

    def says(self, text: str, seconds: float = 60.0, *, times: int = 1) -> str:
        """Wait for so many lines of its log; the last."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if len(found := [line for line in self.log if text in line]) >= times:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"it never said {text!r}: {self.log}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> float:
        """End it as a system does; the seconds that it took."""
        assert self.process is not None
        since = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=10)
        return time.monotonic() - since
