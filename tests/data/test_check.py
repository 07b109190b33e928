"""`check` finds what is wrong with a dataset, and the command says so with its exit code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, refused

from medseg.core.errors import InputError, UsageError
from medseg.data.cards import load_card
from medseg.data.cases import of_file
from medseg.data.check import check
from medseg.data.phantom import write_phantom_dataset, write_phantoms

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
    "unknown value": (unknown_value, "error", "labels: unknown label values 7 (10 voxels)"),
    "odd intensities": (brighter, "warning", "95 % of intensities"),
    "constant": (constant, "error", "image: channel 'image' is constant: every voxel is 1"),
    "duplicate": (twice, "error", "same voxels as phantom_001"),
    "duplicate, turned": (twice_turned, "error", "same voxels as phantom_001"),
    "empty label": (empty, "warning", "core is not labelled"),
    "speck": (speck, "warning", "core has fewer than 10 voxels (1)"),
    "other spacing": (coarse, "warning", "its voxels differ from the median case's of 1x1x1 mm (1x1x4 mm)"),
    "swapped files": (swap_files, "error", "is listed with the labels of phantom_001"),
    "strange name": (rename_label, "warning", "its label file has another name (other)"),
}


def test_a_good_dataset_has_no_issue(bank: Path) -> None:
    audit = check(bank)
    assert audit.issues == ()
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
        f for f in check(data, on_case=lambda n, _: counted.append(n)).issues if f.case_id == "phantom_002"
    ]
    assert any(f.severity == severity and text in f"{f.text} ({f.detail})" for f in found), found
    assert counted == [1, 2, 3, 4, 5, 6]
    ran = medseg("check", data)
    strict = medseg("check", data, "--strict")
    assert (ran.code, strict.code) == (3 if severity == "error" else 0, 3)
    assert strict.err.splitlines()[-1].startswith(f"medseg: error: {data}: ")
    assert "0 errors in" not in strict.err


def told_of(data: Path, n: int = 2) -> list[str]:
    """The errors of a case, each with the file that has it."""
    return [issue.text for issue in check(data).errors if issue.case_id == f"phantom_{n:03d}"]


def own_values(data: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Labels with other values, as numbers with digits after the point."""
    change(label(data, 2), lambda a: edit(a.astype(np.float32)))


def half(array: np.ndarray) -> np.ndarray:
    array[0, 0, 0] = 0.5
    return array


def seven_and_half(array: np.ndarray) -> np.ndarray:
    array[1, :2, 0] = 7
    return half(array)


OFF_GRID = "labels: image and labels lie on different grids: "
CONSTANT = "image: channel 'image' is constant: every voxel is 1"
HALF = "labels: a label is 0.5, which is not an integer"
SEVEN = "labels: unknown label values 7 (2 voxels)"


def test_every_fault_of_a_case_is_told_at_once(data: Path) -> None:
    own_values(data, seven_and_half)
    move_grid(data)
    constant(data)
    found = told_of(data)
    assert len(found) == 4
    for text in (OFF_GRID, CONSTANT, HALF, SEVEN):
        assert sum(line.startswith(text) for line in found) == 1, text


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        ((move_grid, unknown_value), (OFF_GRID, "labels: unknown label values 7 (10 voxels)")),
        ((constant, move_grid), (CONSTANT, OFF_GRID)),
        ((cut, move_grid), ("image: ", OFF_GRID)),
        ((cut, unknown_value), ("image: ", "labels: unknown label values 7 (10 voxels)")),
        ((constant, unknown_value), (CONSTANT, "labels: unknown label values 7 (10 voxels)")),
        ((lambda data: own_values(data, half),), (HALF,)),
        ((move_grid,), (OFF_GRID,)),
        ((cut,), ("image: ",)),
    ],
)
def test_faults_that_are_there_are_told_once_and_no_others(
    data: Path, plant: tuple[Callable[[Path], None], ...], told: tuple[str, ...]
) -> None:
    for one in plant:
        one(data)
    found = told_of(data)
    assert len(found) == len(told), found
    assert all(any(line.startswith(text) for line in found) for text in told), found


def test_a_file_that_is_missing_hides_no_fault_of_the_other(data: Path) -> None:
    image(data, 2).unlink()
    unknown_value(data)
    assert told_of(data) == [
        "image: there is no such file",
        "labels: unknown label values 7 (10 voxels)",
    ]
    image(data, 3).write_bytes(b"x" * 400)
    label(data, 3).unlink()
    assert sorted(line.split(":")[0] for line in told_of(data, 3)) == ["image", "labels"]


