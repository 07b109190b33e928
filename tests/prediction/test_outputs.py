"""The files of one prediction: their names, when they may be written, all or none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
from io_files import save

from medseg.core.errors import ResourceError, UsageError
from medseg.io import digest_of_files, files_of
from medseg.io.atomic import require_writable
from medseg.prediction.outputs import Outputs
from medseg.segmentation.prediction import SCHEMA, PredictionSummary, Provenance, ScanIdentity, Software


def test_everything_is_called_after_the_labels() -> None:
    out = Outputs.of(Path("o/scan_seg.mha"), ["left lobe"], report=True)
    assert [str(p) for p in out.paths] == [
        "o/scan_prob-left-lobe.mha", "o/scan_report.html", "o/scan_seg.mha", "o/scan_seg.json",
    ]  # fmt: skip
    assert out.case == "scan"
    assert Outputs.of(Path("exactly.nii.gz")).summary == Path("exactly.json")


def test_fractions_lie_in_a_format_that_holds_them_and_a_png_has_an_overlay() -> None:
    out = Outputs.of(Path("o/scan.seg.nrrd"), ["x"])
    assert [p.name for p in out.paths] == ["scan_prob-x.nrrd", "scan.seg.nrrd", "scan.json"]
    out = Outputs.of(Path("o/scan_seg.png"), ["x"], report=True)
    assert [p.name for p in out.paths] == [
        "scan_prob-x.tif", "scan_report.html", "scan_overlay.png", "scan_seg.png", "scan_seg.json",
    ]  # fmt: skip


def test_two_structures_never_share_a_file() -> None:
    with pytest.raises(UsageError, match="same probability file"):
        Outputs.of(Path("a_seg.nii"), ["a b", "a-b"]).refuse_existing(False, ())


@pytest.mark.parametrize("name", ["a_seg.nii", "a_report.html", "a_prob-x.nii", "a_seg.json"])
def test_no_file_that_exists_is_replaced_unasked(tmp_path: Path, name: str) -> None:
    out = Outputs.of(tmp_path / "a_seg.nii", ["x"], report=True)
    out.refuse_existing(False, ())
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="exists already"):
        out.refuse_existing(False, ())
    out.refuse_existing(True, ())
    with pytest.raises(UsageError, match="replace an input"):
        out.refuse_existing(True, [tmp_path / name])


def test_a_summary_of_ours_without_labels_may_be_replaced(tmp_path: Path) -> None:
    out = Outputs.of(tmp_path / "a_seg.nii")
    out.summary.write_text(json.dumps({"schema": SCHEMA}))
    out.refuse_existing(False, ())
    out.labels.write_bytes(b"labels")
    with pytest.raises(UsageError, match="exists already"):
        out.refuse_existing(False, ())


def test_a_result_is_finished_when_all_of_it_stands_and_nothing_changed(tmp_path: Path) -> None:
    out = Outputs.of(tmp_path / "a_seg.nii", report=True)
    identity = Provenance(ScanIdentity("abc", ("T1",)), software=Software("medseg", "1"))
    assert out.finished(identity) is None
    out.labels.write_bytes(b"labels")
    stored = PredictionSummary(labels_sha256=digest_of_files([out.labels]), provenance=identity)
    stored.write(out.summary)
    assert out.finished(identity) is None, "the report is wanted, and missing"
    assert Outputs.of(out.labels).finished(identity) == stored
    assert Outputs.of(out.labels).finished(replace(identity, input=ScanIdentity("abd", ("T1",)))) is None
    out.labels.write_bytes(b"corrected by hand")
    assert Outputs.of(out.labels).finished(identity) is None
    for text in ("", "[]", "{}", '{"schema": "other/1"}', f'{{"schema": "{SCHEMA}", "provenance": 3}}'):
        out.summary.write_text(text)
        assert Outputs.of(out.labels).finished(identity) is None


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt])
def test_a_failure_takes_back_what_was_new_and_leaves_what_was_old(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    out = Outputs.of(tmp_path / "a_seg.hdr", ["x"], report=True)
    assert out.report
    out.report.write_text("old")

    def write() -> None:
        save(out.probabilities["x"], kind=nib.Nifti1Pair)
        save(out.labels, kind=nib.Nifti1Pair)
        out.report.write_text("new")
        raise fault

    with pytest.raises(fault), out.all_or_none():
        write()
    assert {p.name for p in tmp_path.iterdir()} == {"a_report.html"}


@pytest.mark.fault("reliability 81")
def test_places_that_cannot_be_written_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "new" / "deep" / "a_seg.nii")
    with pytest.raises(UsageError, match="not a folder"):
        require_writable(tmp_path / "file" / "a_seg.nii")
    monkeypatch.setattr("os.access", lambda *_: False)  # a superuser may write anywhere
    with pytest.raises(ResourceError, match="cannot be written"):
        require_writable(tmp_path / "new" / "a_seg.nii")


def test_a_digest_covers_the_voxels_of_a_pair(tmp_path: Path) -> None:
    save(tmp_path / "a.hdr", kind=nib.Nifti1Pair)
    before = digest_of_files(files_of(tmp_path / "a.hdr"))
    with (tmp_path / "a.img").open("r+b") as voxels:
        voxels.write(b"\xff")
    assert digest_of_files(files_of(tmp_path / "a.hdr")) != before


def test_the_digest_of_a_file_is_what_any_program_says(tmp_path: Path) -> None:
    for name, content in (("a", b"abc"), ("b", b"")):
        (tmp_path / name).write_bytes(content)
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_files([tmp_path / "a"]) == known
    assert (
        digest_of_files([tmp_path / "a", tmp_path / "b"])
        != digest_of_files([tmp_path / "b", tmp_path / "a"])
        != known
    )
