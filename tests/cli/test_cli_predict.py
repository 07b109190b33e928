"""`medseg predict`: names, batches, and what a result says of itself."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from commands import Apart, apart, done, everything, medseg, names, refused, tree
from dicom_files import Frame, enhanced
from io_files import edit, write_dicom
from markupsafe import escape
from models import tiny_model

from medseg.data.phantom import STRUCTURES, phantom_case, write_phantom_scan

SHAPE = (20, 24, 18)
AFFINE = np.array([[1.0, 0, 0, -10], [0, 1, 0, -12], [0, 0, 1, -9], [0, 0, 0, 1]])
CANARY = "CANARY"
TORCH = {"torch", "monai"}


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom scan, which tests copy."""
    path = tmp_path_factory.mktemp("bank") / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE)
    return path


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    tiny_model(1).save(path)
    return path


@pytest.fixture(scope="session")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pair") / "pair.safetensors"
    tiny_model(3, channels=("t1", "t2")).save(path)
    return path


@pytest.fixture
def scan(bank: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(bank, tmp_path / "scan.nii.gz"))


def write(path: Path, seed: int = 1, **fields: object) -> Path:
    """A phantom as nibabel stores it."""
    path.parent.mkdir(exist_ok=True)
    volume, _ = phantom_case(np.random.default_rng(seed), SHAPE)
    image = nib.Nifti1Image(volume.array[0], AFFINE)
    image.set_qform(AFFINE, 1)
    nib.save(image, path)
    return edit(path, **fields) if fields else path


def summary(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def labels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


# Names


def test_a_scan_gets_labels_and_a_summary_beside_it(scan: Path, model_path: Path) -> None:
    ran = done("predict", scan, "-m", model_path)
    assert names(scan.parent) == {"scan.nii.gz", "scan_seg.nii.gz", "scan_seg.json"}
    assert [line.split()[0] for line in ran.out.splitlines()] == ["structure", "left", "right", "core"]
    found, image = nib.load(scan.parent / "scan_seg.nii.gz"), nib.load(scan)
    np.testing.assert_array_equal(found.affine, image.affine)
    assert found.shape == image.shape
    for key in ("sform_code", "qform_code", "xyzt_units"):
        assert found.header[key] == image.header[key]


def test_a_file_is_written_exactly_and_a_folder_keeps_stems(scan: Path, model_path: Path) -> None:
    done("predict", scan, "-m", model_path, "-o", scan.parent / "new" / "mine.mha")
    assert names(scan.parent / "new") == {"mine.mha", "mine.json"}
    done("predict", scan, "-m", model_path, "-o", scan.parent / "folder")
    assert names(scan.parent / "folder") == {"scan_seg.nii.gz", "scan_seg.json"}
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.parent / "new" / "mine.mha"))).T
    np.testing.assert_array_equal(found, labels(scan.parent / "folder" / "scan_seg.nii.gz"))


def test_probabilities_and_a_page_on_request(scan: Path, model_path: Path) -> None:
    done("predict", scan, "-m", model_path, "--probabilities", "--report", "-q")
    expected = {f"scan_prob-{name.replace(' ', '-')}.nii.gz" for name in STRUCTURES.names}
    assert names(scan.parent) == expected | {
        "scan.nii.gz", "scan_seg.nii.gz", "scan_seg.json", "scan_report.html",
    }  # fmt: skip
    kept = np.stack([nib.load(scan.parent / name).get_fdata() for name in sorted(expected)])
    assert kept.min() >= 0
    assert kept.sum(axis=0).max() <= 1 + 1e-5
    core = labels(scan.parent / "scan_seg.nii.gz") == 3
    assert (nib.load(scan.parent / "scan_prob-core.nii.gz").get_fdata()[core] >= 0.25).all()


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd", ".hdr", ".mgz", ".nhdr"])
def test_the_format_of_the_result_is_that_of_the_scan(
    scan: Path, model_path: Path, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    if suffix == ".hdr":
        nib.save(nib.Nifti1Pair.from_image(nib.load(scan)), folder / "a.hdr")
    elif suffix == ".mgz":
        image = nib.load(scan)
        nib.save(nib.MGHImage(image.get_fdata(dtype=np.float32), image.affine), folder / f"a{suffix}")
    else:
        sitk.WriteImage(sitk.ReadImage(str(scan)), str(folder / f"a{suffix}"))
    done("predict", folder / f"a{suffix}", "-m", model_path, "-q")
    done("predict", scan, "-m", model_path, "-q")
    beside = {".hdr": ".img", ".nhdr": ".raw.gz"}.get(suffix, suffix)
    written = names(folder) - {f"a{beside}", "a.raw", f"a{suffix}"}
    assert written == {f"a_seg{suffix}", "a_seg.json", f"a_seg{beside}"}
    if suffix in (".hdr", ".mgz"):
        found = labels(folder / f"a_seg{suffix}")
    else:
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"a_seg{suffix}"))).T
    np.testing.assert_array_equal(found, labels(tmp_path / "scan_seg.nii.gz"))


