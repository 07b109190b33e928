"""What an evaluation or comparison cannot do as asked is said: nothing is dropped without a word."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from io_files import save


def put(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    return save(path, array)


def ball(value: int = 1, shift: int = 0) -> np.ndarray:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3 + shift : 8 + shift, 3:8, 3:8] = value
    return labels


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save(tmp_path / "pred.nii.gz", ball(shift=1)), save(tmp_path / "ref.nii.gz", ball())


@pytest.mark.fault("reports 31")
@pytest.mark.parametrize("named", [False, True])
def test_masks_of_0_and_255_against_0_and_1_are_told(tmp_path: Path, named: bool) -> None:
    pred, ref = save(tmp_path / "pred.nii.gz", ball()), save(tmp_path / "ref.nii.gz", ball(255))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"labels": {"1": "prostate"}}))
    ran = done("evaluate", pred, ref, *(["--labels", names] if named else []))
    assert "Each file has one value and they differ: 255 in the reference, 1 in the prediction" in ran.err
    scan = save(tmp_path / "scan.nii.gz", ball().astype(np.float32))
    done("report", pred, scan, "--reference", ref, "-o", tmp_path / "page.html")
    assert "ach file has one value and they differ" in (tmp_path / "page.html").read_text()


@pytest.mark.fault("reports 31")
def test_maps_with_a_value_in_common_are_not_accused(pair: tuple[Path, Path]) -> None:
    assert "value" not in done("evaluate", *pair).err


@pytest.mark.fault("reports 31")
@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"a": 1, "b": 1}, "the value 1 has two names, 'a' and 'b'"),
        ({"1": "a", "2": "a"}, "the name 'a' has several values, 1 and 2"),
        ({"whole": [1, 2], "all": [1, 2]}, "the values 1, 2 have two names, 'whole' and 'all'"),
    ],
)
def test_a_name_or_value_that_stands_twice_is_refused(
    pair: tuple[Path, Path], tmp_path: Path, labels: dict[str, object], fault: str
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"labels": labels}))
    assert fault in refused(3, "evaluate", *pair, "--labels", names)
    names.write_text('{"labels": {"liver": 1, "liver": 2}}')
    assert "'liver' occurs twice" in refused(3, "evaluate", *pair, "--labels", names)


@pytest.mark.fault("reports 31")
def test_the_file_that_was_taken_of_two_is_named(tmp_path: Path) -> None:
    put(tmp_path / "ref" / "x.nii.gz", ball())
    put(tmp_path / "pred" / "x_seg.nii.gz", ball())
    put(tmp_path / "pred" / "x.nii.gz", ball(shift=2))
    ran = done("evaluate", tmp_path / "pred", tmp_path / "ref")
    assert "taken: x_seg.nii.gz (not x.nii.gz)" in ran.err
    put(tmp_path / "ref" / "x_seg.nii.gz", ball())
    ran = done("evaluate", tmp_path / "pred", tmp_path / "ref")
    assert "taken (left out): x_seg.nii.gz (x.nii.gz)" in ran.err


@pytest.mark.fault("reports 39")
def test_a_tolerance_of_0_is_the_share_that_coincides(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done("evaluate", *pair, "--tolerance", 0, "--csv", tmp_path / "all.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    (nsd,) = (row for row in rows if row["metric"] == "nsd")
    assert 0 < float(nsd["value"]) < 1
    assert float(nsd["tau_mm"]) == 0
    done("evaluate", pair[0], pair[0], "--tolerance", 0, "--csv", tmp_path / "same.csv")
    assert "nsd,1.0," in (tmp_path / "same.csv").read_text()


@pytest.mark.fault("reports 39")
@pytest.mark.parametrize("words", [("--mode", "voxel"), ("--no-surface",), ("--protocol", "promise12")])
def test_a_tolerance_that_nothing_uses_is_refused(pair: tuple[Path, Path], words: tuple[str, ...]) -> None:
    fault = refused(2, "evaluate", *pair, *words, "--tolerance", 1)
    assert "a tolerance is given for the surface Dice" in fault
    assert "--no-surface" in refused(2, "compare", *pair, "--no-surface", "--tolerance", 1)


@pytest.mark.fault("reports 39")
def test_two_files_without_a_label_are_no_empty_table(tmp_path: Path) -> None:
    a, b = (save(tmp_path / f"{name}.nii.gz", ball(0)) for name in "ab")
    for verb in ("evaluate", "compare"):
        assert "contain a label, so there is nothing to measure" in refused(3, verb, a, b)
    names = tmp_path / "names.json"
    names.write_text('{"labels": {"1": "liver"}}')
    assert "absent in both" in done("evaluate", a, b, "--labels", names).out


@pytest.mark.fault("reports 39")
def test_a_comparison_says_which_way_its_difference_goes(tmp_path: Path) -> None:
    for n in range(7):
        for folder, shift in (("ref", 0), ("a", 0), ("b", 1 + n % 2)):
            put(tmp_path / folder / f"{n}.nii.gz", ball(shift=shift))
    ran = done("compare", tmp_path / "a", tmp_path / "b", "--reference", tmp_path / "ref")
    assert "A is better for 1 (Dice, B − A: −0." in ran.out
    one = [tmp_path / folder / "0.nii.gz" for folder in ("a", "b", "ref")]
    assert "there is 1 case and a test needs" in done("compare", *one[:2], "--reference", one[2]).out
