"""MONAI Label's protocol, spoken by its own client where it is installed, and by hand everywhere."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import done
from models import tiny_model
from services import Answer, Service, form

from medseg.data.phantom import STRUCTURES, write_phantom_scan

SHAPE = (20, 24, 18)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    tiny_model(0).save(path)
    return path


@pytest.fixture
def start(model: Path, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begun(*more: str, **named: Any) -> Service:
        started.append(Service(tmp_path / "data", [model], more, **named).start())
        return started[-1]

    yield begun
    for service in started:
        service.kill()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE, order="LPS", labels_path=tmp_path / "truth.nii.gz")
    return path


def put(service: Service, path: str, files: Mapping[str, Path], **fields: str) -> Answer:
    parts = [(key, file.name, file.read_bytes()) for key, file in files.items()]
    body, headers = form(parts)
    for key, value in fields.items():
        part = (
            f'--{headers["Content-Type"].partition("=")[2]}\r\nContent-Disposition: form-data; name="{key}"'
        )
        body = f"{part}\r\n\r\n{value}\r\n".encode() + body
    return service.ask("POST" if path.startswith("/infer") else "PUT", path, body, headers)


def parts_of(answer: Answer) -> dict[str, bytes]:
    message = BytesParser().parsebytes(
        f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode() + answer.body
    )
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)  # type: ignore[misc]
        for part in message.get_payload()
    }


def test_a_scan_is_sent_labelled_corrected_and_fetched(start: Callable[..., Service], scan: Path) -> None:
    service = start()
    info = service.ask("GET", "/info/").json()
    assert info["models"]["tiny"]["labels"] == {s.name: s.value for s in STRUCTURES}
    assert info["datastore"] == {"total": 0, "completed": 0, "label_tags": {"final": 0, "original": 0}}
    assert put(service, "/datastore/?image=case-1", {"file": scan}).json() == {"image": "case-1"}
    assert service.ask("POST", "/activelearning/least_sure").json()["id"] == "case-1"
    fetched = scan.with_name("fetched.nii.gz")
    fetched.write_bytes(service.ask("GET", "/datastore/image?image=case-1").body)
    np.testing.assert_array_equal(nib.load(fetched).get_fdata(), nib.load(scan).get_fdata())
    np.testing.assert_array_equal(nib.load(fetched).affine, nib.load(scan).affine)
    found = parts_of(put(service, "/infer/tiny?image=case-1", {}, params="{}"))
    assert json.loads(found["params"])["label_names"]["left lobe"]
    own = scan.with_name("scan_seg.nii.gz")
    done("predict", scan, "-m", service.models[0], "--threads", 1)
    (scan.parent / "got.nii.gz").write_bytes(found["image"])
    np.testing.assert_array_equal(
        np.asarray(nib.load(scan.parent / "got.nii.gz").dataobj), np.asarray(nib.load(own).dataobj)
    )
    told = service.ask("GET", "/datastore/?output=all").json()["objects"]["case-1"]
    assert list(told["labels"]) == ["original"]
    assert put(service, "/datastore/label?image=case-1&tag=final", {"label": own}).status == 200
    assert service.ask("GET", "/info/").json()["datastore"]["completed"] == 1
    assert service.ask("POST", "/activelearning/first").json() == {}
    assert "1 case" in done("check", service.data / "cases" / "tiny").err


def test_values_are_told_by_names_and_left_stays_left(start: Callable[..., Service], scan: Path) -> None:
    service = start()
    put(service, "/datastore/?image=one", {"file": scan})
    truth = nib.load(scan.with_name("truth.nii.gz"))
    array = np.asarray(truth.dataobj)
    order = {s.name: number for number, s in enumerate(reversed(list(STRUCTURES)), start=1)}
    sent = np.zeros_like(array)
    for s in STRUCTURES:
        sent[array == s.value] = order[s.name]
    other = scan.with_name("other.nii.gz")
    nib.save(nib.Nifti1Image(sent, truth.affine), other)
    info = [{"name": name, "idx": value} for name, value in order.items()]
    answer = put(
        service,
        "/datastore/label?image=one&tag=final",
        {"label": other},
        params=json.dumps({"label_info": info}),
    )
    assert answer.status == 200, answer.body
    kept = nib.load(service.data / "cases/tiny/labels/final/one.nii.gz")
    np.testing.assert_array_equal(np.asarray(kept.dataobj), array)
    info[0]["name"] = "a third lobe"
    refused = put(
        service,
        "/datastore/label?image=one&tag=final",
        {"label": other},
        params=json.dumps({"label_info": info}),
    )
    assert refused.status == 422
    assert "the model has no 'a third lobe'" in refused.json()["fault"]


def test_labels_of_another_grid_and_strange_names_are_refused(
    start: Callable[..., Service], scan: Path, tmp_path: Path
) -> None:
    service = start()
    put(service, "/datastore/?image=one", {"file": scan})
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "small.nii.gz")
    assert put(service, "/datastore/label?image=one", {"label": tmp_path / "small.nii.gz"}).status == 422
    for name in ("..%2Fone", "a%2Fb", ".hidden", "one.nii.gz", "one_changes"):
        assert put(service, f"/datastore/?image={name}", {"file": scan}).status == 422
    assert put(service, "/datastore/label?image=two", {"label": scan}).status == 404
    assert service.ask("GET", "/datastore/label?label=one&tag=..%2F..").status == 422
    assert put(service, "/datastore/label?image=one&tag=original", {"label": scan}).status == 422
    kept = {p.name for p in (service.data / "cases/tiny").iterdir()}
    assert kept <= {"one.nii.gz", "dataset.json", "labels", ".lock"}


def test_labels_are_on_the_grid_of_their_scan_whatever_the_order_of_its_axes(
    start: Callable[..., Service], scan: Path, tmp_path: Path
) -> None:
    service = start()
    put(service, "/datastore/?image=one", {"file": scan})
    truth = nib.load(scan.with_name("truth.nii.gz"))
    for n, shape in enumerate(((1, 1, 1), (SHAPE[0] - 1, *SHAPE[1:]), (SHAPE[0] + 1, *SHAPE[1:]))):
        nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), truth.affine), tmp_path / f"{n}.nii.gz")
        refused = put(service, "/datastore/label?image=one", {"label": tmp_path / f"{n}.nii.gz"})
        assert refused.status == 422
        assert "lie on different grids" in refused.json()["fault"]
    turned = tmp_path / "turned.nii.gz"
    nib.save(nib.as_closest_canonical(truth), turned)
    assert nib.aff2axcodes(nib.load(turned).affine) != nib.aff2axcodes(truth.affine)
    assert put(service, "/datastore/label?image=one", {"label": turned}).status == 200
    kept = nib.load(service.data / "cases/tiny/labels/final/one.nii.gz")
    np.testing.assert_array_equal(np.asarray(kept.dataobj), np.asarray(truth.dataobj))
    np.testing.assert_allclose(kept.affine, truth.affine, atol=1e-5)


@pytest.mark.parametrize(
    "named",
    [
        [("left lobe", 1), ("left lobe", 2)],
        [("left lobe", 1), ("right lobe", 1)],
        [("left lobe", 0), ("right lobe", 1)],
        [("left lobe", -1)],
        [("left lobe", 1.5)],
        [("left lobe", 1 << 40)],
        [("left lobe", 1)],
    ],
)
def test_names_that_leave_open_what_a_value_means_are_refused(
    start: Callable[..., Service], scan: Path, named: list[tuple[str, float]]
) -> None:
    service = start()
    put(service, "/datastore/?image=one", {"file": scan})
    info = json.dumps({"label_info": [{"name": name, "idx": value} for name, value in named]})
    truth = scan.with_name("truth.nii.gz")
    assert put(service, "/datastore/label?image=one", {"label": truth}, params=info).status == 422
    assert not list((service.data / "cases/tiny").rglob("final/*.nii.gz"))


def test_nothing_of_a_header_is_kept_and_no_rubbish(
    start: Callable[..., Service], scan: Path, tmp_path: Path
) -> None:
    service = start()
    image = nib.load(scan)
    image.header["descrip"] = b"Doe^Jane"
    nib.save(image, tmp_path / "named.nii.gz")
    for content in (b"", b"no scan"):
        (tmp_path / "bad.nii.gz").write_bytes(content)
        assert put(service, "/datastore/?image=one", {"file": tmp_path / "bad.nii.gz"}).status == 422
    assert put(service, "/datastore/?image=one", {"file": tmp_path / "named.nii.gz"}).status == 200
    kept = service.data / "cases/tiny/one.nii.gz"
    assert b"Jane" not in gzip.decompress(kept.read_bytes())
    assert put(service, "/datastore/?image=one", {"file": scan}).status == 200, "the same voxels"
    nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine), tmp_path / "other.nii.gz")
    refused = put(service, "/datastore/?image=one", {"file": tmp_path / "other.nii.gz"})
    assert "another scan is called one" in refused.json()["fault"]
    assert {path.stat().st_mode & 0o077 for path in service.data.rglob("*")} == {0}, "of nobody else"


def test_a_session_has_a_scan_that_is_not_kept(start: Callable[..., Service], scan: Path) -> None:
    service = start()
    session = put(service, "/session/", {"files": scan}).json()["session_id"]
    assert put(service, f"/infer/tiny?image=&session_id={session}&output=json", {}, params="{}").status == 200
    assert service.ask("DELETE", f"/session/{session}").status == 200
    assert service.ask("GET", f"/session/{session}").status == 404
    assert not list((service.data / "cases").rglob("*.nii.gz"))


def test_the_token_is_the_password(start: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-that-is-long-enough")
    service = start("--token-file", str(tmp_path / "token"))
    assert service.ask("GET", "/auth/").json() == {"enabled": True}
    assert service.ask("GET", "/info/").status == 401
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert service.ask("POST", "/auth/token", b"username=a&password=wrong", headers).status == 401
    body = b"username=a&password=a-token-that-is-long-enough"
    said = service.ask("POST", "/auth/token", body, headers).json()
    service.headers = {"Authorization": f"{said['token_type']} {said['access_token']}"}
    assert service.ask("GET", "/info/").status == 200


def test_sessions_are_forgotten(start: Callable[..., Service], scan: Path) -> None:
    service = start("--keep", "1s")
    first = put(service, "/session/", {"files": scan}).json()["session_id"]
    time.sleep(1.1)
    second = put(service, "/session/", {"files": scan}).json()["session_id"]
    assert service.ask("GET", f"/session/{first}").status == 404
    assert service.ask("GET", f"/session/{second}").status == 200


@pytest.mark.parametrize("body", [b"NaN", b"[1]", b"{", b'{"minutes": "long"}', b'{"minutes": -1}'])
def test_nothing_trains_by_a_request_that_is_none(start: Callable[..., Service], body: bytes) -> None:
    service = start()
    assert service.ask("POST", "/train/tiny", body).status in (400, 422)
    assert service.ask("GET", "/train/").status == 404


@pytest.mark.slow
def test_a_training_runs_beside_the_service_and_replaces_nothing(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start()
    before = service.models[0].read_bytes()
    for n in range(6):
        image, truth = tmp_path / f"s{n}.nii.gz", tmp_path / f"t{n}.nii.gz"
        write_phantom_scan(image, seed=n, shape=SHAPE, labels_path=truth)
        put(service, f"/datastore/?image=case-{n}", {"file": image})
        assert put(service, f"/datastore/label?image=case-{n}", {"label": truth}).status == 200
    assert service.ask("GET", "/train/").status == 404
    assert service.ask("POST", "/train/tiny", b'{"minutes": 0.5}').json()["status"] == "RUNNING"
    assert service.ask("POST", "/train/tiny").status == 503, "one at a time"
    until = time.monotonic() + 240
    while service.ask("GET", "/train/?check_if_running=true").status == 200 and time.monotonic() < until:
        time.sleep(1)
    told = service.ask("GET", "/train/").json()
    assert told["status"] == "DONE", told
    (made,) = (service.data / "trainings").glob("*/run/model.safetensors")
    assert made.read_bytes() != before
    assert service.models[0].read_bytes() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its connections open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_monai_labels_own_client_talks_to_it(
    start: Callable[..., Service], scan: Path, tmp_path: Path
) -> None:
    client_of = pytest.importorskip("monailabel.client.client", reason="MONAI Label is not installed")
    service = start()
    client = client_of.MONAILabelClient(f"http://127.0.0.1:{service.port}", tmpdir=str(tmp_path))
    assert not client.auth_enabled()
    assert list(client.info()["models"]) == ["tiny"]
    assert client.upload_image(str(scan), "case-1") == {"image": "case-1"}
    assert client.next_sample("least_sure", {})["id"] == "case-1"
    labels, params = client.infer("tiny", "case-1", {})
    assert params["label_names"]["left lobe"]
    assert np.asarray(nib.load(labels).dataobj).shape == SHAPE
    info = [{"name": s.name, "idx": s.value} for s in STRUCTURES]
    assert client.save_label("case-1", labels, "final", {"label_info": info})["label"] == "case-1"
    assert client.datastore()["objects"]["case-1"]["labels"].keys() == {"final", "original"}
    fetched = client.download_label("case-1", "final")
    np.testing.assert_array_equal(np.asarray(nib.load(fetched).dataobj), np.asarray(nib.load(labels).dataobj))
    assert client.next_sample("first", {}) == {}
    assert not client.train_status(check_if_running=True)
    assert client.train_start("tiny", {"minutes": 0.1})["status"] == "RUNNING"
    client.train_stop()
    assert not client.train_status(check_if_running=True)
