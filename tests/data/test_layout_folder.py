"""The layout `folder`: scans and label files in the arrangements that people use."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.core.errors import InputError
from medseg.data.layouts import detect, layout_of, read_layout
from medseg.data.layouts.case import DatasetFiles
from medseg.data.layouts.mask_folders import mask_names


def found(folder: Path, *names: str, complete: bool = True) -> DatasetFiles:
    """What is read of a folder with files of these names, which hold nothing of use."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    return read_layout(folder, layout_of(folder), complete=complete)


def listed(dataset: DatasetFiles, folder: Path) -> dict[str, tuple[list[str], str]]:
    """Images and labels of each case, by their paths in the folder."""
    cases = {}
    for case in dataset.cases:
        images = list(case.channels.values()) or [case.image]
        label = "" if case.label is None else case.label.relative_to(folder).as_posix()
        cases[case.case_id] = ([path.relative_to(folder).as_posix() for path in images], label)
    return cases


SHAPES: dict[str, tuple[list[str], dict[str, tuple[list[str], str]]]] = {
    "two folders": (
        ["images/la_01.nii.gz", "images/la_02.nii.gz", "masks/la_01.nii.gz", "masks/la_02.nii.gz"],
        {
            "la_01": (["images/la_01.nii.gz"], "masks/la_01.nii.gz"),
            "la_02": (["images/la_02.nii.gz"], "masks/la_02.nii.gz"),
        },
    ),
    "side by side, and of two formats": (
        ["a.nii.gz", "a_mask.nii.gz", "b.mha", "b_mask.nrrd", "README.md"],
        {"a": (["a.nii.gz"], "a_mask.nii.gz"), "b": (["b.mha"], "b_mask.nrrd")},
    ),
    "ground truth": (
        ["p1.nii.gz", "p1_ground_truth.nii.gz", "P2.nii.gz", "P2-GT.nii.gz"],
        {"p1": (["p1.nii.gz"], "p1_ground_truth.nii.gz"), "P2": (["P2.nii.gz"], "P2-GT.nii.gz")},
    ),
    "a folder a patient": (
        ["anna/image.nii.gz", "anna/seg.nii.gz", "ben/image.nii.gz", "ben/seg.nii.gz"],
        {
            "anna": (["anna/image.nii.gz"], "anna/seg.nii.gz"),
            "ben": (["ben/image.nii.gz"], "ben/seg.nii.gz"),
        },
    ),
    "a folder a patient, any names": (
        ["anna/exam_301.nii", "anna/expert_label.nii", "ben/exam_77.nii", "ben/expert_label_final.nii"],
        {
            "anna": (["anna/exam_301.nii"], "anna/expert_label.nii"),
            "ben": (["ben/exam_77.nii"], "ben/expert_label_final.nii"),
        },
    ),
    "channels by file name": (
        [f"{p}/{n}.nii.gz" for p in ("p1", "p2") for n in ("flair", "t1", "seg")],
        {p: ([f"{p}/flair.nii.gz", f"{p}/t1.nii.gz"], f"{p}/seg.nii.gz") for p in ("p1", "p2")},
    ),
    "channels by suffix, in folders": (
        [f"scans/{p}_{n}.nii.gz" for p in ("p1", "p2") for n in ("T2w", "ADC")]
        + ["labels/p1.nii.gz", "labels/p2.nii.gz"],
        {p: ([f"scans/{p}_ADC.nii.gz", f"scans/{p}_T2w.nii.gz"], f"labels/{p}.nii.gz") for p in ("p1", "p2")},
    ),
    "nnU-Net's folders without a dataset.json": (
        ["imagesTr/c_0001.nii.gz", "imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz", "imagesTs/d_0000.nii.gz"],
        {"c": (["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz"], "labelsTr/c.nii.gz")},
    ),
    "Decathlon's folders without a dataset.json": (
        ["imagesTr/c.nii.gz", "labelsTr/c.nii.gz"],
        {"c": (["imagesTr/c.nii.gz"], "labelsTr/c.nii.gz")},
    ),
    "volume and segmentation by number": (
        ["volume-0.nii", "segmentation-0.nii", "volume-1.nii", "segmentation-1.nii"],
        {"0": (["volume-0.nii"], "segmentation-0.nii"), "1": (["volume-1.nii"], "segmentation-1.nii")},
    ),
    "another first and last word": (
        ["mr/T2_001.nii", "mr/T2_002.nii", "labels/expert_001_v2.nii", "labels/expert_002_v2.nii"],
        {
            "mr_T2_001": (["mr/T2_001.nii"], "labels/expert_001_v2.nii"),
            "mr_T2_002": (["mr/T2_002.nii"], "labels/expert_002_v2.nii"),
        },
    ),
    "spaces, commas and brackets": (
        [f"{role}/Doe, {name} (2).nii" for role in ("images", "masks") for name in ("Jane", "John A.")],
        {
            f"Doe, {name} (2)": ([f"images/Doe, {name} (2).nii"], f"masks/Doe, {name} (2).nii")
            for name in ("Jane", "John A.")
        },
    ),
    "visits": (
        ["anna/v1/image.nii", "anna/v1/seg.nii", "anna/v2/image.nii", "anna/v2/seg.nii"],
        {
            "anna_v1": (["anna/v1/image.nii"], "anna/v1/seg.nii"),
            "anna_v2": (["anna/v2/image.nii"], "anna/v2/seg.nii"),
        },
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_folder_of_any_usual_shape_is_read(shape: str, tmp_path: Path) -> None:
    names, expected = SHAPES[shape]
    assert listed(found(tmp_path, *names), tmp_path) == expected


def test_one_case_has_the_name_of_its_folder(tmp_path: Path) -> None:
    dataset = found(tmp_path / "knee", "image.nii.gz", "mask.nii.gz")
    assert listed(dataset, tmp_path / "knee") == {"knee": (["image.nii.gz"], "mask.nii.gz")}


def test_channels_have_the_names_of_their_files(tmp_path: Path) -> None:
    names, _ = SHAPES["channels by file name"]
    assert found(tmp_path, *names).channels == ("flair", "t1")


def test_numbered_channels_keep_their_order(tmp_path: Path) -> None:
    names, _ = SHAPES["nnU-Net's folders without a dataset.json"]
    dataset = found(tmp_path, *names)
    assert dataset.channels == ("channel_0", "channel_1")
    assert [path.name for path in dataset.cases[0].channels.values()] == ["c_0000.nii.gz", "c_0001.nii.gz"]


def test_scans_without_labels_are_left_aside_with_the_reason(tmp_path: Path) -> None:
    names, _ = SHAPES["nnU-Net's folders without a dataset.json"]
    assert found(tmp_path, *names).aside == ((tmp_path / "imagesTs/d_0000.nii.gz", "it has no label file"),)


def test_visits_are_of_one_person(tmp_path: Path) -> None:
    names, _ = SHAPES["visits"]
    assert {case.group for case in found(tmp_path, *names).cases} == {"anna"}


ONE_PERSON: dict[str, tuple[list[str], list[str]]] = {
    "frames of a patient": (
        [f"p{n}/p{n}_frame0{f}{m}.nii" for n in (0, 1) for f in (1, 2) for m in ("", "_gt")],
        ["p0", "p0", "p1", "p1"],
    ),
    "before and after, and a patient with one scan": (
        [f"{scan}{m}.nii" for scan in ("anna/pre", "anna/post", "ben/a") for m in ("", "_mask")],
        ["anna", "anna", "ben"],
    ),
    "patients inside folders of roles": (
        [f"{role}/{p}/{n}.nii" for role in ("images", "masks") for p in ("anna", "ben") for n in (1, 2)],
        ["anna", "anna", "ben", "ben"],
    ),
    "one folder with all cases": (
        [f"hospital/{n}{m}.nii" for n in "ab" for m in ("", "_mask")],
        ["hospital_a", "hospital_b"],
    ),
    "parts of a dataset": (
        [f"{part}/{role}/{n}.nii" for part in ("test", "train") for role in ("img", "seg") for n in "ab"],
        ["test_a", "test_b", "train_a", "train_b"],
    ),
    "parts of one name": (
        [f"BRATS_{part}/{n}{m}.nii" for part in ("train", "test") for n in "ab" for m in ("", "_mask")],
        ["BRATS_test_a", "BRATS_test_b", "BRATS_train_a", "BRATS_train_b"],
    ),
    "two folders at the top": (["images/a.nii", "images/b.nii", "masks/a.nii", "masks/b.nii"], ["a", "b"]),
    "names that begin alike": (
        [f"{role}/{n}.nii" for role in ("images", "masks") for n in ("anna__1", "anna__2", "ben__1")],
        ["anna", "anna", "ben"],
    ),
    "a mark behind a word of a role": (
        [f"{role}__{n}.nii" for role in ("image", "mask") for n in (1, 2)],
        ["1", "2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", ONE_PERSON)
def test_scans_of_a_person_are_one_group(shape: str, tmp_path: Path) -> None:
    names, groups = ONE_PERSON[shape]
    assert sorted(case.group for case in found(tmp_path, *names).cases) == groups


PARTS: dict[str, tuple[list[str], list[str]]] = {
    "train/ and test/": (
        [f"{part}/{role}/{n}.nii" for part in ("train", "Testing") for role in ("img", "seg") for n in "ab"],
        ["Testing_a", "Testing_b"],
    ),
    "imagesTs/ and labelsTs/": (
        [f"{role}{part}/{part}1.nii" for role in ("images", "labels") for part in ("Tr", "Ts")],
        ["Ts1"],
    ),
    "folders that differ in that word alone": (
        [f"BRATS_{part}/{n}/{f}.nii" for part in ("train", "test") for n in "ab" for f in ("t1", "seg")],
        ["BRATS_test_a", "BRATS_test_b"],
    ),
    "files that differ in that word": (
        [f"{role}/{n}.nii" for role in ("images", "masks") for n in ("train_1", "train_2", "test_1")],
        ["test_1"],
    ),
    "a validation part": (
        [f"{part}/{n}.nii" for part in ("train", "val", "test set") for n in ("a", "a_mask")],
        ["test set_a"],
    ),
    "a person of these initials": ([f"{p}/{n}.nii" for p in ("ts", "ab") for n in ("image", "seg")], []),
    "a word of other names": (
        [f"{p}/{n}.nii" for p in ("stress_test", "rest") for n in ("image", "seg")],
        [],
    ),
}


@pytest.mark.parametrize("shape", PARTS)
def test_no_training_sees_a_test_case(shape: str, tmp_path: Path) -> None:
    names, tests = PARTS[shape]
    dataset = found(tmp_path, *names)
    assert sorted(case.case_id for case in dataset.cases if case.part == "test") == tests
    kept = dataset.for_training()
    assert [c.case_id for c in kept.cases] == [c.case_id for c in dataset.cases if c.case_id not in tests]
    assert [why for _, why in kept.aside] == [
        "it is a test case by its folder or name, which no training sees"
    ] * len(tests)


def test_test_cases_alone_train_where_their_own_folder_is_given(tmp_path: Path) -> None:
    names = [f"test/{role}/{n}.nii" for role in ("images", "masks") for n in "ab"]
    with pytest.raises(InputError, match="is a test case by its folder, as every case is") as caught:
        found(tmp_path, *names).for_training()
    assert caught.value.hint == "give the folder of the test cases itself to train on them"
    assert len(read_layout(tmp_path / "test", "folder").for_training().cases) == 2


def test_groups_are_those_of_their_table(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("file,group\na,anna\nb.mha,anna\n")
    names, _ = SHAPES["side by side, and of two formats"]
    assert [case.group for case in found(tmp_path, *names).cases] == ["anna", "anna"]


def test_results_of_medseg_are_no_cases(tmp_path: Path) -> None:
    dataset = found(tmp_path, "a.nii", "a_mask.nii", "a_seg.nii", "a_seg.json", "a_overlay.png")
    assert listed(dataset, tmp_path) == {"a": (["a.nii"], "a_mask.nii")}


MASKS: dict[str, tuple[list[str], dict[str, tuple[list[str], str]]]] = {
    "in a folder beside the scan": (
        [f"{p}/{n}.nii" for p in "ab" for n in ("scan_1", "masks/liver", "masks/spleen")],
        {p: ([f"{p}/scan_1.nii"], f"{p}/masks") for p in "ab"},
    ),
    "in a folder beside several channels": (
        [f"{p}/{n}.nii" for p in "ab" for n in ("t1", "flair", "labels/liver", "labels/spleen")],
        {p: ([f"{p}/flair.nii", f"{p}/t1.nii"], f"{p}/labels") for p in "ab"},
    ),
    "in a folder a case": (
        ["images/a.nii", "images/b.nii", *(f"masks/{p}/{n}.nii" for p in "ab" for n in ("liver", "spleen"))],
        {p: ([f"images/{p}.nii"], f"masks/{p}") for p in "ab"},
    ),
    "beside the scan": (
        [f"{p}/{n}.nii" for p in ("ann", "bob") for n in ("image", "liver", "spleen")],
        {p: ([f"{p}/image.nii"], p) for p in ("ann", "bob")},
    ),
    "beside the scan, marked, and not all": (
        ["a/ct.nii", "a/liver_mask.nii", "a/spleen_mask.nii", "b/ct.nii", "b/liver_mask.nii"],
        {p: ([f"{p}/ct.nii"], p) for p in "ab"},
    ),
    "beside the scan, numbered": (
        [f"{p}/{n}.nii" for p in ("p1", "p2") for n in ("scan", "rib1", "rib2")],
        {p: ([f"{p}/scan.nii"], p) for p in ("p1", "p2")},
    ),
    "below parts": (
        [
            f"{p}/x/{n}.nii"
            for p in ("train", "val")
            for n in ("ct", "segmentations/liver", "segmentations/kidney")
        ],
        {f"{p}_x": ([f"{p}/x/ct.nii"], f"{p}/x/segmentations") for p in ("train", "val")},
    ),
    "of one person": (
        ["scan.nii", "masks/liver.nii", "masks/spleen.nii"],
        {"one": (["scan.nii"], "masks")},
    ),
}


@pytest.mark.parametrize("shape", MASKS)
def test_one_mask_a_structure_is_the_label_of_its_case(shape: str, tmp_path: Path) -> None:
    names, expected = MASKS[shape]
    expected = expected if len(expected) > 1 else {tmp_path.name: next(iter(expected.values()))}
    dataset = found(tmp_path, *names)
    assert {name.removesuffix("_1"): files for name, files in listed(dataset, tmp_path).items()} == expected
    assert set(mask_names(dataset.cases)) <= {
        "liver",
        "spleen",
        "kidney",
        "liver_mask",
        "spleen_mask",
        "rib1",
        "rib2",
    }
    assert len(mask_names(dataset.cases)) == 2


NO_MASKS: dict[str, list[str]] = {
    "of several readers": [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "masks/reader1", "masks/reader2")],
    "numbers": [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "masks/1", "masks/2")],
    "names that do not recur": ["a/ct.nii", "a/x.nii", "a/y.nii", "b/ct.nii", "b/v.nii", "b/w.nii"],
    "scans of several dates": [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "before", "after")],
    "numbered scans": [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "scan1", "session2")],
    "numbers behind a letter": [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "s1", "s2")],
    "two scans of a case": [f"{p}/{n}.nii" for p in "ab" for n in ("x", "y", "masks/liver", "masks/spleen")],
}