def test_a_dicom_folder_gets_a_nifti_beside_it(tmp_path: Path, model_path: Path) -> None:
    write_dicom(tmp_path / "series", 8, size=(12, 10))
    done("predict", tmp_path / "series", "-m", model_path, "-q")
    assert names(tmp_path) == {"series", "series_seg.nii.gz", "series_seg.json"}
    refused(2, "predict", tmp_path / "series", "-m", model_path, "-o", tmp_path / "series")
    done("predict", tmp_path / "series", "-m", model_path, "-o", tmp_path / "x", "--series", "1", "-q")
    assert summary(tmp_path / "x" / "series_seg.json")["provenance"]["settings"]["reading"]["series"] == "1"


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("name", ["frames.dcm", "IM0001"])
def test_a_file_of_frames_gets_a_nifti_beside_it(tmp_path: Path, model_path: Path, name: str) -> None:
    enhanced(tmp_path / name, [Frame(2.0 * n) for n in range(8)])
    stem = Path(name).stem
    done("predict", tmp_path / name, "-m", model_path, "-q")
    assert names(tmp_path) == {name, f"{stem}_seg.nii.gz", f"{stem}_seg.json"}
    assert labels(tmp_path / f"{stem}_seg.nii.gz").shape == (5, 6, 8)
    (tmp_path / "s").mkdir()
    (tmp_path / name).rename(tmp_path / "s" / name)
    line = refused(2, "predict", tmp_path / "s", "-m", model_path, "--dicom")
    assert "one file per slice, and this is Enhanced DICOM; leave out --dicom" in line


@pytest.mark.parametrize("more", [(), ("--series", "1"), ("--series", "2")])
def test_objects_for_a_file_of_two_kinds_of_frames_are_refused_for_the_true_reason(
    tmp_path: Path, model_path: Path, more: tuple[str, ...]
) -> None:
    frames = [Frame(2.0 * n, kind) for kind in ("M", "P") for n in range(8)]
    enhanced(tmp_path / "frames.dcm", frames)
    line = refused(2, "predict", tmp_path / "frames.dcm", "-m", model_path, "--dicom", *more)
    assert "one file per slice, and this is Enhanced DICOM; leave out --dicom" in line


@pytest.mark.fault("reliability 80")
def test_old_results_and_inputs_are_never_replaced_unasked(scan: Path, model_path: Path) -> None:
    done("predict", scan, "-m", model_path, "-q")
    before = tree(scan.parent)
    assert "exists already" in refused(2, "predict", scan, "-m", model_path)
    for more in ((), ("--overwrite",)):
        line = refused(2, "predict", scan, "-m", model_path, "-o", scan, *more)
        assert "replace an input" in line
    assert tree(scan.parent) == before
    done("predict", scan, "-m", model_path, "-q", "--overwrite")
    assert tree(scan.parent) != before


@pytest.mark.fault("reliability 80")
def test_a_foreign_file_in_the_place_of_any_result_stops_the_prediction_first(
    scan: Path, model_path: Path
) -> None:
    for name in ("scan_seg.json", "scan_report.html", "scan_prob-core.nii.gz"):
        (scan.parent / name).write_text('{"RepetitionTime": 2}')
        before = tree(scan.parent)
        line = refused(2, "predict", scan, "-m", model_path, "--report", "--probabilities")
        assert name in line
        assert tree(scan.parent) == before
        (scan.parent / name).unlink()