def test_every_channel_that_is_damaged_is_told(tumours: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tumours, tmp_path / "data"))
    patient = sorted(p for p in data.iterdir() if p.is_dir())[1]
    for name in ("flair", "t2"):
        channel(patient, name).write_bytes(b"\x1f\x8b")
    change(patient / f"{patient.name}_seg.nii.gz", lambda a: np.where(a == 1, 9, a))
    flair, t2, labels = sorted(issue.text for issue in check(data).errors)
    assert flair == "channel flair: the compressed data are cut off"
    assert t2 == "channel t2: the compressed data are cut off"
    assert labels.startswith("labels: unknown label values 9 (")


def test_an_image_in_place_of_labels_is_not_told_value_by_value(data: Path) -> None:
    for edit in (lambda a: a, lambda a: a + 0.25 * (a > a.max() - 1)):
        shutil.copy(image(data, 2), label(data, 2))
        change(label(data, 2), lambda a, edit=edit: edit(np.round(a.astype(np.float64) * 10)))
        found = told_of(data)
        assert any(re.search(r"^labels: unknown label values .* and \d+ more$", text) for text in found)
        assert max(map(len, found)) < 300


def test_the_last_line_counts_cases_and_what_is_listed(data: Path) -> None:
    own_values(data, seven_and_half)
    move_grid(data)
    change(label(data, 3), lambda a: np.where(a == 3, 0, a).astype(np.uint8))
    change(label(data, 4), lambda a: np.where(a == 3, 0, a).astype(np.uint8))
    ran = medseg("check", data)
    assert "6 cases, 1 with errors; the list has 3 errors and 1 warning" in ran.err
    assert f"{data}: contains 3 errors" in ran.err
    assert "2 of 6 cases (phantom_003 and phantom_004)" in ran.out


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
    assert {f["severity"] for f in said["issues"]} == {"error"}
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
    ran = done("check", data_root / "hippocampus", "--card", "hippocampus", "--json")
    odd = [f["case_id"] for f in ran.json()["issues"] if "% of intensities" in f["text"]]
    listed = json.loads((data_root / "hippocampus" / "dataset.json").read_text())["training"]
    assert ("hippocampus_044" in odd) == any("hippocampus_044" in entry["image"] for entry in listed)
    assert len(ran.json()["cases"]) == len(listed)
    assert not [f for f in ran.json()["issues"] if f["severity"] == "error"]


def test_labels_may_be_a_mask_a_structure(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "masks", 3, 0, (16, 16, 16))
    card = replace(load_card("phantom"), layout="masks")
    assert not check(tmp_path, card).errors


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumours")
    write_phantoms(folder, "brats2020", 4, 0, (16, 16, 16))
    return folder


TUMOUR_RECIPE = """
name = "tumours"
card = "brats"
channels = [{channels}]

[network]
name = "unet3d"
widths = [2, 4]

[loss]
name = "bce_dice"

[training]
patch = [8, 8, 8]
epochs = 1
steps_per_epoch = 1
selection_share = 0.0
"""


def channel(patient: Path, name: str) -> Path:
    return patient / f"{patient.name}_{name}.nii.gz"


@pytest.mark.fault("reports 22")
@pytest.mark.parametrize("asked", [("--card", "brats"), (), ("--recipe",)], ids=["card", "layout", "recipe"])
def test_check_and_train_judge_a_case_that_lacks_a_channel_alike(
    tumours: Path, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    data = Path(shutil.copytree(tumours, tmp_path / "data"))
    patient = sorted(p for p in data.iterdir() if p.is_dir())[1]
    channel(patient, "t1ce").unlink()
    recipes = {}
    for key, names in (("with", '"flair", "t1c"'), ("without", '"flair", "t1"')):
        recipes[key] = tmp_path / f"{key}.toml"
        recipes[key].write_text(TUMOUR_RECIPE.format(channels=names))
    ran = medseg("check", data, *asked, *([recipes["with"]] if asked == ("--recipe",) else ()))
    assert ran.code == 3
    assert [line.split()[:2] for line in ran.out.splitlines() if line.startswith("error")] == [
        ["error", patient.name]
    ]
    told = "has no t1c (it has flair, t1, t2)"
    assert told in ran.out
    words = ("--data", data, "--folds", 2, "--threads", 1, "-q")
    refused = medseg("train", recipes["with"], *words, "-o", tmp_path / "run")
    assert (refused.code, told in refused.err) == (3, True)
    if asked == ("--recipe",):
        assert "error" not in done("check", data, "--recipe", recipes["without"]).out
        assert done("train", recipes["without"], *words, "-o", tmp_path / "run").err == ""


@pytest.mark.fault("reports 22")
def test_channels_that_no_case_has_are_said_once(tumours: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tumours, tmp_path / "data"))
    for path in data.glob("*/*_t2.nii.gz"):
        path.unlink()
    ran = done("check", data)
    told = 'no case has t2: a recipe must name the others, channels = ["flair", "t1", "t1c"]'
    assert ran.out.count("t2") == ran.out.count(told) == 1


