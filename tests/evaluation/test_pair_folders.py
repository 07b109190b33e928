"""Which files of two folders are paired: those of BIDS derivatives, and what is said of sub-folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from io_files import save

import medseg
from medseg.core.errors import UsageError


def segmented(root: Path, *names: str) -> Path:
    """A folder with label maps under these names."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / name, labels)
    return root


def test_bids_derivatives_are_paired_by_the_names_of_their_segmentations(tmp_path: Path) -> None:
    names = ("sub-01/anat/sub-01_dseg.nii.gz", "sub-02/ses-1/anat/sub-02_ses-1_desc-T1w_dseg.nii.gz")
    pred, ref = (segmented(tmp_path / side / "medseg", *names) for side in ("study", "ref"))
    save(ref / "sub-01" / "anat" / "sub-01_T1w.nii.gz", np.ones((6, 6, 6), np.float32))
    content = done("evaluate", pred, ref, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["sub-01_dseg", "sub-02_ses-1_desc-T1w_dseg"]
    assert content["failures"] == []
    assert "2 cases" in done("compare", pred, ref, "--no-surface").out


def test_a_result_named_after_its_scan_is_paired_with_a_segmentation_as_bids_names_it(tmp_path: Path) -> None:
    ref = segmented(
        tmp_path / "ref",
        "sub-01/anat/sub-01_dseg.nii.gz",
        "sub-02/anat/sub-02_desc-T1w_dseg.nii.gz",
        "sub-02/anat/sub-02_desc-T2w_dseg.nii.gz",
    )
    names = ("sub-01_T1w_seg.nii.gz", "sub-02_T1w_seg.nii.gz", "sub-02_T2w.nii.gz")
    pred = segmented(tmp_path / "pred", *names)
    content = done("evaluate", pred, ref, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert (content["failures"], content["warnings"], len(content["cases"])) == ([], [], 3)
    back = done("evaluate", ref, pred, "--no-surface", "--json").json()
    assert isinstance(back, dict)
    assert (back["failures"], back["warnings"], len(back["cases"])) == ([], [], 3)


def test_of_several_results_that_bids_may_mean_none_is_taken(tmp_path: Path) -> None:
    ref = segmented(tmp_path / "ref", *(f"sub-0{n}/anat/sub-0{n}_dseg.nii.gz" for n in (1, 2)))
    pred = segmented(
        tmp_path / "pred", "sub-01_T1w_seg.nii.gz", "sub-01_T2w_seg.nii.gz", "sub-02_T1w_seg.nii.gz"
    )
    content = done("evaluate", pred, ref, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["failures"]] == ["sub-01_dseg"]
    assert "none was taken of: sub-01_dseg (sub-01_T1w_seg and sub-01_T2w_seg)" in content["warnings"][0]


def test_a_table_lists_predictions_and_their_references(tmp_path: Path) -> None:
    """Whatever the files are called; a case without a prediction counts as missed."""
    segmented(tmp_path, "x/expert one.nii.gz", "y/net.nii.gz", "z/other.nii.gz")
    table = tmp_path / "pairs.csv"
    table.write_text("case,Pred,Mask\nanna,y/net.nii.gz,x/expert one.nii.gz\nbert,,z/other.nii.gz\n")
    content = done("evaluate", table, "--no-surface", "--json", "-o", tmp_path / "out").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["anna", "bert"]
    assert [case["case_id"] for case in content["failures"]] == ["bert"]
    assert (tmp_path / "out" / "cohort.html").is_file()
    assert [c.case_id for c in medseg.evaluate(table, surface=False).cases] == ["anna", "bert"]
    with pytest.raises(UsageError, match="needs a reference"):
        medseg.evaluate(np.ones((4, 4, 4), np.uint8), spacing_mm=(1.0, 1.0, 1.0))
    assert "lists the references too" in refused(2, "evaluate", table, tmp_path / "x")
    assert "needs a reference" in refused(2, "evaluate", tmp_path / "y")
    for text, fault in {
        "case,image,label\n": "has the columns case, image, label, and not prediction",
        "prediction,label\nno.nii,x/expert one.nii.gz\n": "no.nii in line 2, which does not exist",
        "prediction,label\ny/net.nii.gz,\n": "has no label in line 2",
        "case,prediction,label\n": "lists no case",
        "label,prediction\n" + "z/other.nii.gz,y/net.nii.gz\n" * 2: "lists 'other' more than once",
    }.items():
        table.write_text(text)
        assert fault in refused(3, "evaluate", table)


def test_a_table_of_a_dataset_is_a_reference(tmp_path: Path) -> None:
    segmented(tmp_path, "masks/1.nii.gz", "masks/2.nii.gz", "results/anna_seg.nii.gz", "results/bert.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("case,image,label\nanna,a.nii.gz,masks/1.nii.gz\nbert,b.nii.gz,masks/2.nii.gz\n")
    content = done("evaluate", tmp_path / "results", table, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["anna", "bert"]
    assert content["failures"] == []


def test_files_in_sub_folders_are_counted_where_none_is_paired(tmp_path: Path) -> None:
    pred = segmented(tmp_path / "pred", "deep/a.nii.gz", "deep/er/b.nii.gz")
    ref = segmented(tmp_path / "ref", "a.nii.gz")
    line = refused(2, "evaluate", pred, ref)
    assert "pred holds 2 images in sub-folders, which were not looked at" in line
    assert "ref holds" not in line


def test_labels_of_a_folder_of_own_scans_are_the_references(tmp_path: Path) -> None:
    ref = segmented(tmp_path / "scans", "masks/a.nii.gz", "masks/b.nii.gz")
    for name in ("a", "b"):
        (ref / "images").mkdir(exist_ok=True)
        save(ref / "images" / f"{name}.nii.gz", np.arange(216, dtype=np.float32).reshape(6, 6, 6))
    pred = segmented(tmp_path / "results", "a_seg.nii.gz", "b_seg.nii.gz")
    content = done("evaluate", pred, ref, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["a", "b"]


def masks(folder: Path, shift: int = 0) -> Path:
    """A folder with a mask for each of two structures."""
    folder.mkdir(parents=True)
    for place, name in enumerate(("Left Lung", "liver")):
        array = np.zeros((12, 8, 8), np.uint8)
        array[2 + 4 * place : 5 + 4 * place, 2 + shift : 6 + shift, 2:6] = 1
        save(folder / f"{name}.nii.gz", array)
    return folder


def test_folders_of_masks_are_predictions_and_references_by_the_names_of_the_masks(tmp_path: Path) -> None:
    for case in ("anna", "bert"):
        masks(tmp_path / "pred" / case, shift=1)
        masks(tmp_path / "ref" / case)
    content = done("evaluate", tmp_path / "pred", tmp_path / "ref", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["anna", "bert"]
    rows = [row for case in content["cases"] for row in case["structures"]]
    assert {row["name"]: row["metrics"]["dice"] for row in rows} == {"Left Lung": 0.75, "liver": 0.75}


@pytest.mark.parametrize("folder_is_reference", [False, True])
def test_a_folder_of_masks_is_measured_against_a_label_map_whose_values_have_names(
    tmp_path: Path, folder_is_reference: bool
) -> None:
    array = np.zeros((12, 8, 8), np.uint8)
    array[2:5, 2:6, 2:6], array[6:9, 2:6, 2:6] = 4, 9
    whole = tmp_path / "anna.nii.gz"
    save(whole, array)
    (tmp_path / "names.json").write_text('{"4": "left lung", "9": "liver"}')
    pair = [masks(tmp_path / "anna"), whole]
    words = ("--no-surface", "--json", "--labels", tmp_path / "names.json")
    content = done("evaluate", *(reversed(pair) if folder_is_reference else pair), *words).json()
    assert isinstance(content, dict)
    assert [row["metrics"]["dice"] for row in content["cases"][0]["structures"]] == [1.0, 1.0]
    assert "contains structures by name" in refused(2, "evaluate", *pair)


def test_a_folder_of_label_maps_is_no_prediction_of_one_case(tmp_path: Path) -> None:
    array = np.zeros((6, 6, 6), np.uint8)
    array[2:4, 2:4, 2:4], array[4, 4, 4] = 1, 2
    for name in ("pred/a.nii.gz", "pred/b.nii.gz", "a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, array)
    (tmp_path / "names.json").write_text('{"1": "a", "2": "b"}')
    words = ("--labels", tmp_path / "names.json")
    assert "is not a mask" in refused(3, "evaluate", tmp_path / "pred", tmp_path / "a.nii.gz", *words)


def test_a_structure_of_predictions_alone_covers_none_that_is_measured(tmp_path: Path) -> None:
    for side in ("pred", "ref"):
        masks(tmp_path / side / "anna")
    kidney = np.zeros((12, 8, 8), np.uint8)
    kidney[5:12] = 1
    save(tmp_path / "pred" / "anna" / "kidney.nii.gz", kidney)
    content = done("evaluate", tmp_path / "pred", tmp_path / "ref", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    dice = {row["name"]: row["metrics"]["dice"] for row in content["cases"][0]["structures"]}
    assert (dice["Left Lung"], dice["liver"], dice["kidney"]) == (1.0, 1.0, None)


def test_a_structure_without_a_mask_is_absent_in_a_prediction(tmp_path: Path) -> None:
    for side in ("pred", "ref"):
        masks(tmp_path / side / "anna")
        masks(tmp_path / side / "bert")
    (tmp_path / "pred" / "bert" / "liver.nii.gz").unlink()
    content = done("evaluate", tmp_path / "pred", tmp_path / "ref", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    said = " ".join(finding["sentence"] for finding in content["findings"])
    assert "The prediction has no mask of liver, which counts as absent in it." in said
    assert "unlabelled" not in said


def test_masks_of_one_case_on_both_sides_are_hinted_at(tmp_path: Path) -> None:
    pair = masks(tmp_path / "pred"), masks(tmp_path / "ref")
    hint = "if Left Lung and liver are structures of one case, give the folders that hold each case's folder"
    assert hint in done("evaluate", *pair, "--no-surface").err


def test_a_result_of_a_first_channel_belongs_to_its_case(tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    (tmp_path / "ref").mkdir()
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    save(tmp_path / "ref" / "a_01.nii.gz", labels)
    save(tmp_path / "pred" / "a_01_0000_seg.nii.gz", labels)
    content = done("evaluate", tmp_path / "pred", tmp_path / "ref", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert [case["case_id"] for case in content["cases"]] == ["a_01"]
