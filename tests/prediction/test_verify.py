"""`medseg verify`: the same voxels again, or what is not the same."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, refused
from models import tiny_model

from medseg.data.phantom import write_phantom_scan
from medseg.io import digest_of
from medseg.prediction import verify as verifying
from medseg.prediction.verify import Verification, verify


@pytest.fixture
def predicted(tmp_path: Path, model_path: Path) -> Path:
    """The sidecar of a prediction; scan and labels lie beside it."""
    write_phantom_scan(tmp_path / "scan.nii.gz", seed=1, shape=(20, 24, 18))
    done("predict", tmp_path / "scan.nii.gz", "-m", model_path)
    return tmp_path / "scan_seg.json"


def edited(sidecar: Path, **changes: object) -> Path:
    """A sidecar that states something else; keys may be paths, such as `provenance.software.version`."""
    content = json.loads(sidecar.read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        part = content
        for name in path:
            part = part[name]
        part[last] = value
    sidecar.write_text(json.dumps(content))
    return sidecar


def test_the_voxels_of_a_prediction_are_the_same_again(predicted: Path, model_path: Path) -> None:
    for path in (predicted, predicted.with_name("scan_seg.nii.gz")):
        ran = done("verify", path, "-m", model_path)
        assert "the labels are the same, voxel by voxel: 0 of 8,640 voxels differ" in ran.out
        assert "not as recorded" not in ran.err
    content = json.loads(done("verify", predicted, "-m", model_path, "--json").out)
    assert content["verdict"] == "same"
    assert set(content["dice"].values()) <= {1.0, None}


def test_settings_are_those_of_the_sidecar(tmp_path: Path, model_path: Path) -> None:
    write_phantom_scan(tmp_path / "a.nii.gz", seed=2, shape=(20, 24, 18))
    done("predict", tmp_path / "a.nii.gz", "-m", model_path, "--scales", "1,0.8", "--engine", "torch")
    assert verify(tmp_path / "a_seg.json", models=[str(model_path)]).verdict == "same"
    plain = edited(tmp_path / "a_seg.json", provenance__settings__scales=[])
    assert verify(plain, models=[str(model_path)]).differing > 0


def test_another_scan_model_or_label_file_is_told_with_both_digests(
    predicted: Path, model_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "scan.nii.gz"
    other.parent.mkdir()
    write_phantom_scan(other, seed=3, shape=(20, 24, 18))
    line = refused(8, "verify", predicted, "-m", model_path, "--scan", other)
    assert digest_of(other) in line
    assert digest_of(tmp_path / "scan.nii.gz") in line
    tiny_model(1).save(tmp_path / "other.safetensors")
    line = refused(8, "verify", predicted, "-m", tmp_path / "other.safetensors")
    assert "records a model with SHA-256" in line
    labels = nib.load(tmp_path / "scan_seg.nii.gz")
    array = np.asarray(labels.dataobj).copy()
    array[0, 0, 0] = 2 if array[0, 0, 0] == 1 else 1
    nib.save(nib.Nifti1Image(array, labels.affine, labels.header), tmp_path / "scan_seg.nii.gz")
    ran = medseg("verify", predicted, "-m", model_path)
    assert ran.code == 8
    assert "the file scan_seg.nii.gz is not the one that the sidecar describes" in ran.err
    assert "the labels have" in ran.err, "the volumes of the sidecar are those of other labels"


def test_labels_that_another_network_would_write_differ(predicted: Path, model_path: Path) -> None:
    """The labels are changed together with their digest, as by a fault that the sidecar does not show."""
    path = predicted.with_name("scan_seg.nii.gz")
    labels = nib.load(path)
    array = np.asarray(labels.dataobj).copy()
    array[:4] = np.where(array[:4] == 1, 0, 1)
    nib.save(nib.Nifti1Image(array, labels.affine, labels.header), path)
    rows = json.loads(predicted.read_text())["structures"]
    for row in rows:
        row["voxels"] = int((array == row["value"]).sum())
        row["volume_ml"] = row["voxels"] * float(np.prod(labels.header.get_zooms())) / 1000
    edited(predicted, labels_sha256=digest_of(path), structures=rows)
    ran = medseg("verify", predicted, "-m", model_path)
    assert ran.code == 8
    assert "with the recorded labels" in ran.out
    assert "of 8,640 voxels have another label now" in ran.err


@pytest.mark.parametrize(
    ("differing", "dice", "otherwise", "verdict"),
    [
        (0, 1.0, (), "same"),
        (0, 1.0, ("processor",), "same"),
        (3, 0.999, (), "different"),
        (3, 0.999, ("processor",), "rounding"),
        (30, 0.99, ("processor",), "different"),
        (3, None, ("processor",), "rounding"),
    ],
)
def test_rounding_excuses_little_and_only_where_something_rounds_otherwise(
    differing: int, dice: float | None, otherwise: tuple[str, ...], verdict: str
) -> None:
    assert Verification(Path("a"), 100, differing, {"a": dice}, otherwise).verdict == verdict


def test_what_is_not_as_it_was_is_said(
    predicted: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(predicted, provenance__software__version="0.0.9", processor="vax")
    ran = done("verify", predicted, "-m", model_path)
    assert "not as recorded: medseg 0.0.9 then" in ran.err
    assert "not as recorded: processor vax then" in ran.err
    monkeypatch.setattr(verifying.engines, "precisions", lambda *_: ("f32",))
    content = json.loads(predicted.read_text())
    engine = content["provenance"]["settings"]["engines"][0].split()[0]
    edited(predicted, provenance__settings__engines=[f"{engine} bf16"])
    assert "bf16 then, f32 now" in done("verify", predicted, "-m", model_path).err


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"structures": []}, 8, "the sidecar does not state left lobe"),
        ({"quality__flag": "ok"}, 8, "the sidecar states the verdict ok, and it is doubtful"),
        ({"provenance__settings": None}, 3, "does not record which engine made the labels"),
        ({"provenance__settings__engines": ["foo"]}, 3, "records the engine 'foo', which is none of medseg"),
        ({"provenance__input__sha256": "0"}, 8, "and the sidecar records 0"),
    ],
)
def test_a_sidecar_that_was_edited_is_told(
    predicted: Path, model_path: Path, changes: dict[str, object], code: int, text: str
) -> None:
    ran = medseg("verify", edited(predicted, **changes), "-m", model_path)
    assert ran.code == code
    assert text in ran.err


def test_voxels_that_are_stored_otherwise_are_the_same(predicted: Path, model_path: Path) -> None:
    path = predicted.with_name("scan_seg.nii.gz")
    labels = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj).astype(np.int16), labels.affine), path)
    ran = done("verify", predicted, "-m", model_path)
    assert "not as recorded: the file scan_seg.nii.gz is not the one" in ran.err
    assert "the same, voxel by voxel" in ran.out


def test_a_folder_of_scans_serves_for_a_batch(tmp_path: Path, model_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        write_phantom_scan(scans / f"{name}.nii.gz", seed=seed, shape=(20, 24, 18))
    done("predict", scans, "-m", model_path, "-o", tmp_path / "out")
    for name in ("a", "b"):
        done("verify", tmp_path / "out" / f"{name}_seg.json", "-m", model_path, "--scan", scans)
    (tmp_path / "out" / "b_seg.json").rename(tmp_path / "out" / "c_seg.json")
    (tmp_path / "out" / "b_seg.nii.gz").rename(tmp_path / "out" / "c_seg.nii.gz")
    line = refused(2, "verify", tmp_path / "out" / "c_seg.json", "-m", model_path, "--scan", scans)
    assert "0 scans of the folder are called c" in line


def test_what_cannot_be_predicted_again_is_refused(predicted: Path, model_path: Path, tmp_path: Path) -> None:
    assert "none_seg.json: no such file" in refused(3, "verify", tmp_path / "none_seg.json")
    assert f"{tmp_path}: is a folder" in refused(3, "verify", tmp_path)
    assert "scan.nii.gz: has no sidecar scan.json" in refused(3, "verify", tmp_path / "scan.nii.gz")
    assert "which is not a model that comes with medseg" in refused(2, "verify", predicted)
    (tmp_path / "scan.nii.gz").rename(tmp_path / "moved.nii.gz")
    assert "name it, or its folder, with --scan" in refused(2, "verify", predicted, "-m", model_path)
    done("verify", predicted, "-m", model_path, "--scan", tmp_path / "moved.nii.gz")
    (tmp_path / "scan_seg.nii.gz").unlink()
    assert "the labels are not beside" in refused(3, "verify", predicted, "-m", model_path)
    edited(predicted, provenance__models=[])
    assert "does not record which model" in refused(3, "verify", predicted, "-m", model_path)
