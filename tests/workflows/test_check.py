"""`check` finds what is wrong with a dataset, and the command says so with its exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg

from medseg.cards import load_card
from medseg.phantom import write_phantom_dataset, write_phantoms
from medseg.workflows.check import check

SHAPE = (18, 20, 16)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantom_dataset(folder, cases=6, shape=SHAPE)
    return folder


@pytest.fixture
def data(bank: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bank, tmp_path / "data"))


def image(data: Path, n: int) -> Path:
    return data / "imagesTr" / f"phantom_{n:03d}.nii.gz"


def label(data: Path, n: int) -> Path:
    return data / "labelsTr" / f"phantom_{n:03d}.nii.gz"


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    old = nib.load(path)
    array = edit(np.asarray(old.dataobj))
    nib.save(nib.Nifti1Image(array, old.affine if affine is None else affine), path)


def relist(data: Path, edit: Callable[[dict], None]) -> None:
    path = data / "dataset.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def cut(data: Path) -> None:
    image(data, 2).write_bytes(image(data, 2).read_bytes()[:-30])


def move_grid(data: Path) -> None:
    affine = nib.load(label(data, 2)).affine.copy()
    affine[0, 3] += 1
    change(label(data, 2), lambda a: a, affine)


def unknown_value(data: Path) -> None:
    change(label(data, 2), lambda a: np.where(np.indices(a.shape).sum(0) < 3, 7, a).astype(np.uint8))


def brighter(data: Path) -> None:
    change(image(data, 2), lambda a: a * 1000)


def constant(data: Path) -> None:
    change(image(data, 2), np.ones_like)


def twice(data: Path) -> None:
    shutil.copy(image(data, 1), image(data, 2))
    shutil.copy(label(data, 1), label(data, 2))


def twice_turned(data: Path) -> None:
    """The same scan in another axis order and number type."""
    for of in (image, label):
        turned = nib.as_closest_canonical(nib.load(of(data, 1)))
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj).astype(np.float64), turned.affine), of(data, 2))


def empty(data: Path) -> None:
    change(label(data, 2), np.zeros_like)


def speck(data: Path) -> None:
    def one_voxel(a: np.ndarray) -> np.ndarray:
        out = np.where(a == 3, 0, a)
        out[4, 4, 4] = 3
        return out

    change(label(data, 2), one_voxel)


def coarse(data: Path) -> None:
    for of in (image, label):
        change(of(data, 2), lambda a: a, nib.load(of(data, 2)).affine @ np.diag([1, 1, 4, 1]))


def swap_files(data: Path) -> None:
    def edit(content: dict) -> None:
        one, other = content["training"][1], content["training"][2]
        one["label"], other["label"] = other["label"], one["label"]

    relist(data, edit)


def rename_label(data: Path) -> None:
    label(data, 2).rename(data / "labelsTr" / "other.nii.gz")
    relist(data, lambda c: c["training"][2].update(label="./labelsTr/other.nii.gz"))


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "unreadable": (cut, "error", "image: "),
    "grid mismatch": (move_grid, "error", "labels: image and labels lie on different grids"),
    "unknown value": (unknown_value, "error", r"unknown label value 7 in 10 voxels"),
    "odd intensities": (brighter, "warning", "95% of intensities"),
    "constant": (constant, "error", "channel image is constant"),
    "duplicate": (twice, "error", "same voxels as phantom_001"),
    "duplicate, turned": (twice_turned, "error", "same voxels as phantom_001"),
    "empty label": (empty, "warning", "core is not labelled"),
    "speck": (speck, "warning", "core has only 1 voxels"),
    "other spacing": (coarse, "warning", "voxels of 1x1x4 mm"),
    "swapped files": (swap_files, "error", "is listed with the labels of phantom_001"),
    "strange name": (rename_label, "warning", "its labels are called other"),
}


def test_a_good_dataset_has_no_finding(bank: Path) -> None:
    audit = check(bank)
    assert audit.findings == ()
    assert [c.case_id for c in audit.cases] == [f"phantom_{n:03d}" for n in range(6)]
    assert sum(audit.cases[0].label_voxels.values()) == np.prod(SHAPE)
    assert done("check", bank).out == ""


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.fault("reliability 34")
@pytest.mark.fault("reliability 47")
@pytest.mark.fault("reliability 49")
@pytest.mark.fault("reliability 54")
@pytest.mark.fault("reliability 55")
def test_a_planted_fault_is_found(data: Path, name: str) -> None:
    plant, severity, text = FAULTS[name]
    plant(data)
    counted: list[int] = []
    found = [
        f for f in check(data, on_case=lambda n, _: counted.append(n)).findings if f.case_id == "phantom_002"
    ]
    assert any(f.severity == severity and text in f.text for f in found), found
    assert counted == [1, 2, 3, 4, 5, 6]
    ran = medseg("check", data)
    strict = medseg("check", data, "--strict")
    assert (ran.code, strict.code) == (3 if severity == "error" else 0, 3)
    assert strict.err.splitlines()[-1].startswith(f"medseg: error: {data}: ")
    assert "0 errors in" not in strict.err


def test_every_copy_is_told_not_just_the_first(data: Path) -> None:
    for n in (1, 2, 3):
        shutil.copy(image(data, 0), image(data, n))
        shutil.copy(label(data, 0), label(data, n))
    errors = {f.case_id for f in check(data).errors}
    assert errors == {"phantom_001", "phantom_002", "phantom_003"}


def test_swapped_label_names_contradict_the_card(data: Path) -> None:
    relist(data, lambda c: c["labels"].update({"1": "right lobe", "2": "left lobe"}))
    assert done("check", data).code == 0, "without a card the folder's own names are believed"
    ran = medseg("check", data, "--card", "phantom")
    assert ran.code == 3
    assert "label 1 is 'right lobe' here and 'left lobe' in the card phantom" in ran.err


def test_the_audit_is_strict_json_and_names_no_path(data: Path) -> None:
    swap_files(data)
    cut(data)
    ran = medseg("check", data, "--json")
    assert ran.code == 3
    said = ran.json()
    assert said["schema"] == "medseg.audit/1"
    assert {f["severity"] for f in said["findings"]} == {"error"}
    assert len(said["cases"]) == 4
    assert str(data) not in ran.out


def test_every_missing_file_is_named(data: Path) -> None:
    label(data, 2).unlink()
    label(data, 3).unlink()
    ran = medseg("check", data)
    assert ran.code == 3
    assert "phantom_002" in ran.out
    assert "phantom_003" in ran.out
    assert "labels: there is no such file" in ran.out


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    for content in (
        None,
        "",
        "[]",
        '{"training": []}',
        '{"training": [{"image": "../../x", "label": "y"}], "labels": {}}',
    ):
        if content is not None:
            (tmp_path / "dataset.json").write_text(content)
        ran = medseg("check", tmp_path)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (3, "", 1)


@pytest.mark.fault("reliability 75")
def test_row_75_names_do_not_drive_the_terminal(data: Path) -> None:
    hostile = "a\x1b[2J"
    image(data, 2).rename(data / "imagesTr" / f"{hostile}.nii.gz")
    relist(data, lambda c: c["training"][2].update(image=f"./imagesTr/{hostile}.nii.gz"))
    ran = medseg("check", data)
    assert "\\x1b[2J" in ran.out
    assert "\x1b" not in ran.out + ran.err


@pytest.mark.realdata
def test_the_real_hippocampi_are_looked_through(data_root: Path) -> None:
    ran = done("check", data_root / "hippocampus", "--card", "hippocampus")
    odd = [line.split()[1] for line in ran.out.splitlines() if "% of intensities" in line]
    listed = json.loads((data_root / "hippocampus" / "dataset.json").read_text())["training"]
    assert ("hippocampus_044" in odd) == any("hippocampus_044" in entry["image"] for entry in listed)
    assert f"{len(listed)} cases read: 0 errors" in ran.err


def test_labels_may_be_a_mask_a_structure(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "masks", 3, 0, (16, 16, 16))
    card = replace(load_card("phantom"), layout="masks")
    assert not check(tmp_path, card).errors
