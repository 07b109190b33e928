"""`--strict` of `evaluate` and `compare`: the exit code tells what speaks against a segmentation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg

from medseg.io import digest_of

DOUBT = {"code": "low_confidence", "severity": "doubt", "sentence": "The model is unsure."}
WARNING = {"code": "file", "severity": "warning", "sentence": "Both forms disagree a little."}
NOTE = {"code": "at_edge", "severity": "note", "sentence": "Core reaches the edge of the scan."}
MODEL = {"models": [{"name": "m", "sha256": "1" * 64}], "settings": {"engines": ["e"], "reading": {}}}
KNOWN = {"a_seg.nii.gz": DOUBT, "b_seg.nii.gz": NOTE, "c_seg.nii.gz": WARNING}


def write(path: Path, stop: int = 6, **findings: object) -> Path:
    """A box, with what its prediction says of it where that is given."""
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:stop, 2:6, 2:6] = 1
    labels[7, 0, 0] = 255
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    return path


def state(path: Path, *findings: dict[str, str]) -> Path:
    """Write the summary of a prediction, with these findings, beside it."""
    doubtful = any(finding["severity"] == "doubt" for finding in findings)
    quality = {"flag": "doubtful" if doubtful else "ok", "reasons": [DOUBT["sentence"]] if doubtful else []}
    structures = [{"value": 1, "name": "core"}]
    content = {"schema": "medseg.prediction/1", "labels_sha256": digest_of(path), "structures": structures}
    content |= {"quality": quality, "findings": list(findings), "provenance": MODEL}
    path.with_name(f"{path.name.removesuffix('.nii.gz')}.json").write_text(json.dumps(content))
    return path


def doubted(*words: object) -> str:
    """Run what `--strict` refuses, and return the error, the last line on stderr."""
    ran = medseg(*words)
    assert (ran.code, bool(ran.out)) == (3, True), ran.err
    return ran.err.splitlines()[-1]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three predictions of which the model doubts one and warns of one, and their references."""
    for name, finding in KNOWN.items():
        state(write(tmp_path / "pred" / name), finding)
        write(tmp_path / "ref" / name.replace("_seg", ""))
    return tmp_path / "pred", tmp_path / "ref"


def test_every_doubt_and_warning_of_the_predictions_is_named(folders: tuple[Path, Path]) -> None:
    ran = done("evaluate", *folders, "--no-surface", "--json")
    assert "doubtful: a: The model is unsure." in ran.err.splitlines()
    assert "warning: c: Both forms disagree a little." in ran.err.splitlines()
    assert "edge of the scan" not in ran.err
    assert [f["severity"] for f in ran.json()["findings"]] == ["doubt", "warning"]  # type: ignore[index]
    assert doubted("evaluate", *folders, "--no-surface", "--strict") == (
        "medseg: error: doubtful: a: The model is unsure; c: Both forms disagree a little; "
        "inspect these segmentations, or drop --strict"
    )


def test_every_doubt_and_warning_stands_on_the_page_of_the_cohort(folders: tuple[Path, Path]) -> None:
    out = folders[0].parent / "out"
    page = folders[0].parent / "page.html"
    done("evaluate", *folders, "--no-surface", "-o", out)
    done("evaluate", *folders, "--no-surface", "--report", page)
    for text in ((out / "cohort.html").read_text(), page.read_text()):
        assert '<li class="doubt">Doubt: a: The model is unsure.</li>' in text
        assert '<li class="warning">Warning: c: Both forms disagree a little.</li>' in text
        assert text.index("The model is unsure.") < text.index("<h2>Cases</h2>")


def test_a_missing_prediction_is_refused_after_everything_is_written(folders: tuple[Path, Path]) -> None:
    pred, ref = folders
    for name in ("a_seg.nii.gz", "c_seg.nii.gz"):
        (pred / name).unlink()
    out = pred.parent / "out"
    words = ("evaluate", pred, ref, "--no-surface")
    assert medseg(*words).code == 0
    assert "doubtful: 2 of 3 cases (a and c): The prediction is missing" in doubted(
        *words, "--strict", "-o", out
    )
    assert json.loads((out / "report.json").read_text())["findings"][0]["code"] == "not_measured"


def test_strict_accepts_what_nothing_speaks_against(folders: tuple[Path, Path]) -> None:
    pair = (folders[0] / "b_seg.nii.gz", folders[1] / "b.nii.gz")
    ran = done("evaluate", *pair, "--no-surface", "--strict", "--ignore", 255)
    assert "note: b: 1 voxel (0.195 %) is ignored, because it is unlabelled in the reference." in ran.err
    write(pair[0], stop=5)
    assert "is not the one that its sidecar describes" in doubted(
        "evaluate", *pair, "--no-surface", "--strict", "--ignore", 255
    )


def test_resumed_cases_are_doubted_as_before(folders: tuple[Path, Path]) -> None:
    words = ("evaluate", *folders, "--no-surface", "--strict", "-o", folders[0].parent / "out")
    assert doubted(*words) == doubted(*words)


