"""`medseg serve` over HTTP: scans in, results out; kills, limits, and those who may not."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import json
import shutil
import socket
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import done, refused
from io_files import write_dicom
from models import tiny_model
from services import Service, form
from starlette.exceptions import HTTPException

from medseg.core.volume import Grid
from medseg.data.phantom import write_phantom_scan
from medseg.preparation.orient import canonical
from medseg.serving import access
from medseg.serving.answers import hint_of

SHAPE = (20, 24, 18)
TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "Doe^Jane_1970.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE, order="LPS")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(0).save(folder / "tiny.safetensors")
    tiny_model(3, channels=("t1", "t2")).save(folder / "pair.safetensors")
    return folder


@pytest.fixture(scope="module")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests that leave it as it is."""
    served = Service(tmp_path_factory.mktemp("data"), [models]).start()
    yield served
    served.stop()


@pytest.fixture
def own(models: Path, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """A service for one test, with its options."""
    started: list[Service] = []

    def start(*more: str, **named: object) -> Service:
        served = Service(tmp_path / "data", [models], tuple(map(str, more)), **named)  # type: ignore[arg-type]
        started.append(served)
        return served.start()

    yield start
    for served in started:
        if served.process is not None and served.process.poll() is None:
            served.kill()


def predicted(service: Service, scan: Path, query: str = "model=tiny") -> str:
    sent = service.send(scan, query)
    assert sent.status == 201, sent.body
    said = service.ended(sent.json()["id"])
    assert said["state"] == "done", said.get("fault")
    return str(said["id"])


def test_a_service_predicts_what_the_command_predicts(
    service: Service, models: Path, scan: Path, tmp_path: Path
) -> None:
    job = predicted(service, scan, "model=tiny&report=true")
    own = shutil.copy(scan, tmp_path / "scan.nii.gz")
    done("predict", own, "-m", models / "tiny.safetensors", "--threads", 1)
    labels = service.ask("GET", f"/api/jobs/{job}/labels")
    (tmp_path / "got.nii.gz").write_bytes(labels.body)
    mine, theirs = nib.load(tmp_path / "scan_seg.nii.gz"), nib.load(tmp_path / "got.nii.gz")
    np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(theirs.dataobj))
    np.testing.assert_array_equal(mine.affine, theirs.affine)
    summary = service.ask("GET", f"/api/jobs/{job}/summary").json()
    stated = json.loads((tmp_path / "scan_seg.json").read_text())
    assert summary["structures"] == stated["structures"]
    assert summary["provenance"] == stated["provenance"]
    page = service.ask("GET", f"/api/jobs/{job}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert b"<svg" in page.body or b"<img" in page.body
    assert "sandbox" in page.headers["content-security-policy"]


def test_nothing_of_a_files_name_is_kept(service: Service, scan: Path) -> None:
    job = predicted(service, scan, "model=tiny&report=true")
    for path in service.data.rglob("*"):
        assert "Jane" not in path.name
        if path.is_file() and path.suffix in (".json", ".html"):
            assert "Jane" not in path.read_text("utf-8"), path
    assert "Jane" not in service.ask("GET", f"/api/jobs/{job}/labels").headers["content-disposition"]


def test_what_a_browser_shows_is_the_scan_in_RAS_order(service: Service, scan: Path) -> None:
    job = predicted(service, scan, "model=tiny&view=true")
    view = service.ask("GET", f"/api/jobs/{job}/view").json()
    image = nib.load(scan)
    turn = canonical(Grid(image.shape, image.affine))
    expected = turn.forward(np.asarray(image.dataobj))
    assert view["shape"] == list(expected.shape)
    packed = service.ask("GET", f"/api/jobs/{job}/view-image").body
    grey = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(view["shape"], order="F")
    assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.95
    labels = nib.load(io_file(service, job))
    packed = service.ask("GET", f"/api/jobs/{job}/view-labels").body
    shown = np.frombuffer(gzip.decompress(packed), "<u2").reshape(view["shape"], order="F")
    np.testing.assert_array_equal(shown, turn.forward(np.asarray(labels.dataobj)))


def io_file(service: Service, job: str) -> Path:
    path = service.data / f"{job}.nii.gz"
    path.write_bytes(service.ask("GET", f"/api/jobs/{job}/labels").body)
    return path


def test_scribbles_and_drawn_labels_come_back_on_the_scans_grid(service: Service, scan: Path) -> None:
    job = predicted(service, scan, "model=tiny&view=true")
    shape = service.ask("GET", f"/api/jobs/{job}/view").json()["shape"]
    start = np.zeros(shape, "<u2")
    start[:4] = 1
    seeds = np.zeros(shape, "<u2")
    seeds[10, 10, 10], seeds[2, 2, 2] = 1, 255
    parts = {"start": ("s", packed(start)), "scribbles": ("c", packed(seeds))}
    sent = service.ask("POST", f"/api/jobs/{job}/refine?reach_mm=4", *form(parts))
    refined = service.ended(sent.json()["id"])
    assert refined["state"] == "done", refined
    found = unpacked(service.ask("GET", f"/api/jobs/{refined['id']}/view-labels").body, shape)
    assert (found[10, 10, 10], found[2, 2, 2]) == (1, 0)
    assert (found[15:] == 0).all()
    sent = service.ask("POST", f"/api/jobs/{job}/correct", *form({"labels": ("l", packed(found))}))
    corrected = service.ended(sent.json()["id"])
    assert corrected["state"] == "done", corrected
    labels = nib.load(io_file(service, corrected["id"]))
    image = nib.load(scan)
    np.testing.assert_array_equal(labels.affine, image.affine)
    turn = canonical(Grid(image.shape, image.affine))
    np.testing.assert_array_equal(turn.forward(np.asarray(labels.dataobj)), found)
    changes = service.ask("GET", f"/api/jobs/{corrected['id']}/changes").json()
    assert sum(change["added"] + change["removed"] for change in changes.values()) > 0
    summary = service.ask("GET", f"/api/jobs/{corrected['id']}/summary").json()
    assert summary["quality"] is None, "nobody measured what somebody drew"


def packed(array: np.ndarray) -> bytes:
    return gzip.compress(array.astype("<u2").tobytes(order="F"))


def unpacked(data: bytes, shape: list[int]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(data), "<u2").reshape(shape, order="F")


def test_channels_and_series_come_as_forms(service: Service, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    second = nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine, image.header)
    channels = {"t2": ("b.nii", second.to_bytes()), "t1": ("a.nii.gz", scan.read_bytes())}
    body, headers = form(channels)
    sent = service.ask("POST", "/api/jobs?model=pair", body, headers)
    said = service.ended(sent.json()["id"])
    assert said["state"] == "done", said.get("fault")
    slices = write_dicom(tmp_path / "series", 20, size=(24, 20))
    body, headers = form([("scan", f"../../{p.name}", p.read_bytes()) for p in slices])
    sent = service.ask("POST", "/api/jobs?model=tiny", body, headers)
    said = service.ended(sent.json()["id"])
    assert said["state"] == "done", said.get("fault")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as pack:
        for path in slices:
            pack.write(path, f"../../../etc/{path.name}")
    sent = service.ask("POST", "/api/jobs?model=tiny&name=series.zip", stream.getvalue())
    zipped = service.ended(sent.json()["id"])
    assert zipped["state"] == "done", zipped
    first, second = (service.ask("GET", f"/api/jobs/{job['id']}/labels").body for job in (said, zipped))
    assert nib.Nifti1Image.from_bytes(gzip.decompress(first)).shape[2] == 20
    assert gzip.decompress(first) == gzip.decompress(second)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/jobs?model=none&name=a.nii.gz", b"x", 404, "there is no model 'none'"),
        ("/api/jobs?model=tiny&name=a.exe", b"x", 422, "does not say its format"),
        ("/api/jobs?model=tiny&name=../../../../etc/passwd", b"x", 422, "does not say its format"),
        ("/api/jobs?model=tiny", b"x", 422, "does not say its format"),
        ("/api/jobs?model=tiny&name=a.nii.gz", b"", 422, "nothing was sent"),
        ("/api/jobs?model=tiny&name=a.nii.gz&tta=perhaps", b"x", 400, "tta must be"),
        ("/api/jobs?model=tiny&name=a.nii.gz&overwrite=true", b"x", 400, "overwrite"),
        ("/api/jobs/0123/refine", b"x", 404, "there is no such job"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    service: Service, path: str, body: bytes, status: int, text: str
) -> None:
    before = sorted((service.data / "jobs").iterdir())
    said = service.ask("POST", path, body)
    assert said.status == status, said.body
    assert text in said.json()["fault"]
    assert sorted((service.data / "jobs").iterdir()) == before


@pytest.mark.parametrize(
    "path", ["/api/jobs/..%2f..%2fetc", "/api/jobs/../../etc/passwd", "/api/jobs/none/labels", "/x"]
)
def test_paths_lead_nowhere_else(service: Service, path: str) -> None:
    assert service.ask("GET", path).status == 404


def test_a_file_that_is_no_scan_fails_and_says_why(service: Service) -> None:
    sent = service.ask("POST", "/api/jobs?model=tiny&name=a.nii.gz", b"this is no scan")
    said = service.ended(sent.json()["id"])
    assert said["state"] == "failed"
    assert said["exit_code"] == 3
    answer = service.ask("GET", f"/api/jobs/{said['id']}/labels")
    assert answer.status == 410
    assert str(service.data) not in json.dumps(said), "no path of the machine is told"


def test_bombs_are_put_out(own: Callable[..., Service], tmp_path: Path) -> None:
    served = own("--max-upload", "4M", "--max-memory", "900M")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.dcm", bytes(64 << 20))
    said = served.ask("POST", "/api/jobs?model=tiny&name=a.zip", stream.getvalue())
    assert (said.status, "unpacked" in said.json()["fault"]) == (422, True)
    header = nib.Nifti1Header()
    header.set_data_shape((4000, 4000, 4000))
    header.set_data_dtype(np.float32)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    bomb = gzip.compress(header.binaryblock + bytes(4) + bytes(32 << 20))
    said = served.ended(served.ask("POST", "/api/jobs?model=tiny&name=a.nii.gz", bomb).json()["id"])
    assert said["state"] == "failed"
    assert said["exit_code"] in (3, 6), said
    assert not list((served.data / "jobs").glob(".new*"))


def test_more_than_may_be_sent_is_not_taken(own: Callable[..., Service], scan: Path) -> None:
    served = own("--max-upload", "100K")
    data = bytes(200_000)
    assert served.ask("POST", "/api/jobs?model=tiny&name=a.nii.gz", data).status == 413
    with socket.create_connection(("127.0.0.1", served.port)) as link:  # of no stated length
        link.sendall(
            b"POST /api/jobs?model=tiny&name=a.nii.gz HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(20):
            link.sendall(b"2710\r\n" + bytes(10_000) + b"\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 413")
    assert not list((served.data / "jobs").glob("[.0-9a-f]*-*"))
    assert served.ask("GET", "/health").json()["waiting"] == 0


def test_a_client_that_hangs_up_leaves_nothing(own: Callable[..., Service]) -> None:
    served = own()
    with socket.create_connection(("127.0.0.1", served.port)) as link:
        link.sendall(
            b"POST /api/jobs?model=tiny&name=a.nii.gz HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 100000\r\n\r\nabc"
        )
        time.sleep(0.3)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until = time.monotonic() + 5
    while list((served.data / "jobs").glob(".new*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list((served.data / "jobs").glob(".new*"))
    assert served.ask("GET", "/health").json()["waiting"] == 0


def test_strangers_are_told_nothing(own: Callable[..., Service], tmp_path: Path, scan: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    served = own("--token-file", tmp_path / "token", host="0.0.0.0")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "medseg_token=no"},
    ):
        for method, path in (
            ("GET", "/api/models"),
            ("GET", "/metrics"),
            ("POST", "/api/jobs?name=a.nii.gz"),
        ):
            assert served.ask(method, path, headers=headers).status == 401
    assert served.ask("GET", "/health").status == 200
    served.headers = {"Authorization": f"Bearer {TOKEN}"}
    assert {m["name"] for m in served.ask("GET", "/api/models").json()} == {"tiny", "pair"}
    predicted(served, scan)


def test_pages_of_other_sites_are_told_nothing(service: Service, scan: Path) -> None:
    assert service.ask("GET", "/api/models", headers={"Host": "evil.example"}).status == 403
    other = {"Origin": "http://evil.example"}
    assert service.ask("POST", "/api/jobs?model=tiny&name=a.nii.gz", b"x", other).status == 403
    same = {"Origin": f"http://127.0.0.1:{service.port}"}
    assert service.ask("POST", "/api/jobs?model=tiny", b"x", same).status == 422


def test_other_machines_need_a_token(tmp_path: Path, models: Path) -> None:
    words = ("serve", "--host", "0.0.0.0", "--models", models, "--data", tmp_path / "d")
    line = refused(2, *words)
    assert "0.0.0.0 can be reached from other machines" in line
    (tmp_path / "short").write_text("short")
    assert "16 characters" in refused(2, *words, "--token-file", tmp_path / "short")


def test_a_service_ends_within_two_seconds_and_its_jobs_go_on_in_the_next(
    own: Callable[..., Service], scan: Path
) -> None:
    served = own()
    jobs = [served.send(scan, "model=tiny").json()["id"] for _ in range(6)]
    waiting = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    waiting.request("GET", f"/api/jobs/{jobs[-1]}?wait=30")
    served.ask("GET", "/health")  # answered after it, so that who waits is heard by now
    assert served.stop() < 2
    assert json.loads(waiting.getresponse().read())["state"] == "queued"  # answered, not cut off
    waiting.close()
    assert served.process is not None
    assert served.process.returncode == 0  # of systemd, a stop that is asked for is no failure
    served.start()
    assert [served.ended(job)["state"] for job in jobs] == ["done"] * 6


def test_kills_lose_and_double_no_job(own: Callable[..., Service], scan: Path) -> None:
    served = own()
    keys = [f"key {n}" for n in range(8)]
    jobs: dict[str, str] = {}
    for round_ in range(4):
        for key in keys[: 2 * (round_ + 1)]:
            jobs.setdefault(key, served.send(scan, "model=tiny", Idempotency_Key=key).json()["id"])
            assert served.send(scan, "model=tiny", Idempotency_Key=key).json()["id"] == jobs[key]
        time.sleep(0.2 * round_)
        served.kill()
        served.start()
    assert [served.ended(job)["state"] for job in jobs.values()] == ["done"] * len(keys)
    assert len(list((served.data / "jobs").glob("[0-9a-f]*"))) == len(keys)
    assert len({served.ask("GET", f"/api/jobs/{job}/labels").body for job in jobs.values()}) == 1


def test_a_job_is_ended_by_its_client_or_by_its_limits(own: Callable[..., Service], scan: Path) -> None:
    served = own("--time-limit", "0.3")
    said = served.ended(served.send(scan, "model=tiny&report=true").json()["id"])
    assert said["state"] in ("failed", "done")
    served.stop()
    served = own()
    first, second = (served.send(scan, "model=tiny").json()["id"] for _ in range(2))
    assert served.ask("DELETE", f"/api/jobs/{second}").status == 204
    assert served.ask("GET", f"/api/jobs/{second}").status == 404
    assert served.ended(first)["state"] == "done"
    assert not (served.data / "jobs" / second).exists()


def test_a_service_says_how_it_is(service: Service, scan: Path) -> None:
    predicted(service, scan)
    answer = service.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    lines = answer.body.decode().splitlines()
    assert lines[-1] == "# EOF"
    assert 'medseg_jobs{state="queued"} 0' in lines
    ended = next(line for line in lines if line.startswith('medseg_jobs_ended_total{state="done"}'))
    assert int(ended.split()[1]) >= 1


def test_too_many_are_told_to_come_again(own: Callable[..., Service], scan: Path) -> None:
    served = own("--max-waiting", "1")
    answers = [served.send(scan, "model=tiny&report=true") for _ in range(3)]
    assert [a.status for a in answers].count(201) >= 1
    full = [a for a in answers if a.status == 503]
    assert full
    assert full[0].headers["retry-after"] == "5"


def test_a_key_stands_for_one_request(own: Callable[..., Service], scan: Path) -> None:
    served = own("--max-waiting", "1")
    first = served.send(scan, "model=tiny", Idempotency_Key="k")
    assert served.send(scan, "model=tiny", Idempotency_Key="k").json()["id"] == first.json()["id"]
    for other in (
        served.send(scan, "model=pair", Idempotency_Key="k"),
        served.ask("POST", "/api/jobs", b"", {"Idempotency-Key": "k"}),
    ):
        assert other.status == 422
    body = scan.read_bytes() + b"more"
    said = served.ask("POST", f"/api/jobs?name={scan.name}&model=tiny", body, {"Idempotency-Key": "k"})
    assert "used for another request" in said.json()["fault"]
    assert served.ended(first.json()["id"])["state"] == "done"


def test_scans_that_come_at_once_are_no_more_than_may_wait(own: Callable[..., Service], scan: Path) -> None:
    """Each is let in while few wait, and is refused when all of it is there and many wait."""
    served, data = own("--max-waiting", "2"), scan.read_bytes()
    head = (
        f"POST /api/jobs?model=tiny&report=true&name=a.nii.gz HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    ).encode()
    links = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(8)]
    for link in links:
        link.sendall(head + data[:-10])
    time.sleep(0.5)
    for link in links:
        link.sendall(data[-10:])
    answers = [link.recv(200) for link in links]
    for link in links:
        link.close()
    assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) >= 4
    assert served.ask("GET", "/health").json()["waiting"] <= 2


def test_corrections_name_structures_and_come_whole(service: Service, scan: Path) -> None:
    job = predicted(service, scan, "model=tiny&view=true")
    shape = service.ask("GET", f"/api/jobs/{job}/view").json()["shape"]
    nothing, strange = np.zeros(shape, "<u2"), np.full(shape, 99, "<u2")
    said = service.ask("POST", f"/api/jobs/{job}/refine", *form({"scribbles": ("s", packed(strange))}))
    assert (said.status, said.json()["fault"]) == (422, "the part start is missing")
    for start, scribbles in ((nothing, strange), (strange, nothing)):
        parts = {"start": ("a", packed(start)), "scribbles": ("b", packed(scribbles))}
        sent = service.ask("POST", f"/api/jobs/{job}/refine", *form(parts))
        assert "values that no structure has: [99]" in service.ended(sent.json()["id"])["fault"]
    assert service.ask("POST", f"/api/jobs/{job}/colour", b"x").status == 404


@pytest.mark.parametrize("wait", ["abc", "-1", "nan", "inf", "[" * 20_000])
def test_a_wait_is_a_number_of_seconds(service: Service, scan: Path, wait: str) -> None:
    job = predicted(service, scan)
    said = service.ask("GET", f"/api/jobs/{job}?wait={wait}")
    assert said.status == 400
    assert "wait must be seconds" in said.json()["fault"]


@pytest.mark.parametrize("words", [("--time-limit", "abc"), ("--time-limit", "-1"), ("--keep", "nan")])
def test_times_of_a_service_are_times(tmp_path: Path, models: Path, words: tuple[str, str]) -> None:
    line = refused(2, "serve", "--data", tmp_path / "d", "--models", models, *words)
    assert f"{words[0]} takes a time" in line


def test_who_sends_nothing_more_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "SILENT_S", 0.05)

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    def answered(*messages: dict[str, Any]) -> int:
        coming = iter(messages)

        async def receive() -> dict[str, Any]:
            for message in coming:
                return message
            await asyncio.sleep(60)
            return {}

        async def send(_message: Any) -> None:
            """Nothing is said."""

        scope = {"type": "http", "method": "POST", "path": "/api/jobs", "headers": [(b"host", b"localhost")]}
        scope |= {"query_string": b"", "server": ("localhost", 80), "scheme": "http"}
        try:
            asyncio.run(access.Guard(app, "", 1000)(scope, receive, send))
        except HTTPException as fault:
            return fault.status_code
        return 200

    assert answered({"body": b"a", "more_body": True}, {"body": b"b", "more_body": False}) == 200
    assert answered({"body": b"a", "more_body": True}) == 408


def test_hints_speak_of_what_a_client_can_state() -> None:
    hint = "say which is right with --use-form sform, or cut it with --dry-run"
    assert hint_of(hint) == "say which is right with use_form sform"
