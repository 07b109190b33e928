"""Links that lead nowhere and pipes are refused by name, wherever they lie, and never passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import done, medseg
from io_files import save, write_dicom

from medseg.core.errors import InputError
from medseg.data import bids
from medseg.data.check import check
from medseg.data.layouts import read_layout
from medseg.data.phantom import write_phantom_scan
from medseg.io import read_volume

SHAPE = (20, 24, 18)


def broken(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(path.parent / "gone" / path.name)
    return path


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


KINDS = [(broken, "is a broken link"), (pipe, "is not a regular file")]
kinds = pytest.mark.parametrize(("make", "fault"), KINDS)
Make = Callable[[Path], Path]


def labels(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, (np.arange(210).reshape(5, 6, 7) % 3).astype(np.uint8))


@kinds
@pytest.mark.parametrize(
    "name", ["scan.nii.gz", "scan.mha", "scan.nrrd", "scan.png", "scan.dcm", "scan", "a.tif"]
)
def test_one_is_refused_as_a_file(tmp_path: Path, make: Make, fault: str, name: str) -> None:
    path = make(tmp_path / name)
    with pytest.raises(InputError, match=fault):
        read_volume(path)
    for command in (["info", path], ["predict", path, "-m", "hippocampus", "-o", tmp_path / "o.nii.gz"]):
        ran = medseg(*command)
        assert (ran.code, fault in ran.err, str(path) in ran.err) == (3, True, True), ran.err


@kinds
@pytest.mark.parametrize("name", ["IM0009", "slice003.dcm"])
def test_one_among_the_slices_is_refused(tmp_path: Path, make: Make, fault: str, name: str) -> None:
    write_dicom(tmp_path / "ct", 6)
    path = make(tmp_path / "ct" / name)
    with pytest.raises(InputError, match=fault) as caught:
        read_volume(tmp_path / "ct")
    assert caught.value.source == str(path)


@kinds
def test_one_among_scans_is_a_failed_case(tmp_path: Path, make: Make, fault: str, model_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    write_phantom_scan(folder / "a.nii.gz", seed=0, shape=SHAPE)
    make(folder / "b.nii.gz")
    ran = medseg("predict", folder, "-m", model_path, "-o", tmp_path / "out")
    assert ran.code == 7
    assert "b.nii.gz" in ran.err
    assert fault in ran.err
    assert (tmp_path / "out" / "a_seg.nii.gz").exists()


def test_a_broken_link_to_a_series_among_scans_is_a_failed_case(tmp_path: Path, model_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    write_phantom_scan(folder / "a.nii.gz", seed=0, shape=SHAPE)
    broken(folder / "series2")
    broken(folder / "notes.txt")
    ran = medseg("predict", folder, "-m", model_path, "-o", tmp_path / "out")
    assert ran.code == 7
    assert "series2: is a broken link" in ran.err
    assert "notes.txt: is a broken link" not in ran.err


@kinds
@pytest.mark.parametrize("of", ["ref", "pred"])
def test_one_among_references_or_predictions_is_a_failed_case(
    tmp_path: Path, make: Make, fault: str, of: str
) -> None:
    for n in "abc":
        labels(tmp_path / "ref" / f"{n}.nii.gz")
        labels(tmp_path / "pred" / f"{n}.nii.gz")
    make(tmp_path / of / "b.nii.gz")
    ran = medseg("evaluate", tmp_path / "pred", tmp_path / "ref", "--tolerance", "1", "-o", tmp_path / "out")
    assert ran.code == 7
    assert fault in ran.err
    assert "1 of 3 cases failed: b" in ran.err


@kinds
def test_one_as_reference_is_refused(tmp_path: Path, make: Make, fault: str) -> None:
    ran = medseg("evaluate", labels(tmp_path / "p.nii.gz"), make(tmp_path / "r.nii.gz"))
    assert ran.code == 3
    assert fault in ran.err


def test_one_in_a_bids_root_is_a_scan_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    path = broken(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert bids.scans(tmp_path) == [path]
    broken(tmp_path / "sub-02")
    with pytest.raises(InputError, match="is a broken link"):
        bids.scans(tmp_path)


DATASETS = {
    "folder": (["images/NAME.nii.gz", "masks/NAME.nii.gz"], "images/b.nii.gz"),
    "masks": (["NAME/image.nii.gz", "NAME/segmentations/liver.nii.gz"], "b/image.nii.gz"),
    "brats": (["NAME/NAME_flair.nii.gz", "NAME/NAME_seg.nii.gz"], "b/b_flair.nii.gz"),
    "prostatex": (
        ["Images/ProstateX-000NAME_t2.nii.gz", "mask_prostate/ProstateX-000NAME.nii.gz"],
        "Images/ProstateX-0002_t2.nii.gz",
    ),
    "label_maps": (["NAME.nii.gz"], "b.nii.gz"),
}  # fmt: skip


def dataset(root: Path, layout: str) -> Path:
    forms, _ = DATASETS[layout]
    for name in ("1", "2") if layout == "prostatex" else ("a", "b"):
        for form in forms:
            labels(root / form.replace("NAME", name))
    return root


@pytest.mark.parametrize("layout", DATASETS)
def test_one_in_a_dataset_stays_a_case(tmp_path: Path, layout: str) -> None:
    path = broken(dataset(tmp_path, layout) / DATASETS[layout][1])
    cases = read_layout(tmp_path, layout, complete=False).cases
    assert len(cases) == 2
    assert path in {file for case in cases for file in (case.image, *case.channels.values())}


@pytest.mark.parametrize("layout", DATASETS)
def test_links_to_files_elsewhere_are_read(tmp_path: Path, layout: str) -> None:
    root, name = dataset(tmp_path / "set", layout), DATASETS[layout][1]
    shutil.move(root / name, tmp_path / "elsewhere.nii.gz")
    (root / name).symlink_to(tmp_path / "elsewhere.nii.gz")
    assert len(read_layout(root, layout).cases) == 2


@pytest.mark.parametrize("layout", ["masks", "brats"])
def test_a_broken_link_to_the_folder_of_a_case_is_refused(tmp_path: Path, layout: str) -> None:
    broken(dataset(tmp_path, layout) / "c")
    for complete in (True, False):
        with pytest.raises(InputError, match="c: is a broken link"):
            read_layout(tmp_path, layout, complete=complete)


def test_check_names_one(tmp_path: Path) -> None:
    broken(dataset(tmp_path, "folder") / "images" / "b.nii.gz")
    found = check(tmp_path)
    assert [issue.case_id for issue in found.errors if "is a broken link" in issue.text] == ["b"]


@kinds
def test_one_as_description_of_a_dataset_is_refused(tmp_path: Path, make: Make, fault: str) -> None:
    make(dataset(tmp_path, "folder") / "dataset.json")
    ran = medseg("check", tmp_path)
    assert (ran.code, f"dataset.json: {fault}" in ran.err) == (3, True), ran.err
    with pytest.raises(InputError, match=fault):
        read_layout(tmp_path, "decathlon")


def test_a_table_names_one(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("case,image,label\na,a.nii.gz,b.nii.gz\n")
    broken(tmp_path / "a.nii.gz")
    labels(tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match=r"a.nii.gz in line 2, which is a broken link"):
        read_layout(table, "table")
    assert done("info", tmp_path / "b.nii.gz").out
