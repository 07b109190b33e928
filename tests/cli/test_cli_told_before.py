"""What `medseg predict` says before it computes: faults a dry run sees, names, what was left aside."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, names, refused
from dicom_files import Frame, ct_slices, enhanced
from io_files import edit, write_dicom
from models import tiny_model

from medseg.data.phantom import write_phantom_scan
from medseg.findings.finding import NO_DOUBT
from medseg.io import inspect, read_volume
from medseg.segmentation.segmenter import Segmenter

SHAPE = (20, 24, 18)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE)
    return path


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pair") / "pair.safetensors"
    tiny_model(3, channels=("t1", "t2")).save(path)
    return path


@pytest.fixture
def scan(bank: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(bank, tmp_path / "scan.nii.gz"))


def refused_both_ways(code: int, *words: object) -> str:
    """What a real run and a dry run refuse in the same words, before a network runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "__call__", lambda *_, **__: pytest.fail("a network ran"))
        lines = {refused(code, *words, *more) for more in ((), ("--dry-run",))}
    (line,) = lines
    return line


# A dry run sees what the run refuses


def test_a_dry_run_refuses_dicom_of_a_nifti(scan: Path, model_path: Path) -> None:
    line = refused_both_ways(2, "predict", scan, "-m", model_path, "--dicom")
    assert "only for a DICOM series" in line


def test_a_dry_run_refuses_channels_that_do_not_fit(scan: Path, model_path: Path, pair_model: Path) -> None:
    other = Path(shutil.copy(scan, scan.parent / "other.nii.gz"))
    assert "takes the channels t1, t2" in refused_both_ways(3, "predict", scan, "-m", pair_model)
    line = refused_both_ways(3, "predict", f"t1={scan}", f"t3={other}", "-m", pair_model)
    assert "takes the channels t1, t2, but the scan has t1, t3" in line
    assert "takes the channel image" in refused_both_ways(3, "predict", f"t1={scan}", "-m", model_path)
    edit(other, srow_x__3=7.0, qoffset_x=7.0)
    assert "different grids" in refused_both_ways(4, "predict", f"t1={scan}", f"t2={other}", "-m", pair_model)


def test_a_dry_run_refuses_a_4d_file_without_names(scan: Path, model_path: Path, pair_model: Path) -> None:
    image = nib.load(scan)
    both = np.stack([image.get_fdata(dtype=np.float32)] * 2, axis=-1)
    nib.save(nib.Nifti1Image(both, image.affine), scan)
    words = ("predict", scan, "-m", model_path)
    assert "--volume 0 to 1" in refused_both_ways(3, *words)
    assert "volumes 0 to 1, not 2" in refused_both_ways(3, *words, "--volume", 2)
    assert "holds 2 channels, and 3 are needed" in refused_both_ways(
        3, "predict", scan, "-m", pair_model, "--channels", "a,b,c"
    )
    done(*words, "--dry-run", "--volume", 1)
    done("predict", scan, "-m", pair_model, "--channels", "t1,t2", "--dry-run")


def test_a_dry_run_refuses_places_that_are_taken_or_make_no_sense(scan: Path, model_path: Path) -> None:
    folder = scan.parent
    (folder / "scan_prob-core.nii.gz").write_text("mine")
    words = ("predict", scan, "-m", model_path)
    assert "exists already" in refused_both_ways(2, *words, "--probabilities")
    assert "replace an input" in refused_both_ways(2, *words, "-o", scan)
    (folder / "scans").mkdir()
    shutil.copy(scan, folder / "scans" / "a.nii.gz")
    assert "need a folder" in refused_both_ways(2, "predict", folder / "scans", "-m", model_path)
    assert "several cases" in refused_both_ways(
        2, "predict", folder / "scans", "-m", model_path, "-o", folder / "out", "--report", folder / "x.pdf"
    )
    assert "--scheduler" in refused_both_ways(2, *words, "--scheduler", "tcp://localhost:1")


