"""One digest of a scan: prediction, page and evaluation name the same."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import pytest
import SimpleITK as sitk
from commands import done
from io_files import write_dicom
from models import tiny_model

from medseg import io
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.evaluation.evaluate import evaluate
from medseg.reporting.case.page import report

SHAPE = (20, 24, 18)


@pytest.fixture(scope="session")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pair") / "pair.safetensors"
    tiny_model(3, channels=("t1", "t2")).save(path)
    return path


def shown(page: Path) -> set[str]:
    """The SHA-256 that a page shows."""
    return set(re.findall(r"\b[0-9a-f]{64}\b", page.read_text(encoding="utf-8")))


def scan_of(kind: str, folder: Path) -> Path:
    """A scan of a kind that is read from one file or several."""
    if kind == "dicom":
        write_dicom(folder / "scan", 8, size=(12, 10))
        return folder / "scan"
    plain = folder.parent / "plain.nii.gz"
    write_phantom_scan(plain, seed=1, shape=SHAPE)
    path = folder / f"scan{kind}"
    if kind == ".hdr":
        nib.save(nib.Nifti1Pair.from_image(nib.load(plain)), path)
    else:
        sitk.WriteImage(sitk.ReadImage(str(plain)), str(path))
    return path


@pytest.mark.fault("reports 40")
@pytest.mark.parametrize("kind", [".nii.gz", ".hdr", ".mhd", ".nhdr", "dicom"])
def test_predict_report_and_evaluate_name_one_digest(tmp_path: Path, model_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    scan, out = scan_of(kind, folder), tmp_path / "out"
    done("predict", scan, "-m", model_path, "-o", f"{out}/", "--report", "-q")
    seg = out / f"scan_seg{'.nii.gz' if kind == 'dicom' else kind}"
    said = json.loads((out / "scan_seg.json").read_text())["provenance"]["input"]["sha256"]
    assert said == io.digest_of(scan)
    assert said in shown(out / "scan_report.html")
    report(seg, scan, structures=STRUCTURES, out=tmp_path / "again.html")
    assert {said, io.digest_of(seg)} <= shown(tmp_path / "again.html")
    evaluate(seg, seg, out=tmp_path / "scores", images=scan, surface=False)
    (page,) = (tmp_path / "scores" / "cases").glob("*.html")
    assert {said, io.digest_of(seg)} <= shown(page)


@pytest.mark.fault("reports 40")
def test_a_scan_of_two_channels_has_one_digest(tmp_path: Path, pair_model: Path) -> None:
    images, out = tmp_path / "set" / "imagesTr", tmp_path / "out"
    images.mkdir(parents=True)
    write_phantom_scan(images / "a_0000.nii.gz", seed=1, shape=SHAPE)
    first = nib.load(images / "a_0000.nii.gz")
    nib.save(nib.Nifti1Image(2 * first.get_fdata(), first.affine), images / "a_0001.nii.gz")
    described = {
        "channel_names": {"0": "t2", "1": "t1"},
        "labels": {"background": 0},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(described))
    source = {"t2": images / "a_0000.nii.gz", "t1": images / "a_0001.nii.gz"}
    done("predict", images, "-m", pair_model, "-o", out, "--report", "-q")
    said = json.loads((out / "a_seg.json").read_text())["provenance"]["input"]["sha256"]
    assert said == io.digest_of(source) == io.digest_of(dict(reversed(source.items())))
    assert said != io.digest_of({"t1": source["t2"], "t2": source["t1"]})
    report(out / "a_seg.nii.gz", source, structures=STRUCTURES, out=tmp_path / "again.html")
    labels = tmp_path / "labels"
    labels.mkdir()
    shutil.copy(out / "a_seg.nii.gz", labels / "a.nii.gz")
    evaluate(out, labels, out=tmp_path / "scores", images=images, surface=False)
    for page in (out / "a_report.html", tmp_path / "again.html", tmp_path / "scores" / "cases" / "a.html"):
        assert said in shown(page), page
    words = [f"{name}={file}" for name, file in source.items()]
    done("predict", *words, "-m", pair_model, "-o", tmp_path / "named.nii.gz", "-q")
    named = json.loads((tmp_path / "named.json").read_text())
    assert named["provenance"]["input"]["sha256"] == said


@pytest.mark.fault("reports 40")
def test_a_digest_is_that_of_any_program(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE)
    assert io.digest_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("b", "a"):
        (masks / f"{name}.nii.gz").write_bytes(name.encode())
    each = [hashlib.sha256((masks / f"{n}.nii.gz").read_bytes()).digest() for n in ("a", "b")]
    assert io.digest_of(masks) == hashlib.sha256(b"".join(each)).hexdigest()


@pytest.mark.fault("reports 40")
def test_a_file_with_a_damaged_header_has_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "scan.mhd"
    path.write_bytes(b"ElementDataFile : LOCAL\\n")
    assert io.digest_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
