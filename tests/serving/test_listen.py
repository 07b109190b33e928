"""`medseg listen`: series in, objects of the right patients out; kills, limits, and what is broken."""

from __future__ import annotations

import asyncio
import errno
import gc
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from commands import refused
from models import tiny_model
from nodes import EXPLICIT, MR_IMAGE, OBJECTS, Archive, Listening, send, sending, write_series
from pynetdicom import AE, build_context

from medseg.serving import node as of_node
from medseg.serving import series as of_series
from medseg.serving.crew import CrewOptions
from medseg.serving.job import Request
from medseg.serving.node import CAPTURES, ListenOptions, Node, Pause
from medseg.serving.node import OBJECTS as OBJECTS_OF_A_JOB
from medseg.serving.routes import Route
from medseg.serving.sending import Peer

DCMTK = next((Path(found).parent for found in [shutil.which("dcmdump")] if found), None)
"""Its folder: pynetdicom has programs of the same names, which may come first."""
ROUTE = "Modality=MR,SeriesDescription~T1 -> tiny"

MADE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.104.1")
"""What they are: segmentation, report, PDF."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    tiny_model(0).save(path)
    return path


@pytest.fixture
def archive() -> Iterator[Archive]:
    found = Archive().start()
    yield found
    found.stop()


@pytest.fixture
def listening(model: Path, archive: Archive, tmp_path: Path) -> Iterator[Listening]:
    """A node that sends to the archive; not yet started."""
    words = ("--route", ROUTE, "--models", str(model), "--send-to", f"127.0.0.1:{archive.port}")
    found = Listening(tmp_path / "data", (*words, "--quiet", "0.5s"))
    yield found
    if found.process is not None and found.process.poll() is None:
        found.kill()


@pytest.fixture
def receiving(model: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[Node, list[str], int]]]:
    """A node of this process that receives and queues, and does nothing of its own accord."""
    started: list[tuple[Node, Any]] = []

    def start(**options: Any) -> tuple[Node, list[str], int]:
        said: list[str] = []
        crew = CrewOptions({"tiny": str(model)}, tmp_path / "cases")
        routes = (Route.of(ROUTE, crew.models),)
        few = {"peer": Peer("127.0.0.1", 1), "port": 0, "quiet_s": 0.01, **options}
        node = Node(ListenOptions(tmp_path / "data", crew, routes, **few), said.append)
        started.append((node, node.listening()))
        return node, said, started[-1][1].server_address[1]

    yield start
    for node, server in started:
        server.shutdown()
        node.book.close()


def queue(node: Node, count: int = 1) -> None:
    """Have what is whole queued."""
    until = time.monotonic() + 5
    due: list[Any] = []
    while len(due) < count and time.monotonic() < until:
        due = node.shelf.due()
        time.sleep(0.02)
    assert len(due) == count

    async def queued() -> None:
        for series in due:
            await node.queued(series)

    asyncio.run(queued())


def require_objects(archive: Archive, number: int) -> None:
    """Each object once, of the patient and study of the series, and of this series."""
    found = archive.of(number)
    assert Counter(one.Modality for one in found) == Counter(OBJECTS)
    for one in found:
        assert one.PatientName == f"Canary^{number}"
        assert one.StudyInstanceUID == f"1.2.3.{number}"
    (seg,) = (one for one in found if one.Modality == "SEG")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == f"1.2.5.{number}"
    assert seg.FrameOfReferenceUID == f"1.2.4.{number}"
    (report,) = (one for one in found if one.Modality == "DOC")
    assert report.EncapsulatedDocument.startswith(b"%PDF")


def test_series_come_back_as_objects_of_their_patients(
    listening: Listening, archive: Archive, tmp_path: Path
) -> None:
    """Of five series one lacks a slice, one is cut, and one is for no model: the others go on."""
    listening.start()
    good = [write_series(tmp_path, number) for number in (1, 2)]
    gap, cut = write_series(tmp_path, 3), write_series(tmp_path, 4)
    other = write_series(tmp_path, 5, description="localizer")
    del gap[9]
    short = pydicom.dcmread(cut[7])
    short.PixelData = short.PixelData[:100]
    short.save_as(cut[7])
    for paths in (gap, good[0], cut, other, good[1]):
        assert send(paths, listening.port) == [0] * len(paths)
    archive.wait(6)
    listening.says("no route takes it")
    listening.says(": failed: ", times=2)
    assert len(archive.kept) == 6
    for number in (1, 2):
        require_objects(archive, number)
    log = "\n".join(listening.log)
    for word in ("Canary", "patient-", "1.2.5", "1.2.3"):
        assert word not in log
        assert not [path for path in listening.data.rglob("*") if word in path.name]


@pytest.mark.slow
def test_kills_lose_and_double_nothing(listening: Listening, archive: Archive, tmp_path: Path) -> None:
    listening.start()
    series = {number: write_series(tmp_path, number) for number in range(1, 5)}
    for number in (1, 2):
        send(series[number], listening.port)
    with sending(listening.port) as store:
        assert [store(path) for path in series[3][:10]] == [0] * 10
        listening.kill()  # in the middle of a series; its sender sends it again
    listening.start()
    send(series[3], listening.port)
    archive.wait(3)
    listening.kill()
    listening.start()
    assert send(series[1], listening.port) == [0] * 20
    send(series[4], listening.port)
    archive.wait(12, 120)
    listening.says("came again as it was")
    time.sleep(1)
    assert len(archive.kept) == 12, "an object was made twice"
    for number in series:
        require_objects(archive, number)


def test_a_node_ends_within_two_seconds_whoever_is_connected(listening: Listening, tmp_path: Path) -> None:
    listening.start()
    with sending(listening.port, leave=False) as store:
        assert store(write_series(tmp_path, 1)[0]) == 0
        assert listening.stop() < 2
    assert listening.process is not None
    assert listening.process.returncode == 0  # of systemd, a stop that is asked for is no failure


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pynetdicom leaves a socket that cannot connect open
def test_what_the_archive_does_not_take_is_sent_again_as_it_is(
    receiving: Callable[..., tuple[Node, list[str], int]],
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pause, "seconds", 0.1)
    node, said, _ = receiving(peer=Peer("127.0.0.1", archive.port))
    archive.stop()
    (path,) = write_series(tmp_path, 1, count=1)
    for number in (1, 2):
        with node.book.received(Request(sent=f"{number}" * 32)) as new:
            pass
        job = node.book.get(new.id)
        assert job is not None
        node.book.begin(job)
        for n, ending in enumerate(OBJECTS_OF_A_JOB):
            made = pydicom.dcmread(path)
            made.SOPClassUID, made.SOPInstanceUID = MADE[n], f"1.2.{number}.{n}"
            made.save_as(job.half / f"scan{ending}")
        node.book.finish(job)

    async def run() -> None:
        task = asyncio.create_task(node.deliver())
        while not any("the peer cannot be reached: it does not answer" in line for line in said):
            await asyncio.sleep(0.05)
        archive.answers = [0x0000, 0xA700, 0x0000, 0x0111, 0xB000]  # it refuses the second of the first job
        archive.start()
        while any(job.progress.fetched is None for job in node.book):
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))
    first, second = [f"1.2.1.{n}" for n in range(3)], [f"1.2.2.{n}" for n in range(3)]
    came = [str(one.SOPInstanceUID) for one in archive.came]
    assert came[:2] == first[:2]
    assert Counter(came) == Counter([*first, *first[:2], *second]), "each attempt has the same identifiers"
    refusals = [line for line in said if "did not take it" in line]
    assert len(refusals) == 1
    assert refusals[0].startswith(
        "series 11111111: the peer did not take it: it answers 0xa700 to scan_sr.dcm"
    )
    gc.collect()


def test_a_series_of_which_more_comes_is_predicted_anew(
    receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path
) -> None:
    node, said, port = receiving()
    paths = write_series(tmp_path, 1)
    send(paths[:15], port)
    queue(node)
    (first,) = node.book
    send(paths[:15], port)
    queue(node)
    assert [job.id for job in node.book] == [first.id]
    send(paths[15:], port)
    queue(node)
    part, whole = node.book
    assert (part.id, part.state, whole.state) == (first.id, "cancelled", "queued")
    assert len(list(whole.inputs[0].iterdir())) == 20
    texts = [line.split(": ", 1)[1] for line in said]
    assert texts == [
        "15 instances, model tiny",
        "came again as it was, and is not predicted again",
        "20 instances, more than before: predicted anew, model tiny",
    ]
    node.book.fail(whole, of_node.ResourceError("the worker ended"))
    node.tell_failures()
    assert said[-1].endswith(": failed: the worker ended")
    send(paths[:1], port)
    queue(node)
    again = node.book.get(whole.id)
    assert again is not None
    assert again.state == "queued", "a series that failed and is sent again is tried again"


def test_too_many_jobs_keep_a_series_waiting(
    receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said, port = receiving(most_waiting=1)
    monkeypatch.setattr(of_node, "NO_ROOM_S", 0.3)
    for number in (1, 2):
        send(write_series(tmp_path, number, count=2), port)

    async def run() -> None:
        task = asyncio.create_task(node.queue())
        while not any("cannot be queued yet: 1 jobs wait" in line for line in said):
            await asyncio.sleep(0.05)
        (first,) = node.book
        node.book.cancel(first)
        while len(list(node.book)) < 2:
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert sorted(job.state for job in node.book) == ["cancelled", "queued"]


def test_a_bug_in_one_series_ends_nothing(
    receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said, port = receiving()
    for number in (1, 2):
        send(write_series(tmp_path, number, count=2), port)
    honest, calls = node.route_of, []

    def odd(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise KeyError("Canary^1")
        return honest(*given)

    monkeypatch.setattr(node, "route_of", odd)

    async def run() -> None:
        task = asyncio.create_task(node.queue())
        while not list(node.book):
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert any("is set aside (KeyError, a bug in medseg)" in line for line in said)
    assert not any("Canary" in line for line in said)


def test_what_cannot_be_kept_or_is_not_what_it_says_is_refused(
    receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said, port = receiving(most_bytes=60_000)
    paths = write_series(tmp_path, 1, count=3)
    nameless, odd = (pydicom.dcmread(path) for path in paths[:2])
    del nameless.SeriesInstanceUID
    nameless.save_as(tmp_path / "nameless.dcm")
    assert send([tmp_path / "nameless.dcm"], port) == [of_node.CANNOT_UNDERSTAND]
    with sending(port) as store:
        with monkeypatch.context() as patch:
            patch.setattr(of_series, "sync", _full)
            assert store(paths[0]) == of_node.OUT_OF_RESOURCES
        assert store(paths[0]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(of_node, "NAMES", ("SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID"))
        assert send(paths[:1], port) == [of_node.MISMATCH]
    odd.PixelData = bytes(40_000)
    odd.Rows, odd.Columns = 100, 200
    odd.save_as(tmp_path / "large.dcm")
    larger = pydicom.dcmread(tmp_path / "large.dcm")
    larger.SOPInstanceUID = "1.2.9"
    larger.save_as(tmp_path / "larger.dcm")
    large = [tmp_path / "large.dcm", tmp_path / "larger.dcm", paths[2]]
    assert send(large, port) == [0, of_node.OUT_OF_RESOURCES, of_node.OUT_OF_RESOURCES]
    assert not list(node.shelf.folder.rglob("*.dcm"))
    larger.PixelData = bytes(3_000_000)
    larger.save_as(tmp_path / "bomb.dcm")
    assert send([tmp_path / "bomb.dcm"], port) == [None]
    assert "a sender was cut off" in said[-1]
    assert not any("Canary" in line for line in said)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_who_and_what_is_taken(receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path) -> None:
    """Titles that are not listed and kinds that nothing is made from are refused before anything comes."""
    node, said, port = receiving(senders=("SCANNER", "ARCHIVE"))
    assert not AE("SENDER").associate("127.0.0.1", port, [build_context("1.2.840.10008.1.1")]).is_established
    enhanced, plan = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.481.5"
    kinds = ["1.2.840.10008.1.1", MR_IMAGE, CAPTURES[0], enhanced, plan]
    link = AE("SCANNER").associate("127.0.0.1", port, [build_context(kind, EXPLICIT) for kind in kinds[1:]])
    assert {context.abstract_syntax for context in link.accepted_contexts} == {MR_IMAGE, CAPTURES[0]}
    link.release()
    link = AE("SCANNER").associate("127.0.0.1", port, [build_context(kinds[0])])
    assert link.send_c_echo().Status == 0
    link.release()
    (path,) = write_series(tmp_path, 1, count=1)
    screen = pydicom.dcmread(path)
    screen.SOPClassUID = CAPTURES[0]
    link = AE("SCANNER").associate("127.0.0.1", port, [build_context(CAPTURES[0], EXPLICIT)])
    assert link.send_c_store(screen).Status == 0
    link.release()
    queue(node)
    assert not list(node.book)
    assert "holds no slices, and is set aside" in said[-1]


def test_a_sender_that_falls_silent_is_cut_off(
    receiving: Callable[..., tuple[Node, list[str], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a message, where nothing but the end of the connection would be heard."""
    monkeypatch.setattr(of_node, "IDLE_S", 1)
    node, _, port = receiving()
    (path,) = write_series(tmp_path, 1, count=1)

    def held() -> bool:
        return any(thread.name.startswith("AcceptorThread") for thread in threading.enumerate())

    link = AE("SCANNER").associate("127.0.0.1", port, [build_context(MR_IMAGE, EXPLICIT)])
    assert link.send_c_store(pydicom.dcmread(path)).Status == 0
    link.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x10\x00" + bytes(100))  # 4096 bytes, of which 100 come
    queue(node)
    until = time.monotonic() + 10
    while held() and time.monotonic() < until:
        time.sleep(0.05)
    assert not held(), "its place among the associations is not free"
    link.abort()