def test_two_scans_never_share_a_result(scan: Path, model_path: Path) -> None:
    folder = scan.parent / "in"
    folder.mkdir()
    shutil.copy(scan, folder / "a.nii.gz")
    (folder / "a.nii").write_bytes(gzip.decompress(scan.read_bytes()))
    line = refused(2, "predict", folder, "-m", model_path, "-o", scan.parent / "out")
    assert "would be the same file, a_seg.json; rename one" in line
    line = refused(2, "predict", scan, scan, "-m", model_path, "-o", scan.parent / "out")
    assert "would be the same file, scan_seg.nii.gz; rename one" in line


def test_of_a_folder_only_the_scans_fail_whose_results_would_be_one_file(scan: Path, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        shutil.copy(scan, folder / name)
    (folder / "a.nii").write_bytes(gzip.decompress(scan.read_bytes()))
    command = ("predict", folder, "-m", tmp_path / "m.safetensors", "-o", tmp_path / "out")
    plan = medseg(*command, "--dry-run")
    assert plan.code == 7
    ran = medseg(*command, "--json")
    assert ran.code == 7
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"b_seg.nii.gz", "b_seg.json"}
    assert ran.err.count("would be the same file, a_seg.json") >= 2
    assert "2 of 3 cases failed: a, a" in ran.err


# Channels