def test_a_dry_run_refuses_what_the_header_shows(scan: Path, tmp_path: Path, model_path: Path) -> None:
    edit(scan, qoffset_x=55.0)
    assert "--use-form" in refused_both_ways(4, "predict", scan, "-m", model_path)
    coarse = tiny_model(evidence={"spacing_mm": {"min": [9.0] * 3, "max": [9.0] * 3}})
    coarse.save(tmp_path / "coarse.safetensors")
    line = refused_both_ways(4, "predict", scan, "--use-form", "sform", "-m", tmp_path / "coarse.safetensors")
    assert "tiny-0 was trained on 9 to 9" in line
    assert str(scan) in line


def test_a_dry_run_of_a_folder_tells_each_bad_case_and_plans_the_others(
    scan: Path, tmp_path: Path, model_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        shutil.copy(scan, tmp_path / "in" / f"{name}.nii.gz")
    edit(tmp_path / "in" / "b.nii.gz", qoffset_x=55.0)
    words = ("predict", tmp_path / "in", "-m", model_path, "-o", tmp_path / "out")
    ran = medseg(*words, "--dry-run", "--json")
    assert [plan["case"] for plan in ran.json()] == ["a"]
    assert "[2/2] failed: " in ran.err
    assert "1 of 2 cases failed: b" in ran.err.splitlines()[-1]
    assert ran.code == 7
    assert not (tmp_path / "out").exists()
    assert medseg(*words).code == 7
    ran = medseg(*words, "--dry-run", "--json")
    assert ran.json() == []
    assert "a_seg.nii.gz exists already" in ran.err


# Names


@pytest.mark.parametrize("name", ["x5.txt", "x5.dcm", "x5.nii.tgz"])
def test_a_file_of_no_known_format_is_no_folder(scan: Path, model_path: Path, name: str) -> None:
    line = refused_both_ways(2, "predict", scan, "-m", model_path, "-o", scan.parent / name)
    assert f"{Path(name).suffix} is not a format for label maps" in line
    assert ".nii.gz" in line
    assert "create the folder first" in line
    assert names(scan.parent) == {"scan.nii.gz"}


def test_a_folder_with_a_dot_in_its_name_is_one(scan: Path, model_path: Path) -> None:
    (scan.parent / "x.txt").mkdir()
    done("predict", scan, "-m", model_path, "-o", scan.parent / "x.txt", "-q")
    done("predict", scan, "-m", model_path, "-o", scan.parent / "study_1.2", "-q")
    assert (scan.parent / "x.txt" / "scan_seg.nii.gz").is_file()
    assert (scan.parent / "study_1.2" / "scan_seg.nii.gz").is_file()


@pytest.mark.parametrize("name", ["x.png", "x.txt", "x"])
def test_a_report_of_another_format_is_told_which_there_are(
    scan: Path, model_path: Path, tmp_path: Path, name: str
) -> None:
    option = (f"--report={tmp_path / name}",) if name == "x" else ("--report", tmp_path / name)
    line = refused(2, "predict", scan, "-m", model_path, *option)
    assert line.endswith("; name it x.html or x.pdf")
    assert ".html or .pdf" in line
    if name != "x":
        assert ".html or .pdf" in refused(2, "report", scan, scan, "-o", tmp_path / name)
        assert ".html" in refused(2, "evaluate", scan, scan, "--report", tmp_path / name)


# What was left aside


def aside(words: Sequence[object], model_path: Path) -> str:
    """The one line on what was left aside, of a run that is strict."""
    ran = done("predict", *words, "-m", model_path, "--dry-run")
    (line,) = [line for line in ran.err.splitlines() if line.startswith("ignored in")] or [""]
    return line


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_files_that_are_no_scans_by_their_names_are_no_warning(tmp_path: Path, content: bytes) -> None:
    ct_slices(tmp_path / "s")
    for name in ("README.txt", "Thumbs.db", ".DS_Store", "s.json", "LICENSE", "desktop.ini"):
        (tmp_path / "s" / name).write_bytes(content)
    assert read_volume(tmp_path / "s").warnings == ()
    assert inspect(tmp_path / "s").shape[2] == 6
    (tmp_path / "s" / "IM7").write_bytes(b"other")
    assert read_volume(tmp_path / "s").warnings == ("Left aside in the folder: 1 file (1 not DICOM).",)


def test_a_series_with_other_things_says_what_was_left_aside(tmp_path: Path, model_path: Path) -> None:
    series = tmp_path / "series"
    write_dicom(series, 8, size=(12, 10))
    assert aside([series], model_path) == ""
    for name in ("README.txt", "Thumbs.db"):
        (series / name).touch()
    (series / "old").mkdir()
    (series / ".hidden").mkdir()
    assert aside([series], model_path) == (
        "ignored in series: 2 files (README.txt and Thumbs.db) and 1 folder (old)"
    )


def test_a_folder_of_scans_says_what_was_left_aside(scan: Path, tmp_path: Path, model_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_dicom(folder / "series", 8, size=(12, 10))
    shutil.copy(scan, folder / "a.nii.gz")
    nib.save(nib.Nifti1Pair.from_image(nib.load(scan)), folder / "b.hdr")
    words = [folder, "-o", tmp_path / "out"]
    assert aside(words, model_path) == ""
    (folder / "empty").mkdir()
    (folder / "a.json").write_text("{}")
    for name in ("a_seg.json", "a_report.html", "a_seg.nii.gz"):
        (folder / name).write_text("{}")
    assert aside(words, model_path) == "ignored in in: 1 file (a.json) and 1 folder (empty)"
    for n in range(9):
        (folder / f"n{n}.txt").touch()
    assert "10 files (a.json, n0.txt, n1.txt and 7 more) and 1 folder" in aside(words, model_path)


# The verdict


def test_a_result_that_nothing_speaks_against_says_so(
    scan: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.segmentation import segmenter as segment
    from medseg.segmentation.verdict import Quality

    monkeypatch.setattr(segment, "assess", lambda *_: Quality())
    ran = done("predict", scan, "-m", model_path, "--report")
    assert f"ok: scan: {NO_DOUBT}" in ran.err.splitlines()
    assert NO_DOUBT in (scan.parent / "scan_report.html").read_text()
    assert "ok:" not in done("predict", scan, "-m", model_path, "--overwrite", "-q").err


def test_a_doubtful_result_is_never_called_ok(scan: Path, tmp_path: Path) -> None:
    tiny_model(background=1e4).save(tmp_path / "blind.safetensors")
    assert "ok:" not in done("predict", scan, "-m", tmp_path / "blind.safetensors").err


# DICOM out of what is no series of slices


def test_dicom_of_a_file_of_frames_says_what_it_is(tmp_path: Path, model_path: Path) -> None:
    enhanced(tmp_path / "frames.dcm", [Frame(2.0 * n) for n in range(8)])
    line = refused_both_ways(2, "predict", tmp_path / "frames.dcm", "-m", model_path, "--dicom")
    assert "this is Enhanced DICOM" in line


def test_dicom_of_a_mosaic_says_what_it_is(tmp_path: Path, model_path: Path) -> None:
    from medseg.core.volume import FileForm, Grid
    from medseg.io.dicom.source import require_slices
    from medseg.io.options import ImageInfo

    info = ImageInfo(
        tmp_path / "m.dcm", "DICOM mosaic", Grid((4, 4, 4), np.eye(4)), 1, "", 1.0, 0.0, FileForm()
    )
    with pytest.raises(Exception, match="many slices tiled in one picture") as fault:
        require_slices(info)
    assert "leave out --dicom" in str(fault.value)