def test_what_is_written_wrongly_is_named_at_the_start(tmp_path: Path, model: Path) -> None:
    words = ("listen", "--models", model, "--data", tmp_path / "d")
    to = ("--send-to", "127.0.0.1:104")
    assert "not offered" in refused(2, *words, *to, "--route", "Modality=MR -> brain")
    assert "is not a keyword of DICOM" in refused(2, *words, *to, "--route", "Modalty=MR -> tiny")
    assert "not a regular expression" in refused(2, *words, *to, "--route", "Modality~( -> tiny")
    assert "--send-to takes HOST:PORT" in refused(2, *words, "--send-to", "x", "--route", ROUTE)
    assert "--from takes 1 to 16 characters" in refused(2, *words, *to, "--route", ROUTE, "--from", "a" * 17)
    assert "--quiet takes a time" in refused(2, *words, *to, "--route", ROUTE, "--quiet", "soon")
    assert not (tmp_path / "d").exists()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(6, *words, *to, "--route", ROUTE, "--port", port)
    assert f"127.0.0.1:{port} cannot be listened to" in line


@pytest.mark.slow
@pytest.mark.skipif(DCMTK is None, reason="DCMTK is not installed")
def test_dcmtk_sends_and_receives(model: Path, tmp_path: Path) -> None:
    """storescu and storescp of another maker, and dciodvfy, where it is installed, on what arrives."""
    assert DCMTK is not None
    out = tmp_path / "out"
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scp = subprocess.Popen([str(DCMTK / "storescp"), "-od", str(out), "-aet", "ARCHIVE", str(port)])
    words = ("--route", ROUTE, "--models", str(model), "--send-to", f"127.0.0.1:{port}", "--quiet", "1s")
    node = Listening(tmp_path / "data", words).start()
    try:
        for number in (1, 2):
            paths = write_series(tmp_path, number)
            command = [
                str(DCMTK / "storescu"),
                "-aec",
                "MEDSEG",
                "127.0.0.1",
                str(node.port),
                *map(str, paths),
            ]
            subprocess.run(command, check=True)
        until = time.monotonic() + 60
        while len(list(out.iterdir())) < 6 and time.monotonic() < until:
            time.sleep(0.1)
        node.says("3 objects sent")
    finally:
        node.stop()
        scp.terminate()
        scp.wait()
    archive = Archive(came=[pydicom.dcmread(path) for path in out.iterdir()])
    for number in (1, 2):
        require_objects(archive, number)
    if shutil.which("dciodvfy"):
        for path in out.iterdir():
            said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
            assert "Error" not in said, said
