"""A BIDS data set: its scans are found, and the results are a derivative of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import done, refused
from io_files import write_dicom

from medseg import io
from medseg.data.phantom import STRUCTURES, write_phantom_scan

SHAPE = (20, 24, 18)
SCANS = (
    "sub-01/anat/sub-01_T1w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
    "sub-02/ses-b/anat/sub-02_ses-b_FLAIR.nii",
    "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz",
)
RESULTS = (
    "sub-01/anat/sub-01_dseg",
    "sub-02/ses-a/anat/sub-02_ses-a_dseg",
    "sub-02/ses-b/anat/sub-02_ses-b_desc-FLAIR_dseg",
    "sub-02/ses-b/anat/sub-02_ses-b_desc-T1w_dseg",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small data set, with files that are no anatomical scans."""
    root = tmp_path / "study"
    for n, name in enumerate(SCANS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_phantom_scan(root / name, seed=n, shape=SHAPE)
    (root / "dataset_description.json").write_text('{"Name": "study", "BIDSVersion": "1.8.0"}')
    (root / "participants.tsv").write_text("participant_id\n")
    (root / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    (root / "sub-01/func").mkdir()
    others = ("sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-01/anat/sub-01_T1w_defacemask.nii.gz")
    for other in others:
        write_phantom_scan(root / other, seed=9, shape=SHAPE)
    (root / "derivatives/other/sub-01/anat").mkdir(parents=True)
    write_phantom_scan(root / "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz", seed=9, shape=SHAPE)
    return root


@pytest.mark.fault("reports 14")
def test_the_anatomical_scans_of_a_root_are_found(root: Path, model_path: Path, tmp_path: Path) -> None:
    ran = done("predict", root, "-m", model_path, "-o", tmp_path / "out")
    assert "study is read as a BIDS dataset: 4 scans" in ran.err
    found = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    assert found == {Path(name).name.replace(".nii", "_seg.nii") for name in SCANS}


def test_a_dicom_file_beside_the_description_does_not_make_a_root_a_series(
    root: Path, model_path: Path, tmp_path: Path
) -> None:
    write_dicom(root, 2)
    ran = done("predict", root, "--bids", "-m", model_path, "-o", tmp_path / "out")
    assert "study is read as a BIDS dataset: 4 scans" in ran.err
    assert (tmp_path / "out" / f"{RESULTS[0]}.tsv").is_file()


@pytest.mark.fault("reports 14")
def test_the_results_are_a_derivative(root: Path, model_path: Path) -> None:
    before = {path for path in root.rglob("*") if path.is_file()}
    done("predict", root, "--bids", "-m", model_path, "-q")
    out = root / "derivatives" / "medseg"
    meant = {f"{name}.{kind}" for name in RESULTS for kind in ("json", "tsv")}
    meant |= {name + (".nii" if "FLAIR" in name else ".nii.gz") for name in RESULTS}
    new = {path for path in root.rglob("*") if path.is_file()} - before
    assert {str(path.relative_to(out)) for path in new} == meant | {"dataset_description.json"}
    described = json.loads((out / "dataset_description.json").read_text())
    assert (described["DatasetType"], described["BIDSVersion"]) == ("derivative", "1.8.0")
    assert described["GeneratedBy"][0]["Name"] == "medseg"
    lines = [line.split("\t") for line in (out / f"{RESULTS[0]}.tsv").read_text().splitlines()]
    assert lines[:2] == [["index", "name", "color"], ["0", "background", "#000000"]]
    assert lines[2:] == [[str(s.value), s.name, s.colour] for s in STRUCTURES]
    for scan, result in zip(SCANS, RESULTS, strict=True):
        labels = out / (result + (".nii" if scan.endswith(".nii") else ".nii.gz"))
        assert io.inspect(labels).grid.matches(io.inspect(root / scan).grid)


@pytest.mark.fault("reports 14")
def test_a_derivative_is_gone_on_with(root: Path, model_path: Path) -> None:
    done("predict", root, "--bids", "-m", model_path, "-q")
    ran = done("predict", root, "--bids", "-m", model_path)
    assert ran.err.count("exists already") == len(SCANS)
    (root / "derivatives/medseg" / f"{RESULTS[0]}.tsv").unlink()
    assert done("predict", root, "--bids", "-m", model_path, "--overwrite").err.count("exists already") == 3


@pytest.mark.fault("reports 14")
def test_a_folder_that_is_no_root_has_no_derivative(root: Path, model_path: Path) -> None:
    line = refused(2, "predict", root / SCANS[0], "--bids", "-m", model_path)
    assert "root folder of one BIDS dataset" in line
    for name in SCANS:
        (root / name).unlink()
    assert "contains no anatomical scan" in refused(3, "predict", root, "-m", model_path)


@pytest.mark.fault("reports 14")
def test_a_result_that_could_be_of_several_scans_is_not_left_beside_them(
    root: Path, model_path: Path
) -> None:
    done("predict", root, "--bids", "-m", model_path, "-q")
    write_phantom_scan(root / "sub-01/anat/sub-01_FLAIR.nii.gz", seed=7, shape=SHAPE)
    line = refused(2, "predict", root, "--bids", "-m", model_path, "-q")
    assert "sub-01_dseg.nii.gz: does not state which of the subject's scans it belongs to" in line


@pytest.mark.fault("reports 14")
def test_a_data_set_without_description_is_told_what_it_lacks(root: Path, model_path: Path) -> None:
    (root / "dataset_description.json").unlink()
    line = refused(3, "predict", root, "-m", model_path, "-o", root.parent / "out")
    assert "add dataset_description.json, which marks a BIDS dataset" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("[]", "is not a JSON object"),
        ('{"Name": "study"}', "states no BIDSVersion; add"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--bids",)])
def test_a_description_that_cannot_be_read_is_named(
    root: Path, model_path: Path, tmp_path: Path, text: str, said: str, more: tuple[str, ...]
) -> None:
    (root / "dataset_description.json").write_text(text)
    line = refused(3, "predict", root, "-m", model_path, "-o", tmp_path / "out", *more)
    assert f"{root / 'dataset_description.json'}: {said}" in line


@pytest.mark.parametrize(
    "name", ["sub-01/anat/sub-03_T1w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-b_T2w.nii.gz"]
)
def test_a_scan_under_the_name_of_another_subject_is_told(
    root: Path, model_path: Path, tmp_path: Path, name: str
) -> None:
    write_phantom_scan(root / name, seed=7, shape=SHAPE)
    ran = done("predict", root, "-m", model_path, "-o", tmp_path / "out")
    said = "The name of the file states another subject or session than its folder"
    sidecars = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json")}
    wrong = Path(name).name.replace(".nii.gz", "_seg.json")
    assert [file for file, text in sidecars.items() if said in text] == [wrong]
    assert said in ran.err