def test_a_comparison_names_whose_segmentation_is_doubtful(folders: tuple[Path, Path]) -> None:
    (pred, ref), other = folders, folders[0].parent / "other"
    for name in ("b_seg.nii.gz", "c_seg.nii.gz"):
        state(write(other / name, stop=5), NOTE)
    words = ("compare", pred, other, "--no-surface")
    page = pred.parent / "page.html"
    for reference in ((), ("--reference", ref)):
        ran = done(*words, *reference, "-o", page, "--overwrite")
        doubt = "A: a: The model is unsure." if reference else "c: A: Both forms disagree a little."
        line = f"{'doubtful' if reference else 'warning'}: {doubt}"
        assert line in ran.err.splitlines()
        word = "Doubt" if reference else "Warning"
        assert f'<li class="{word.lower()}">{word}: {doubt}</li>' in page.read_text()
        missing = "B: a: The prediction is missing" if reference else "a: There is no segmentation by B"
        assert f"Doubt: {missing}" in page.read_text()
        error = doubted(*words, *reference, "--strict")
        assert doubt.removesuffix(".") in error
        assert missing in error
    shutil.copy(folders[1] / "b.nii.gz", pred.parent / "one.nii.gz")
    pair = (folders[1] / "b.nii.gz", pred.parent / "one.nii.gz")
    done("compare", *pair, "--no-surface", "--strict")


def test_a_followup_of_a_doubtful_prediction_is_refused(tmp_path: Path) -> None:
    first = state(write(tmp_path / "first_seg.nii.gz"), NOTE)
    second = state(write(tmp_path / "second_seg.nii.gz", stop=5), DOUBT)
    page = tmp_path / "page.html"
    words = ("compare", first, second, "--followup", "-o", page)
    assert "doubtful: second: The model is unsure." in done(*words).err.splitlines()
    assert '<li class="doubt">Doubt: second: The model is unsure.</li>' in page.read_text()
    assert "second: The model is unsure; " in doubted(*words, "--overwrite", "--strict")


def sided(path: Path, left: int, right: int) -> Path:
    """Two boxes with the values given, the first at the patient's left."""
    labels = np.zeros((12, 8, 8), np.uint8)
    labels[1:4, 2:6, 2:6], labels[8:11, 2:6, 2:6] = left, right
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    return path


def test_exchanged_sides_are_doubted_of_predictions_and_references(tmp_path: Path) -> None:
    right_way, wrong = (sided(tmp_path / f"{n}.nii.gz", *v) for n, v in (("a", (1, 2)), ("b", (2, 1))))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "left kidney", "2": "right kidney"}))
    doubt = "The centre of left kidney lies to the right of the centre of right kidney"
    for pair, whose in (((wrong, right_way), "a: The centre"), ((right_way, wrong), "b: In the reference: ")):
        words = ("evaluate", *pair, "--labels", names, "--no-surface")
        ran = done(*words, "--json")
        assert [f["code"] for f in ran.json()["findings"]] == ["sides_exchanged"]  # type: ignore[index]
        assert ran.err.startswith(f"doubtful: {whose}")
        assert doubt in ran.err
        assert doubt in doubted(*words, "--strict")
    done("evaluate", right_way, right_way.with_name("b.nii.gz"), "--no-surface", "--strict")
    words = ("compare", right_way, wrong, "--labels", names, "--no-surface")
    assert f"a: B: {doubt}" in doubted(*words, "--strict")
    assert f"a: B: {doubt}" in done(*words, "--json").json()["findings"][0]["sentence"]  # type: ignore[index]
    reference = shutil.copy(right_way, tmp_path / "r.nii.gz")
    assert f"B: r: {doubt}" in doubted(*words, "--strict", "--reference", reference)


def test_a_resumed_case_keeps_the_doubts_of_its_labels(tmp_path: Path) -> None:
    pred, ref = sided(tmp_path / "pred" / "a.nii.gz", 2, 1), sided(tmp_path / "ref" / "a.nii.gz", 1, 2)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "left kidney", "2": "right kidney"}))
    words = ("evaluate", pred.parent, ref.parent, "--labels", names, "--no-surface", "-o", tmp_path / "out")
    first = doubted(*words, "--strict")
    assert "left and right may be exchanged" in first
    assert doubted(*words, "--strict") == first


def test_a_prediction_without_a_label_is_doubted_where_the_reference_has_one(tmp_path: Path) -> None:
    full, empty = sided(tmp_path / "ref.nii.gz", 1, 1), sided(tmp_path / "pred.nii.gz", 0, 0)
    words = ("evaluate", empty, full, "--no-surface", "--strict")
    assert "labelled no voxels in this scan" in doubted(*words)
    none = sided(tmp_path / "none.nii.gz", 0, 0)
    names = tmp_path / "names.json"
    names.write_text('{"1": "lesion"}')
    done("evaluate", empty, none, "--labels", names, "--no-surface", "--strict")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"schema": "medseg.prediction/1", "grid": 3}'])
def test_a_sidecar_that_cannot_be_read_is_a_doubt_that_names_it(
    folders: tuple[Path, Path], text: str
) -> None:
    pred, ref = folders
    (pred / "b_seg.json").write_text(text)
    said = "The sidecar b_seg.json cannot be read as a prediction"
    assert f"b: {said}" in doubted("evaluate", *folders, "--no-surface", "--strict")
    pair = (pred / "b_seg.nii.gz", ref / "b.nii.gz")
    assert said in doubted("evaluate", *pair, "--no-surface", "--strict")
