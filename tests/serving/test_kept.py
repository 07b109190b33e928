"""Corrections that a service keeps: two people on one scan, and what becomes of their labels."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done
from models import tiny_model
from nodes import write_series
from services import Answer, Service, form

from medseg.core.volume import Grid
from medseg.data.phantom import write_phantom_scan
from medseg.preparation.orient import canonical

SHAPE = (20, 24, 18)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    tiny_model(0).save(tmp_path / "tiny.safetensors")
    served = Service(tmp_path / "data", [tmp_path / "tiny.safetensors"]).start()
    yield served
    served.kill()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "Doe^Jane.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE, order="LPS")
    return path


def predicted(service: Service, scan: Path, query: str = "view=true") -> str:
    job = service.ended(service.send(scan, query).json()["id"])
    assert job["state"] == "done", job
    return str(job["id"])


def drawn(value: int) -> bytes:
    array = np.zeros(SHAPE, "<u2")
    array[4:9, 4:9, 4:9] = value
    return gzip.compress(array.tobytes(order="F"))


def corrected(service: Service, job: str, value: int, query: str = "") -> Answer:
    parts = form({"labels": ("l", drawn(value))})
    sent = service.ask("POST", f"/api/jobs/{job}/correct?{query}", *parts)
    if sent.status == 201:
        said = service.ended(sent.json()["id"])
        assert said["state"] == "done", said
    return sent


def test_a_correction_is_kept_beside_what_was_predicted(service: Service, scan: Path) -> None:
    job = predicted(service, scan)
    assert corrected(service, job, 1, "accepted=[%22left%20lobe%22]").status == 201
    store = service.data / "cases" / "tiny"
    (case,) = [p.name.removesuffix(".nii.gz") for p in store.glob("*.nii.gz")]
    image, labels = nib.load(store / f"{case}.nii.gz"), nib.load(store / "labels/final" / f"{case}.nii.gz")
    source = nib.load(scan)
    np.testing.assert_array_equal(image.get_fdata(), source.get_fdata())
    np.testing.assert_array_equal(image.affine, source.affine)
    turn = canonical(Grid(source.shape, source.affine))
    found = turn.forward(np.asarray(labels.dataobj))
    assert (found[4:9, 4:9, 4:9] == 1).all()
    assert (found > 0).sum() == 125
    original = (store / "labels/original" / f"{case}.nii.gz").read_bytes()
    assert original == service.ask("GET", f"/api/jobs/{job}/labels").body
    changes = json.loads((store / "labels/final" / f"{case}_changes.json").read_text())
    assert [name for name, change in changes.items() if change["accepted"]] == ["left lobe"]
    assert not [p for p in store.rglob("*") if "Jane" in p.name]
    assert "1 case" in done("check", store).err


def test_the_second_of_two_on_one_scan_is_told(service: Service, scan: Path) -> None:
    ann, bob = predicted(service, scan), predicted(service, scan)
    assert corrected(service, ann, 1).status == 201
    refused = corrected(service, bob, 2)
    assert refused.status == 409
    assert "other labels of this scan were saved" in refused.json()["fault"]
    assert corrected(service, bob, 2, "replace=true").status == 201
    labels = service.data / "cases" / "tiny" / "labels"
    assert {len(list((labels / place).glob("*.nii.gz"))) for place in ("final", "earlier")} == {1}


def test_who_comes_later_sees_what_is_kept(service: Service, scan: Path) -> None:
    corrected(service, predicted(service, scan), 1)
    job = predicted(service, scan)
    kept = service.ask("GET", f"/api/jobs/{job}/kept").json()["digest"]
    shown = gzip.decompress(service.ask("GET", f"/api/jobs/{job}/view-kept").body)
    assert shown == gzip.decompress(drawn(1))
    assert corrected(service, job, 2, f"base={kept}").status == 201


def test_a_scan_is_corrected_as_it_was_read(service: Service, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    image.set_sform(image.affine + np.diag([0.2, 0.2, 0.2, 0]), 1)
    other = tmp_path / "forms.nii.gz"
    nib.save(image, other)
    job = predicted(service, other, "view=true&use_form=qform")
    parts = {"start": ("s", drawn(1)), "scribbles": ("c", drawn(1))}
    refined = service.ask("POST", f"/api/jobs/{job}/refine", *form(parts)).json()["id"]
    assert service.ended(refined)["state"] == "done"
    assert corrected(service, job, 1).status == 201


def test_the_next_correction_begins_with_the_last_one(service: Service, scan: Path) -> None:
    job = predicted(service, scan)
    refused = corrected(service, job, 1, "base=abc")
    assert (refused.status, "no labels of this scan are kept" in refused.json()["fault"]) == (409, True)
    first = corrected(service, job, 1).json()["id"]
    base = service.ask("GET", f"/api/jobs/{first}/kept").json()["digest"]
    assert corrected(service, job, 2, f"base={base}").status == 201


def test_a_series_that_was_given_objects_is_corrected(service: Service, tmp_path: Path) -> None:
    files = [("scan", path.name, path.read_bytes()) for path in write_series(tmp_path, 1)]
    body, headers = form(files)
    sent = service.ask("POST", "/api/jobs?view=true&dicom=true", body, headers)
    job = service.ended(sent.json()["id"])
    assert "dicom-seg" in job["files"], job
    shape = service.ask("GET", f"/api/jobs/{job['id']}/view").json()["shape"]
    parts = form({"labels": ("l", gzip.compress(np.ones(shape, "<u2").tobytes()))})
    sent = service.ask("POST", f"/api/jobs/{job['id']}/correct", *parts)
    assert service.ended(sent.json()["id"])["state"] == "done"
    assert len(list((service.data / "cases/tiny/labels/final").glob("*.nii.gz"))) == 1


def test_labels_of_other_formats_are_kept_as_nifti_and_told(
    service: Service, scan: Path, tmp_path: Path
) -> None:
    other = tmp_path / "scan.mgz"
    nib.save(nib.MGHImage(np.asarray(nib.load(scan).dataobj, np.float32), nib.load(scan).affine), other)
    ann, bob = predicted(service, other), predicted(service, other)
    assert corrected(service, ann, 1).status == 201
    assert corrected(service, bob, 2).status == 409
    kept = list((service.data / "cases/tiny/labels").rglob("*.nii.gz"))
    assert sorted(path.parent.name for path in kept) == ["final", "original"]
    assert "1 case" in done("check", service.data / "cases" / "tiny").err


def test_one_file_read_in_two_ways_is_two_cases(service: Service, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    mirrored = image.affine @ np.diag([-1, 1, 1, 1])
    image.set_sform(mirrored, 1)
    nib.save(image, tmp_path / "forms.nii.gz")
    both = np.stack([image.get_fdata(), image.get_fdata()[::-1]], axis=-1)
    nib.save(nib.Nifti1Image(both, nib.load(scan).affine), tmp_path / "two.nii.gz")
    for name, query in (
        ("forms", "use_form=sform"),
        ("forms", "use_form=qform"),
        ("two", "volume=1"),
        ("two", "volume=0"),
    ):
        job = predicted(service, tmp_path / f"{name}.nii.gz", f"view=true&{query}")
        assert corrected(service, job, 1).status == 201
    store = service.data / "cases/tiny"
    scans = sorted(store.glob("*.nii.gz"))
    assert len(scans) == 4
    for path in scans:
        labels = nib.load(store / "labels/final" / path.name)
        np.testing.assert_allclose(labels.affine, nib.load(path).affine, atol=1e-4)
