"""Scans that are hard to read, on the command line."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, refused
from io_files import claiming, looping, save

from medseg import io
from medseg.io import ReadOptions, read_scan
from medseg.io.itk import nrrd


@pytest.mark.fault("reports 8")
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mha"])
def test_a_scan_that_cannot_be_is_refused_before_it_is_planned(
    tmp_path: Path, model_path: Path, name: str, more: tuple[str, ...]
) -> None:
    path, start = claiming(tmp_path / name, 32767), time.monotonic()
    line = refused(3, "predict", path, "-m", model_path, *more)
    assert "truncated" in line
    assert time.monotonic() - start < 5


@pytest.mark.fault("reports 6")
def test_a_tiff_without_an_end_ends_no_command(tmp_path: Path) -> None:
    path = looping(tmp_path / "scan.tif", [(8, 9), (5, 4)], 0, wide=False)
    for words in (("info", path), ("evaluate", path, path), ("report", path, path), ("predict", path)):
        start = time.monotonic()
        assert "loop" in refused(3, *words, *(["-q"] if words[0] == "predict" else []))
        assert time.monotonic() - start < 5


def unoriented(path: Path, array: np.ndarray) -> Path:
    """Labels whose header states no orientation."""
    return save(path, array.astype(np.uint8), np.diag([1.0, 2.0, 3.0, 1.0]), sform=0, qform=0)


def blocks(shift: int = 0) -> np.ndarray:
    """Two structures in a block."""
    array = np.zeros((10, 11, 12))
    array[2 + shift : 6, 2:6, 2:6], array[6:9, 2:6, 2:6] = 1, 2
    return array


@pytest.mark.fault("reports 12")
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_labels_without_orientation_are_measured_when_told(tmp_path: Path, verb: str) -> None:
    pred, ref = unoriented(tmp_path / "a.nii.gz", blocks(1)), unoriented(tmp_path / "b.nii.gz", blocks())
    assert "--assume-ras" in refused(4, verb, pred, ref)
    found = done(verb, pred, ref, "--assume-ras", "--json").json()
    values = json.dumps(found)
    oriented = [
        save(tmp_path / f"{name}.nii.gz", array.astype(np.uint8), np.diag([1.0, 2.0, 3.0, 1.0]))
        for name, array in (("c", blocks(1)), ("d", blocks()))
    ]
    again = json.dumps(done(verb, *oriented, "--json").json())
    dices = [re.findall(r'"(?:dice|mean|value)": ([0-9.]+)', text) for text in (values, again)]
    assert dices[0] == dices[1] != []


@pytest.mark.fault("reports 12")
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_a_volume_of_a_4d_label_file_is_measured_when_told(tmp_path: Path, verb: str) -> None:
    plain = save(tmp_path / "a.nii.gz", blocks().astype(np.uint8))
    both = save(tmp_path / "b.nii.gz", np.stack([blocks(1), blocks()], axis=-1).astype(np.uint8))
    assert "--volume 0 to 1" in refused(3, verb, plain, both)
    found = done(verb, plain, both, "--volume", 1, "--json").json()
    assert '"dice": 1.0' in json.dumps(found) or '"mean": 1.0' in json.dumps(found)
    other = done(verb, plain, both, "--volume", 0, "--json").json()
    assert json.dumps(found) != json.dumps(other)


@pytest.mark.fault("reports 12")
def test_layers_of_a_file_that_names_no_segment_are_measured_when_told(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii.gz", blocks().astype(np.uint8))
    layered = tmp_path / "b.nrrd"
    grid = io.inspect(plain).grid
    nrrd.write(layered, [blocks(1).astype(np.uint8), blocks().astype(np.uint8)], grid)
    assert "--volume 0 to 1" in refused(3, "evaluate", plain, layered)
    found = done("evaluate", plain, layered, "--volume", 1, "--json").json()
    assert {row["metrics"]["dice"] for row in found["cases"][0]["structures"]} == {1.0}


@pytest.mark.fault("reports 12")
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_the_form_that_is_named_decides_for_labels_too(tmp_path: Path, verb: str) -> None:
    pred, ref = (save(tmp_path / f"{n}.nii.gz", blocks().astype(np.uint8), quatern_b=np.nan) for n in "ab")
    assert "--use-form sform" in refused(4, verb, pred, ref)
    done(verb, pred, ref, "--use-form", "sform")


@pytest.mark.fault("reports 12")
def test_an_evaluation_by_other_decisions_is_another(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("pred", "ref")]
    for folder in folders:
        folder.mkdir()
        both = np.stack([blocks(1), blocks() if folder.name == "ref" else blocks(1)], axis=-1)
        save(folder / "a.nii.gz", both.astype(np.uint8))
    out = tmp_path / "out"
    first = done("evaluate", *folders, "-o", out, "--volume", 0, "--json").json()
    assert "settings" in refused(2, "evaluate", *folders, "-o", out, "--volume", 1)
    second = done("evaluate", *folders, "-o", out, "--volume", 1, "--overwrite", "--json").json()
    assert first["cases"][0]["structures"] != second["cases"][0]["structures"]


def hints(*words: object) -> list[str]:
    return [line for line in done("evaluate", *words).err.splitlines() if line.startswith("hint: ")]


def test_evaluate_says_how_to_get_the_surface_dice(tmp_path: Path) -> None:
    pair = [save(tmp_path / f"{n}.nii.gz", blocks(s).astype(np.uint8)) for n, s in (("a", 1), ("b", 0))]
    assert hints(*pair) == ["hint: the NSD (surface Dice) needs a tolerance: give --tolerance MM"]
    for more in (("--tolerance", 1), ("--no-surface",), ("--mode", "voxel"), ("--json",)):
        assert hints(*pair, *more) == []


def test_evaluate_says_how_to_ignore_a_value_that_no_prediction_has(tmp_path: Path) -> None:
    marked = blocks().astype(np.uint8)
    marked[0] = 255
    pred, ref = save(tmp_path / "a.nii.gz", blocks(1).astype(np.uint8)), save(tmp_path / "b.nii.gz", marked)
    (line,) = hints(pred, ref, "--no-surface")
    assert "no prediction has the value 255 of the references" in line
    assert line.endswith("if such voxels are unlabelled in the reference, --ignore 255 leaves them out")
    assert hints(pred, ref, "--no-surface", "--ignore", 255) == []
    (tmp_path / "names.json").write_text('{"1": "a", "2": "b"}')
    (line,) = hints(pred, ref, "--no-surface", "--labels", tmp_path / "names.json")
    assert line.endswith(
        "if a value without a structure marks voxels unlabelled in the reference, give --ignore VALUE"
    )
    assert hints(pred, pred, "--no-surface") == []


def test_a_value_to_ignore_that_no_reference_has_is_warned_of(tmp_path: Path) -> None:
    marked, affine = blocks().astype(np.uint8), np.diag([1.0, 2.0, 3.0, 1.0])
    marked[0] = 255
    for folder in ("pred", "ref"):
        (tmp_path / folder).mkdir()
    for case, reference in (("a", marked), ("b", blocks().astype(np.uint8))):
        save(tmp_path / "pred" / f"{case}.nii.gz", blocks(1).astype(np.uint8), affine)
        save(tmp_path / "ref" / f"{case}.nii.gz", reference, affine)
    pair = [tmp_path / folder / "b.nii.gz" for folder in ("pred", "ref")]
    words = "The value to ignore, 7, occurs in no reference"
    for given in (pair, (tmp_path / "pred", tmp_path / "ref")):
        assert words in done("evaluate", *given, "--no-surface", "--ignore", 7).err
    both = done("evaluate", tmp_path / "pred", tmp_path / "ref", "--no-surface", "--ignore", 255)
    assert "occurs in no reference" not in both.err
    scan, page = scan_of(tmp_path / "scan.nii.gz"), tmp_path / "x.html"
    done("report", pair[0], scan, "--reference", pair[1], "-o", page, "--ignore", 7)
    assert "The value to ignore, 7, occurs in no reference" in page.read_text()
    ref, other = tmp_path / "ref", tmp_path / "other"
    shutil.copytree(ref, other)
    ran = done("compare", tmp_path / "pred", other, "--reference", ref, "--no-surface", "--ignore", 7)
    assert f"warning: A and B: {words}" in ran.err


def test_a_structure_to_ignore_is_warned_of_by_every_verb_that_ignores(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    held = blocks().astype(np.uint8)
    first, second, ref = (
        save(tmp_path / f"{name}.nii.gz", blocks(shift).astype(np.uint8), affine)
        for name, shift in (("first", 1), ("second", 2), ("ref", 0))
    )
    names = tmp_path / "names.json"
    values = [int(value) for value in np.unique(held)[1:]]
    names.write_text(json.dumps({"labels": {value: f"part {value}" for value in values}}))
    words = f"The value to ignore, {values[0]}, is the structure part {values[0]}, which is not measured."
    ignore = ("--labels", names, "--ignore", values[0])
    assert f"warning: {words}" in done("evaluate", first, ref, "--no-surface", *ignore).err
    ran = done("compare", first, second, "--reference", ref, "--no-surface", *ignore)
    assert f"warning: A and B: {words}" in ran.err
    page = tmp_path / "x.html"
    done("report", first, scan_of(tmp_path / "scan.nii.gz"), "--reference", ref, "-o", page, *ignore)
    assert f"Warning: {words}" in page.read_text()
    unnamed = done("evaluate", first, ref, "--no-surface", "--ignore", values[0]).err
    assert "is the structure" not in unnamed


def scan_of(path: Path, **fields: object) -> Path:
    """A scan for `blocks`, with noise."""
    array = np.random.default_rng(3).normal(size=blocks().shape).astype(np.float32)
    return save(path, array, np.diag([1.0, 2.0, 3.0, 1.0]), **fields)


def test_a_page_reads_scan_and_reference_as_it_is_told(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    bare = {"sform": 0, "qform": 0}
    scan = scan_of(tmp_path / "scan.nii.gz", **bare)
    two = np.stack([blocks(1), blocks()], axis=-1).astype(np.uint8)
    seg = save(tmp_path / "seg.nii.gz", two, affine, **bare)
    ref = save(tmp_path / "ref.nii.gz", two[..., ::-1], affine, **bare)
    words = ("report", seg, scan, "--reference", ref, "-o")
    assert "--assume-ras" in refused(4, *words, tmp_path / "x.html")
    assert "--volume 0 to 1" in refused(3, *words, tmp_path / "x.html", "--assume-ras")
    done(*words, tmp_path / "x.html", "--assume-ras", "--volume", 0)
    assert "Dice" in (tmp_path / "x.html").read_text()


def test_a_page_ignores_what_nobody_labelled(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    scan = scan_of(tmp_path / "scan.nii.gz")
    seg = save(tmp_path / "seg.nii.gz", blocks().astype(np.uint8), affine)
    marked = blocks(1).astype(np.uint8)
    marked[2:3, 2:6, 2:6] = 255
    ref = save(tmp_path / "ref.nii.gz", marked, affine)
    done("report", seg, scan, "--reference", ref, "-o", tmp_path / "x.html", "--ignore", 255)
    text = (tmp_path / "x.html").read_text()
    assert "16 voxels (1.21 %) are ignored" in text
    assert "label 255" not in text
    assert "--reference" in refused(2, "report", seg, scan, "-o", tmp_path / "y.html", "--ignore", 255)


def test_a_comparison_ignores_what_nobody_labelled(tmp_path: Path) -> None:
    marked = blocks().astype(np.uint8)
    marked[0] = 255
    a, b = (save(tmp_path / f"{n}.nii.gz", blocks(s).astype(np.uint8)) for n, s in (("a", 1), ("b", 0)))
    ref = save(tmp_path / "ref.nii.gz", marked)
    found = done("compare", a, b, "--reference", ref, "--ignore", 255, "--no-surface", "--json").json()
    assert {row["structure"] for row in found["comparison"]} >= {"1", "2"}  # type: ignore[index]
    assert "255" not in {row["structure"] for row in found["comparison"]}  # type: ignore[index]
    assert "--reference" in refused(2, "compare", a, b, "--ignore", 255)


def test_a_reading_reaches_the_scans_of_a_followup(tmp_path: Path) -> None:
    scan = scan_of(tmp_path / "scan.nii.gz", sform=0, qform=0)
    volume = read_scan(scan, ReadOptions(assume_ras=True, volume=1))
    assert volume.channels == ("image",)
    pair = np.stack([blocks(1), blocks()], axis=-1).astype(np.float32)
    save(tmp_path / "two.nii.gz", pair)
    volume = read_scan(tmp_path / "two.nii.gz", ReadOptions(volume=1))
    np.testing.assert_array_equal(volume.array[0], blocks())


VERBS = (
    "predict",
    "report",
    "refine",
    "partition",
    "evaluate",
    "compare",
    "augment",
    "check",
    "convert",
    "train",
    "calibrate",
    "info",
)


@pytest.mark.fault("reports 12")
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_scans_takes_the_options_of_reading(verb: str) -> None:
    text = done(verb, "--help").out
    for option in ("--use-form", "--assume-ras"):
        assert option in text
    if verb != "info":
        assert "--volume" in text
    if verb in ("predict", "report", "refine", "partition", "evaluate", "compare"):
        for option in ("--series", "--fill-nan"):
            assert option in text


@pytest.mark.fault("reports 12")
def test_a_data_set_without_orientation_is_read_when_told(tmp_path: Path) -> None:
    (tmp_path / "set" / "imagesTr").mkdir(parents=True)
    (tmp_path / "set" / "labelsTr").mkdir()
    described = {
        "channel_names": {"0": "t1"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(described))
    unoriented(tmp_path / "set" / "imagesTr" / "a_0000.nii.gz", blocks())
    unoriented(tmp_path / "set" / "labelsTr" / "a.nii.gz", blocks())
    words = ("convert", tmp_path / "set", tmp_path / "out", "--from", "nnunet", "--to", "decathlon")
    line = refused(4, "convert", tmp_path / "set", tmp_path / "refused", *words[3:])
    assert "stores no orientation" in line
    assert "--assume-ras" in line
    assert medseg("check", tmp_path / "set").code == 3
    done("check", tmp_path / "set", "--assume-ras")
    done(*words, "--assume-ras")
    (written,) = (tmp_path / "out" / "imagesTr").iterdir()
    header = nib.load(written).header
    assert int(header["sform_code"]) > 0
    np.testing.assert_allclose(header.get_best_affine(), np.diag([1.0, 2.0, 3.0, 1.0]))