@pytest.mark.parametrize("shape", NO_MASKS)
def test_what_may_be_other_than_masks_is_a_question(shape: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        found(tmp_path, *NO_MASKS[shape])
    assert caught.value.hint


def test_label_files_and_folders_of_masks_are_not_mixed(tmp_path: Path) -> None:
    names = [f"{p}/{n}.nii" for p in "ab" for n in ("ct", "masks/liver", "masks/spleen")]
    dataset = found(tmp_path, *names, "c/ct.nii", "c/seg.nii")
    with pytest.raises(InputError, match=r"c/seg\.nii: is a label file, and .*a/masks a folder with a mask"):
        mask_names(dataset.cases)


AMBIGUOUS: dict[str, tuple[list[str], str]] = {
    "two label files of a scan": (["a.nii", "a_mask.nii", "a_seg.nii"], "are both labels of a"),
    "two folders of labels": (
        ["images/a.nii", "labels/a.nii", "masks/a.nii"],
        "labels/a.nii and masks/a.nii are both labels of a; move one of the two elsewhere",
    ),
    "two names that are alike without their breaks": (
        ["p 0/image.nii", "p 0/seg.nii", "p_0/image.nii", "p_0/seg.nii"],
        "p 0/seg.nii and p_0/seg.nii are both labels of p_0",
    ),
    "a second folder of labels by number": (
        ["images/a.nii", "masks/a.nii", "masks2/a.nii"],
        "masks2/a.nii: has no image by its name",
    ),
    "a mask a structure": (
        ["a.nii", "a_liver_mask.nii", "a_tumour_mask.nii", "b.nii", "b_liver_mask.nii"],
        "no two belong together by their names",
    ),
    "two scans of one mask": (
        ["p/first.nii", "p/second.nii", "p/seg.nii"],
        "first.nii and second.nii both belong to seg.nii by their names: they may be two channels",
    ),
    "two folders of equal names": (["mr/a.nii", "expert/a.nii"], "expert/ and mr/ with the same names"),
    "a folder a patient": (
        [f"{p}/{n}.nii" for p in "abc" for n in ("ct", "s1")],
        "contains 6 images and no label file by its name, such as a/ct.nii",
    ),
    "scans alone": (["a.nii", "b.nii"], "contains 2 images and no label file by its name"),
    "labels alone": (["masks/a.nii", "masks/b.nii"], "contains 2 label files and no scan"),
    "nothing": (["notes.txt"], "contains neither scans nor label files"),
    "names that have nothing in common": (
        ["images/x.nii", "images/y.nii", "masks/1.nii", "masks/2.nii"],
        "no two belong together by their names, such as images/x.nii and masks/1.nii",
    ),
    "a case without a channel": (
        ["p1/t1.nii", "p1/t2.nii", "p1/seg.nii", "p2/t1.nii", "p2/seg.nii"],
        "p2 has t1, and other cases have t1, t2",
    ),
    "labels without their scan": (
        ["images/a.nii", "masks/a.nii", "masks/b.nii"],
        "masks/b.nii: has no image by its name",
    ),
    "one scan in two formats": (
        ["images/a.nii", "images/a.mha", "masks/a.nii"],
        "images/a.mha and images/a.nii are both the image of masks/a.nii",
    ),
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_a_question(shape: str, tmp_path: Path) -> None:
    names, fault = AMBIGUOUS[shape]
    with pytest.raises(InputError) as caught:
        found(tmp_path, *names)
    assert fault in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_labels_without_a_scan_are_left_aside_where_a_dataset_may_be_incomplete(tmp_path: Path) -> None:
    names, _ = AMBIGUOUS["labels without their scan"]
    dataset = found(tmp_path, *names, complete=False)
    assert dataset.aside == ((tmp_path / "masks/b.nii", "it has no image"),)


def test_folder_is_never_told_by_its_names(tmp_path: Path) -> None:
    names, _ = SHAPES["two folders"]
    found(tmp_path, *names)
    assert detect(tmp_path) is None


def test_names_of_labels_are_those_of_a_description_that_has_no_more(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "ignore": 2}}')
    names, _ = SHAPES["Decathlon's folders without a dataset.json"]
    dataset = found(tmp_path, *names)
    assert (dataset.labels, dataset.ignore) == ({1: "liver"}, 2)


def test_description_of_labels_at_fault_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1, "spleen": 1}}')
    names, _ = SHAPES["Decathlon's folders without a dataset.json"]
    with pytest.raises(InputError, match="the value 1 has two names"):
        found(tmp_path, *names)


def test_scans_without_labels_are_cases_where_that_is_asked_for(tmp_path: Path) -> None:
    """As `check`, and `convert --unlabelled`, do; a training leaves them aside."""
    for name in ("images/a.nii", "images/b.nii", "masks/a.nii", "masks/c.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_layout(tmp_path, "folder", complete=False)
    assert [(case.case_id, case.label is None) for case in found.cases] == [("a", False), ("b", True)]
    assert [(path.name, why) for path, why in found.aside] == [("c.nii", "it has no image")]