def test_channels_by_name_in_any_order(tmp_path: Path, pair_model: Path) -> None:
    t1, t2 = write(tmp_path / "p1_t1.nii.gz", 1), write(tmp_path / "p1_t2.nii.gz", 2)
    for n, words in enumerate(([f"t1={t1}", f"t2={t2}"], [f"t2={t2}", f"t1={t1}"])):
        done("predict", *words, "-m", pair_model, "-o", tmp_path / f"o{n}", "-q")
    first, second = (labels(tmp_path / f"o{n}" / "p1_seg.nii.gz") for n in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.fault("reliability 43")
@pytest.mark.fault("reliability 45")
@pytest.mark.fault("reliability 46")
def test_rows_43_45_46_channels_that_do_not_fit(tmp_path: Path, pair_model: Path, model_path: Path) -> None:
    t1, t2 = write(tmp_path / "t1.nii.gz", 1), write(tmp_path / "t2.nii.gz", 2)
    same = Path(shutil.copy(t1, tmp_path / "copy.nii.gz"))
    moved = write(tmp_path / "moved.nii.gz", 2, srow_x__3=7.0, qoffset_x=7.0)
    before = tree(tmp_path)
    assert "takes the channels t1, t2, but the scan has one channel, which has no name" in refused(
        3, "predict", t1, "-m", pair_model
    )
    assert "takes the channels t1, t2, but the scan has t1, t3" in refused(
        3, "predict", f"t1={t1}", f"t3={t2}", "-m", pair_model
    )
    assert "takes the channel image, but the scan has t1" in refused(
        3, "predict", f"t1={t1}", "-m", model_path
    )
    assert "are the same image" in refused(3, "predict", f"t1={t1}", f"t2={same}", "-m", pair_model)
    assert "different grids" in refused(4, "predict", f"t1={t1}", f"t2={moved}", "-m", pair_model)
    assert tree(tmp_path) == before


@pytest.mark.fault("reliability 38")
def test_a_4d_file_is_split_by_names_or_by_number(tmp_path: Path, pair_model: Path, model_path: Path) -> None:
    volumes = [nib.load(write(tmp_path / f"t{n}.nii.gz", n)) for n in (1, 2)]
    both = np.stack([v.get_fdata(dtype=np.float32) for v in volumes], axis=-1)
    nib.save(nib.Nifti1Image(both, volumes[0].affine), tmp_path / "both.nii.gz")
    done("predict", tmp_path / "both.nii.gz", "-m", pair_model, "--channels", "t1, t2", "-q")
    words = [f"t{n}={tmp_path / f't{n}.nii.gz'}" for n in (1, 2)]
    done("predict", *words, "-m", pair_model, "-o", tmp_path / "apart.nii.gz", "-q")
    np.testing.assert_array_equal(labels(tmp_path / "both_seg.nii.gz"), labels(tmp_path / "apart.nii.gz"))
    assert "--volume 0 to 1" in refused(
        3, "predict", tmp_path / "both.nii.gz", "-m", model_path, "--overwrite"
    )
    for n in (0, 1):
        out = tmp_path / f"v{n}.nii.gz"
        done("predict", tmp_path / "both.nii.gz", "--volume", n, "-m", model_path, "-o", out, "-q")
        done("predict", tmp_path / f"t{n + 1}.nii.gz", "-m", model_path, "-q")
        np.testing.assert_array_equal(labels(out), labels(tmp_path / f"t{n + 1}_seg.nii.gz"))
    refused(3, "predict", tmp_path / "both.nii.gz", "--volume", 2, "-m", model_path, "--overwrite")


# Batches


def cases(folder: Path, count: int) -> Path:
    for n in range(count):
        write(folder / "in" / f"case{n}.nii.gz", n)
    return folder / "in"


@pytest.mark.fault("reliability 91")
def test_row_91_one_bad_scan_of_ten_leaves_nine_results(tmp_path: Path, model_path: Path) -> None:
    scans = cases(tmp_path, 10)
    bad = scans / "case4.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-20])
    out = tmp_path / "out"
    ran = medseg("predict", scans, "-m", model_path, "-o", out, "--json", "-q")
    assert ran.code == 7
    failure, last = ran.err.splitlines()
    assert failure.startswith("[5/10] failed: ")
    assert last == "medseg: error: 1 of 10 cases failed: case4"
    outcomes = ran.json()
    assert [o["case"] for o in outcomes if o["error"]] == ["case4"]
    assert len(names(out)) == 18
    assert all((Path(o["output"]).is_file()) == (o["error"] is None) for o in outcomes)


def test_a_fault_of_ours_in_one_case_does_not_lose_the_others(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.prediction import job as room

    scans = cases(tmp_path, 3)
    honest = room.read_volume

    def moody(source: Path, **more: object) -> object:
        if source.name == "case1.nii.gz":
            raise ZeroDivisionError("oops")
        if source.name == "case2.nii.gz":
            raise MemoryError
        return honest(source, **more)

    monkeypatch.setattr(room, "read_volume", moody)
    ran = medseg("predict", scans, "-m", model_path, "-o", tmp_path / "out")
    assert ran.code == 7
    assert "ZeroDivisionError: oops; this is a bug in medseg" in ran.err
    assert "out of memory" in ran.err
    assert names(tmp_path / "out") == {"case0_seg.nii.gz", "case0_seg.json"}
    one = medseg("predict", scans / "case1.nii.gz", "-m", model_path)
    assert (one.code, len(one.err.splitlines())) == (1, 1)


def test_a_folder_needs_another_folder_for_its_results(tmp_path: Path, model_path: Path) -> None:
    scans = cases(tmp_path, 1)
    before = tree(tmp_path)
    for out in ((), ("-o", scans / "out"), ("-o", scans), ("-o", tmp_path / "x.nii.gz")):
        refused(2, "predict", scans, "-m", model_path, *out)
    assert tree(tmp_path) == before


def test_a_batch_goes_on_where_it_stopped(tmp_path: Path, model_path: Path) -> None:
    scans = cases(tmp_path, 3)
    out = tmp_path / "out"
    run = ("predict", scans, "-m", model_path, "-o", out)
    first = done(*run, "--json").json()
    assert [o["skipped"] for o in first] == [False] * 3
    before = tree(out)
    again = done(*run, "--json", "--overwrite").json()
    assert [o["skipped"] for o in again] == [True] * 3
    assert [o["structures"] for o in again] == [o["structures"] for o in first]
    assert tree(out) == before
    (out / "case1_seg.nii.gz").unlink()
    assert [o["skipped"] for o in done(*run, "--json").json()] == [True, False, True]
    assert {k: v[1] for k, v in tree(out).items() if k.endswith("gz")} == {
        k: v[1] for k, v in before.items() if k.endswith("gz")
    }
    assert [o["skipped"] for o in done(*run, "--json", "--probabilities", "--overwrite").json()] == [
        False
    ] * 3


def test_dicom_objects_that_are_asked_for_later_are_no_change_of_settings(
    tmp_path: Path, model_path: Path
) -> None:
    pytest.importorskip("highdicom")
    space = {0x00200052: ("UI", "1.2.826.0.1.3680043.2.1125.99")}
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "series", 8, size=(12, 10), tags=space)
    run = ("predict", tmp_path / "in", "-m", model_path, "-o", tmp_path / "out")
    done(*run, "-q")
    later = medseg(*run, "--dicom")
    assert later.code == 7
    said = "but the DICOM objects asked for (none then, binary now) changed since it was written"
    assert said in later.err
    assert "settings" not in later.err
    done(*run, "--dicom", "--overwrite")
    before = tree(tmp_path / "out")
    assert [o["skipped"] for o in done(*run, "--json").json()] == [True]  # nobody asks for the objects
    assert "(binary then, labelmap now)" in medseg(*run, "--dicom", "--dicom-seg", "labelmap").err
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("change", ["model", "input", "settings", "scales", "refinement", "labels"])
def test_a_result_of_something_else_is_not_passed_over(
    tmp_path: Path, model_path: Path, other_model: Path, change: str
) -> None:
    scans = cases(tmp_path, 1)
    out = tmp_path / "out"
    run = ["predict", scans, "-m", model_path, "-o", out]
    done(*run, "-q")
    if change == "model":
        run[3] = other_model
    elif change == "input":
        write(scans / "case0.nii.gz", 99)
    elif change == "settings":
        run.append("--tta")
    elif change == "scales":
        run += ["--scales", "1,0.9"]
    elif change == "refinement":
        run.append("--no-refine")
    else:
        shutil.copy(scans / "case0.nii.gz", out / "case0_seg.nii.gz")
    before = tree(out)
    refused_batch = medseg(*run)
    assert refused_batch.code == 7
    said = {"input": "the input", "model": "the model", "labels": "its labels"}.get(change, "the settings")
    told = f"exists already, but {said} changed since it was written; add --overwrite to write it again"
    assert told in refused_batch.err
    assert tree(out) == before
    assert [o["skipped"] for o in done(*run, "--overwrite", "--json").json()] == [False]


@pytest.mark.fault("reports 34")
def test_dicom_segments_are_binary_unless_a_label_map_is_asked_for(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("medseg.prediction.predict.predict", lambda *given: asked.append(given[3].dicom_seg))
    for words in ((), ("--dicom-seg", "labelmap")):
        done("predict", scan, "-m", model_path, "--dicom", *words)
    assert asked == ["binary", "labelmap"]
    line = refused(2, "predict", scan, "-m", model_path, "--dicom-seg", "fractional")
    assert "--dicom-seg must be binary or labelmap, not 'fractional'" in line


# What a result says


def test_the_summary_is_strict_and_says_how_the_result_was_made(scan: Path, model_path: Path) -> None:
    ran = done("predict", scan, "-m", model_path, "--json")
    said = summary(scan.parent / "scan_seg.json")
    (shown,) = ran.json()
    assert shown == said | {
        "case": "scan", "output": str(scan.parent / "scan_seg.nii.gz"), "skipped": False, "error": None,
    }  # fmt: skip
    assert said["schema"] == "medseg.prediction/1"
    assert said["intended_use"].startswith("research only")
    assert said["grid"] == {"shape": [20, 24, 18], "spacing_mm": [1.0, 1.0, 1.0], "orientation": "LPS"}
    found = labels(scan.parent / "scan_seg.nii.gz")
    for row in said["structures"]:
        assert row["voxels"] == (found == row["value"]).sum()
        assert row["volume_ml"] == pytest.approx(row["voxels"] / 1000)
        here = found == row["value"]
        inside = np.zeros_like(here)
        inside[1:-1, 1:-1, 1:-1] = True
        assert row["truncated"] == bool((here & ~inside).any())
    assert [row["name"] for row in said["structures"]] == list(STRUCTURES.names)
    made = said["provenance"]
    assert made["settings"]["engines"] == ["openvino f32"]
    assert (
        len(made["input"]["sha256"]) == len(made["models"][0]["sha256"]) == len(said["labels_sha256"]) == 64
    )


def test_the_page_says_how_the_model_ran(scan: Path, model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "a_seg.nii.gz"
    done("predict", scan, "-m", model_path, "-o", out, "--report", "--scales", "1,0.9", "--tta", "-q")
    (page,) = tmp_path.glob("*.html")
    told = page.read_text("utf-8")
    for words in (">Scales<", ">1, 0.9<", ">Mirroring (tta)<"):
        assert words in told


def test_the_names_of_a_result_are_known_to_the_report_and_the_evaluation(
    scan: Path, model_path: Path
) -> None:
    done("predict", scan, "-m", model_path, "-q")
    done("report", scan.parent / "scan_seg.nii.gz", scan)
    page = (scan.parent / "scan_report.html").read_text()
    assert all(name in page for name in STRUCTURES.names)


@pytest.mark.fault("reliability 76")
def test_row_76_nothing_of_the_patient_reaches_a_result(tmp_path: Path, model_path: Path) -> None:
    folder = tmp_path / "in" / f"{CANARY}-folder"
    folder.mkdir(parents=True)
    image = nib.load(write(tmp_path / "a.nii.gz"))
    for key in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[key] = CANARY.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{CANARY} 1970".encode()))
    nib.save(image, folder / "scan.nii.gz")
    tags = {0x00100010: ("PN", CANARY), 0x00100020: ("LO", CANARY), 0x0008103E: ("LO", CANARY)}
    uid = "1.2.826.0.1.3680043.2.1125.77"
    write_dicom(folder / "series", 8, size=(12, 10), tags=tags, uid=uid)
    out = tmp_path / "out"
    for words in ((folder / "scan.nii.gz",), (folder / "series", "--series", uid)):
        ran = done("predict", *words, "-m", model_path, "-o", out, "--report", "--probabilities", "--json")
        assert CANARY not in ran.err.replace(str(folder), "")
    content = everything([out])
    assert len(names(out)) == 12
    for secret in (CANARY, str(tmp_path), uid):
        assert secret.encode() not in content


@pytest.mark.fault("reliability 73")
@pytest.mark.fault("reliability 75")
def test_rows_73_and_75_a_case_with_a_hostile_name(tmp_path: Path, model_path: Path) -> None:
    name = "<script>alert(1)<" + "\x1b[2J\n;rm -x"
    scan = write(tmp_path / f"{name}.nii.gz")
    ran = done("predict", scan, "-m", model_path, "--report")
    page = (tmp_path / f"{name}_report.html").read_text()
    assert "<script>alert" not in page
    assert page.count("<script") == 1  # the viewer's own
    assert "&lt;script&gt;alert(1)&lt;" in page
    findings = json.loads((tmp_path / f"{name}_seg.json").read_text())["findings"]
    assert findings
    assert all(f": {escape(finding['sentence'])}</li>" in page for finding in findings)
    (listed,) = re.findall(r'<ul class="flags">(.*?)</ul>', page, re.DOTALL)
    assert listed.count("<li ") == len(findings)
    for text in (ran.out, ran.err, page):
        assert "\x1b" not in text


@pytest.mark.fault("reliability 64")
def test_row_64_names_like_options_and_names_that_are_no_text(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "-x.nii.gz")
    done("predict", "-m", model_path, "--", "-x.nii.gz")
    strange = tmp_path / "caf\udce9.nii.gz"
    shutil.copy(tmp_path / "-x.nii.gz", strange)
    done("predict", strange, "-m", model_path, "--json")
    assert len(names(tmp_path)) == 6


# Faults of files, through the command line


@pytest.mark.fault("reliability 20")
def test_row_20_two_forms_need_a_choice(tmp_path: Path, model_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz", qoffset_x=55.0)
    assert "--use-form" in refused(4, "predict", scan, "-m", model_path)
    for form in ("sform", "qform"):
        out = tmp_path / f"{form}.nii.gz"
        words = ("predict", scan, "-m", model_path, "--use-form", form)
        done(*words, "-o", out, "-q", "--probabilities")
        assert f"the {form} was used, as requested" in refused(
            3, *words, "-o", tmp_path / "no.nii", "--strict"
        )
        chosen = getattr(nib.load(scan).header, f"get_{form}")()
        for path in (out, *tmp_path.glob(f"{form}_prob-*.nii.gz")):
            for stored in (nib.load(path).header.get_sform(), nib.load(path).header.get_qform()):
                np.testing.assert_allclose(stored, chosen, atol=1e-4)
    assert "must be sform or qform, not 'both'" in refused(
        2, "predict", scan, "-m", model_path, "--use-form", "both"
    )


@pytest.mark.fault("reliability 21")
def test_row_21_no_orientation_needs_a_word(tmp_path: Path, model_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz", sform_code=0, qform_code=0)
    assert "--assume-ras" in refused(4, "predict", scan, "-m", model_path)
    ran = done("predict", scan, "-m", model_path, "--assume-ras")
    assert "warning: scan: " in ran.err
    assert summary(tmp_path / "scan_seg.json")["warnings"]


@pytest.mark.fault("reliability 32")
def test_row_32_numbers_that_are_none_need_a_value(tmp_path: Path, model_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz")
    image = nib.load(scan)
    array = image.get_fdata(dtype=np.float32)
    array[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(array, image.affine), scan)
    assert "--fill-nan" in refused(3, "predict", scan, "-m", model_path)
    ran = done("predict", scan, "-m", model_path, "--fill-nan", "0")
    assert "warning: scan: " in ran.err
    for value in ("nan", "inf", "1e60"):
        refused(2, "predict", scan, "-m", model_path, "--fill-nan", value, "--overwrite")


@pytest.mark.fault("reliability 42")
def test_row_42_nothing_found_is_a_doubt_and_with_strict_an_error(tmp_path: Path, scan: Path) -> None:
    tiny_model(background=1e4).save(tmp_path / "blind.safetensors")
    before = tree(tmp_path)
    line = refused(3, "predict", scan, "-m", tmp_path / "blind.safetensors", "--strict")
    assert "labelled no voxel" in line
    assert tree(tmp_path) == before
    ran = done("predict", scan, "-m", tmp_path / "blind.safetensors", "--report")
    assert "doubtful: scan: The model labelled no voxels" in ran.err
    assert (tmp_path / "scan_report.html").read_text().count("labelled no voxel") == 1
    assert summary(tmp_path / "scan_seg.json")["quality"]["flag"] == "doubtful"


@pytest.mark.parametrize(
    "writer",
    ["prediction.job.write_image", "prediction.job.write_labels", "segmentation.prediction.write_text"],
)
@pytest.mark.fault("reliability 79")
def test_row_79_a_full_disk_leaves_nothing_half_done(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    from medseg.core.errors import ResourceError

    calls = []

    def full(path: Path, *_: object, **__: object) -> None:
        calls.append(path)
        raise ResourceError("the disk is full", source=path)

    monkeypatch.setattr(f"medseg.{writer}", full)
    before = tree(scan.parent)
    page = ("--report",) if writer.endswith("text") else ()
    line = refused(6, "predict", scan, "-m", model_path, "--probabilities", *page)
    assert "the disk is full" in line
    assert len(calls) == 1
    assert tree(scan.parent) == before


@pytest.mark.parametrize(
    "more", [(), pytest.param(("--probabilities", "--report"), marks=pytest.mark.slow)], ids=["labels", "all"]
)
@pytest.mark.fault("reliability 79")
def test_a_disk_that_fills_at_any_step_leaves_all_as_it_was(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """The k-th sync or renaming fails for each k there is, until all have succeeded."""
    words = ("predict", scan, "-m", model_path, "-q", "--overwrite", *more)
    done(*words)
    before, left = tree(scan.parent), 0

    def failing(plain: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object, **more: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            plain(*arguments, **more)

        return step

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    for steps in range(200):
        left = steps
        ran = medseg(*words)
        if ran.code == 0:
            break
        assert (ran.code, len(ran.err.splitlines())) == (6, 1), ran
        assert tree(scan.parent).keys() == before.keys()
    assert 4 <= steps < 100


@pytest.mark.fault("reliability 41")
def test_row_41_logits_that_are_no_numbers(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.inference.engines.openvino import OpenVinoEngine

    honest = OpenVinoEngine.__call__
    monkeypatch.setattr(
        OpenVinoEngine, "__call__", lambda self, tiles: honest(self, tiles) * np.float32("nan")
    )
    before = tree(scan.parent)
    assert "not finite" in refused(8, "predict", scan, "-m", model_path)
    assert tree(scan.parent) == before


@pytest.mark.fault("reliability 31")
def test_row_31_what_was_written_wrongly_is_removed(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.io.nifti import file as nifti

    honest = nifti.write
    monkeypatch.setattr(nifti, "write", lambda path, array, *rest: honest(path, array[::-1], *rest))
    before = tree(scan.parent)
    refused(8, "predict", scan, "-m", model_path)
    assert tree(scan.parent) == before


# Apart: imports and the network


@pytest.mark.fault("reliability 78")
def test_a_prediction_needs_no_torch_no_network_and_leaves_nothing_at_home(
    scan: Path, model_path: Path, tmp_path: Path
) -> None:
    found: Apart = apart(tmp_path, "predict", scan, "-m", model_path, "--report", "--probabilities")
    assert found.ran.code == 0, found.ran.err
    assert "openvino" in found.modules
    assert not found.modules & TORCH
    assert not found.connected
    assert not list((tmp_path / "home").rglob("*"))


@pytest.mark.realdata
def test_a_real_patients_name_stays_in_the_scan(data_root: Path, model_path: Path, tmp_path: Path) -> None:
    series = data_root / "dicom" / "hippocampus_crop"
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(next(path for path in sorted(series.iterdir()) if path.suffix == ".dcm")))
    reader.ReadImageInformation()
    tags = ("0010|0010", "0010|0020", "0010|0030", "0020|000d", "0020|000e")
    secrets = {reader.GetMetaData(tag).strip() for tag in tags if reader.HasMetaDataKey(tag)}
    secrets |= {word for secret in secrets for word in secret.split("^") if not word.isdigit()}
    done("predict", series, "-m", model_path, "-o", tmp_path, "--report", "--probabilities")
    content = everything([tmp_path])
    assert len(secrets) >= 4
    assert not [secret for secret in secrets if len(secret) > 3 and secret.encode() in content]


def test_timing_says_what_each_step_took(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(18, 20, 16))
    ran = done("predict", tmp_path / "scan.nii.gz", "-m", tmp_path / "m.safetensors", "-q", "--timing")
    lines = dict(line.split()[:2] for line in ran.err.splitlines())
    steps = ("start", "read", "prepare", "engine", "tiles", "restore", "check", "write", "total")
    assert set(steps) <= set(lines)
    summary = json.loads((tmp_path / "scan_seg.json").read_text())
    assert sum(summary["timing_s"].values()) <= summary["seconds"] + 0.02
    assert summary["peak_memory_bytes"] > 10**7


def test_a_dry_run_says_how_and_writes_nothing(bank: Path, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    scan = Path(shutil.copy(bank, tmp_path))
    before = tree(tmp_path)
    ran = done("predict", scan, "-m", tmp_path / "m.safetensors", "--dry-run", "--json")
    (plan,) = ran.json()
    assert plan["grid"]["shape"] == list(SHAPE)
    assert plan["plans"][0]["tiles"] == 1
    assert plan["plans"][0]["redundancy"] >= 1
    assert plan["memory_bytes"] > 10**7
    assert plan["engine_seconds"] >= 0
    assert "1" in done("predict", scan, "-m", tmp_path / "m.safetensors", "--dry-run").out
    assert tree(tmp_path) == before


@pytest.mark.fault("reliability 40")
def test_a_memory_limit_that_cannot_be_kept_is_refused_before_work(bank: Path, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    scan = Path(shutil.copy(bank, tmp_path))
    before = tree(tmp_path)
    assert "GiB" in refused(6, "predict", scan, "-m", tmp_path / "m.safetensors", "--max-memory", "10M", "-q")
    assert tree(tmp_path) == before
    refused(2, "predict", scan, "-m", tmp_path / "m.safetensors", "--max-memory", "lots")
    done("predict", scan, "-m", tmp_path / "m.safetensors", "--max-memory", "8G", "-q")


def test_shards_share_a_folder_out(bank: Path, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    for name in "abcde":
        (tmp_path / "scans").mkdir(exist_ok=True)
        shutil.copy(bank, tmp_path / "scans" / f"{name}.nii.gz")
    words = (
        "predict",
        tmp_path / "scans",
        "-m",
        tmp_path / "m.safetensors",
        "-o",
        f"{tmp_path / 'out'}/",
        "-q",
    )
    written = []
    for part in (1, 2):
        done(*words, "--shard", f"{part}/2")
        written.append({n for n in names(tmp_path / "out") if n.endswith(".nii.gz")})
    assert written[0] == {f"{name}_seg.nii.gz" for name in "ace"}
    assert written[1] == {f"{name}_seg.nii.gz" for name in "abcde"}
    for wrong in ("0/2", "3/2", "1", "a/b"):
        refused(2, *words, "--shard", wrong)
