"""DICOM results that lie away from their series: measured and shown where the series is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import done, refused
from io_files import write_dicom
from models import tiny_model

pytest.importorskip("highdicom")

FRAME_OF_REFERENCE = {0x00200052: ("UI", "1.2.826.0.1.3680043.2.1125.99")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of the results of a series, and the folder in which the folder of that series lies."""
    folder = tmp_path_factory.mktemp("dicom")
    tiny_model(1).save(folder / "tiny.safetensors")
    (folder / "scans").mkdir()
    write_dicom(folder / "scans" / "one", 24, size=(32, 32), tags=FRAME_OF_REFERENCE)
    out = folder / "far" / "away" / "results"
    out.mkdir(parents=True)
    words = ("-m", folder / "tiny.safetensors", "-o", out / "one_seg.nii.gz", "--dicom")
    done("predict", folder / "scans" / "one", *words)
    return out, folder / "scans"


@pytest.mark.parametrize("role", ["seg", "rtstruct"])
def test_a_result_is_measured_where_its_series_is_named(results: tuple[Path, Path], role: str) -> None:
    out, scans = results
    pair = ("evaluate", out / f"one_{role}.dcm", out / "one_seg.nii.gz", "--no-surface")
    line = refused(3, *pair)
    assert "whose series is not beside it" in line
    assert line.endswith(
        "name the folder of the series on which it was drawn with --series-in, or put it there"
    )
    ran = done(*pair, "--series-in", scans, "--json")
    content = ran.json()
    named = json.loads((out / "one_seg.json").read_text())["structures"]
    assert isinstance(content, dict)
    rows = content["cases"][0]["structures"]
    assert [row["name"] for row in rows] == [row["name"] for row in named]
    assert {row["metrics"]["dice"] for row in rows} - {None} == {1.0}
    assert str(scans) not in ran.out
    assert "is not the one that its sidecar describes" not in ran.err
    assert "nor in results" in refused(3, *pair, "--series-in", out)
    assert "there is no such folder" in refused(3, *pair, "--series-in", out / "none")
    done("compare", *pair[1:], "--series-in", scans / "one")


@pytest.mark.parametrize("role", ["seg", "rtstruct"])
def test_a_page_takes_the_series_for_that_of_its_segmentation(
    results: tuple[Path, Path], tmp_path: Path, role: str
) -> None:
    out, scans = results
    page = tmp_path / "page.html"
    done("report", out / f"one_{role}.dcm", scans / "one", "-o", page)
    assert "is not the one that its sidecar describes" not in page.read_text()
    for row in json.loads((out / "one_seg.json").read_text())["structures"]:
        assert row["name"] in page.read_text()


def test_a_structure_set_alone_has_the_names_that_it_states(
    results: tuple[Path, Path], tmp_path: Path
) -> None:
    out, scans = results
    for name in ("a", "b"):
        shutil.copy(out / "one_rtstruct.dcm", tmp_path / f"{name}.dcm")
    ran = done("evaluate", tmp_path / "a.dcm", tmp_path / "b.dcm", "--series-in", scans, "--no-surface")
    held = [row for row in json.loads((out / "one_seg.json").read_text())["structures"] if row["voxels"]]
    assert held
    for row in held:
        assert f"{row['name']} " in ran.out


@pytest.mark.parametrize("role", ["seg", "rtstruct"])
def test_folders_of_dicom_labels_are_paired_by_name(
    results: tuple[Path, Path], tmp_path: Path, role: str
) -> None:
    out, scans = results
    for folder in ("pred", "ref"):
        (tmp_path / folder).mkdir()
    shutil.copy(out / f"one_{role}.dcm", tmp_path / "ref" / "one.dcm")
    for name in ("one_seg.nii.gz", "one_seg.json", "one_rtstruct.dcm", "one_seg.dcm", "one_sr.dcm"):
        shutil.copy(out / name, tmp_path / "pred")
    words = ("evaluate", tmp_path / "pred", tmp_path / "ref", "--series-in", scans, "--no-surface", "--json")
    for more in ("one_seg.nii.gz", "one_seg.dcm", "one_rtstruct.dcm"):
        content = done(*words).json()
        assert isinstance(content, dict)
        (case,) = content["cases"]
        assert case["case_id"] == "one"
        assert {row["metrics"]["dice"] for row in case["structures"]} - {None} == {1.0}
        (tmp_path / "pred" / more).unlink()
    assert "none of the 1 reference has a prediction in pred; name" in refused(2, *words)