@pytest.mark.fault("reports 22")
def test_labels_of_another_case_are_refused_by_train_too(data: Path, tmp_path: Path) -> None:
    swap_files(data)
    ran = medseg("train", "phantom_unet3d", "--data", data, "-o", tmp_path / "run", "-q")
    assert ran.code == 3
    assert "phantom_001.nii.gz: is listed with the labels of phantom_002" in ran.err


@pytest.mark.fault("reports 20")
def test_a_structure_that_no_case_has_is_said_of_the_whole(data: Path) -> None:
    for n in range(6):
        change(label(data, n), lambda a: np.where(a == 3, 0, a).astype(np.uint8))
    issues = check(data).issues
    assert [(f.severity, f.text) for f in issues] == [
        ("warning", "no case has a voxel of core, so it cannot be learned")
    ]
    for n in range(6):
        change(label(data, n), np.zeros_like)
    (issue,) = check(data).errors
    assert issue.text == "no case has a voxel of any structure (left lobe, right lobe, core)"


def test_what_can_be_done_stands_below_each_fault(data: Path) -> None:
    cut(data)
    for of in (image, label):
        shutil.copy(of(data, 1), of(data, 4))
    lines = done_with_errors(data).splitlines()
    (fault,) = (n for n, line in enumerate(lines) if "the compressed data are cut off" in line)
    assert lines[fault + 1] == "         hint: re-copy it"
    (copy,) = (n for n, line in enumerate(lines) if "same voxels" in line)
    assert lines[copy + 1] == "         hint: remove one of the two cases"
    issues = medseg("check", data, "--json").json()["issues"]  # type: ignore[index]
    assert {issue["hint"] for issue in issues} == {"re-copy it", "remove one of the two cases"}


def test_a_hint_offers_no_option_that_check_lacks(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = InputError("is odd", hint="correct it, or add --overwrite")
    monkeypatch.setattr("medseg.data.check.swapped_labels", lambda cases: [of_file(fault, cases[0].image)])
    assert "         hint: correct it" in done_with_errors(data).splitlines()


def done_with_errors(data: Path) -> str:
    """What `check` lists of a dataset at fault."""
    ran = medseg("check", data)
    assert ran.code == 3, ran.err
    return ran.out


def test_names_that_a_table_states_are_no_oddity(bank: Path, tmp_path: Path) -> None:
    """Nor are spaces and commas, which one of two programs may have written otherwise."""
    table = tmp_path / "cases.csv"
    rows = [f"P{n},{image(bank, n)},{label(bank, n)}" for n in range(6)]
    table.write_text("\n".join(["case,image,label", *rows]) + "\n")
    assert done("check", table).out == ""
    for n in range(6):
        shutil.copy(label(bank, n), tmp_path / f"liver {n}.nii.gz")
    rows = [f'"Doe, J. {n}",{image(bank, n)},liver {n}.nii.gz' for n in range(6)]
    table.write_text("\n".join(["case,image,label", *rows]) + "\n")
    assert done("check", table).out == ""


def test_a_card_and_a_recipe_are_one_answer_too_many(bank: Path) -> None:
    assert refused(2, "check", bank, "--card", "phantom", "--recipe", "phantom_unet3d")


def test_labels_without_a_scan_are_told_with_their_folder(data: Path) -> None:
    (data / "dataset.json").unlink()
    image(data, 2).unlink()
    told = [issue.text for issue in check(data).errors]
    assert told == ["labelsTr/phantom_002.nii.gz is part of no case: it has no image"]


def test_maps_of_instances_are_looked_at(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "d", "touching", 3, 0)
    card = load_card("bodies")
    assert not [i for i in check(tmp_path / "d", card).issues if "instances" in i.text]
    one, two, three = sorted((tmp_path / "d" / "labelsTr").glob("*_inst.nii.gz"))
    change(one, np.zeros_like)
    change(two, lambda array: array[:, :, :-4])
    three.unlink()
    said = {i.case_id: (i.severity, i.text) for i in check(tmp_path / "d", card).issues if i.case_id}
    kinds = [said[name.name.removesuffix("_inst.nii.gz")] for name in (one, two, three)]
    assert [severity for severity, _ in kinds] == ["warning", "error", "error"]
    assert "labels: The map of instances does not fit the labels: it has" in kinds[0][1]
    assert kinds[1][1].startswith("map of instances: ")
    assert "has no map of instances beside it" in kinds[2][1]


def test_values_that_are_objects_are_no_unknown_labels(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "d", cases=3, shape=SHAPE)
    card = load_card("phantom")
    relist(tmp_path / "d", lambda content: content.update(labels={"background": 0, "left lobe": 1}))
    one = replace(card, structures=card.structures[:1], instances="values")
    assert not [i.text for i in check(tmp_path / "d", one).issues if "unknown label" in i.text]
    with pytest.raises(UsageError, match="makes each label value an object of one structure"):
        check(tmp_path / "d", replace(card, instances="values"))
