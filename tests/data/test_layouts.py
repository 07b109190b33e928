"""Folders of cases: what `dataset.json` may say, and what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.check import check
from medseg.data.layouts import LAYOUTS, detect
from medseg.data.layouts.brats import read as read_brats
from medseg.data.layouts.decathlon import read as read_decathlon
from medseg.data.layouts.description import read_json
from medseg.data.layouts.folder import read as read_images
from medseg.data.layouts.label_maps import read as read_label_maps
from medseg.data.layouts.mask_folders import mask_names
from medseg.data.layouts.masks import read as read_masks
from medseg.data.layouts.nnunet import read as read_nnunet
from medseg.data.layouts.promise12 import read as read_promise12
from medseg.data.layouts.prostatex import read as read_prostatex
from medseg.data.layouts.writing import label_names, revalued
from medseg.io import read_volume


def entry(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def make(folder: Path, **changes: Any) -> Path:
    """A dataset of two cases whose description is changed; the files are there and empty."""
    data: dict[str, Any] = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "Edema", "2": "Core"},
        "licence": "CC0",
        "training": [entry("b"), entry("a")],
    }
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            (folder / sub / f"{name}.nii.gz").touch()
    data = {k: v for k, v in (data | changes).items() if v is not None}
    (folder / "dataset.json").write_text(json.dumps(data))
    return folder


def refused(folder: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as fault:
        read_decathlon(folder)
    assert str(fault.value).startswith(str(folder))


def test_a_dataset_is_its_cases_channels_and_labels(tmp_path: Path) -> None:
    found = read_decathlon(make(tmp_path))
    assert [case.case_id for case in found.cases] == ["b", "a"]
    assert found.channels == ("FLAIR", "T1w")
    assert found.labels == {1: "Edema", 2: "Core"}
    assert found.licence == "CC0"
    first = found.cases[0]
    assert first.image == tmp_path / "imagesTr" / "b.nii.gz"
    assert first.label == tmp_path / "labelsTr" / "b.nii.gz"
    assert first.group == "b"


def test_channels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(n): f"c{n}" for n in (10, 2, 0)}
    assert read_decathlon(make(tmp_path, modality=names)).channels == ("c0", "c2", "c10")
    folder = make(tmp_path, modality=None, channel_names={"0": "CT"})
    assert read_decathlon(folder).channels == ("CT",)
    assert read_decathlon(make(tmp_path, modality=None)).channels == ("image",)


def test_a_folder_without_a_description_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "contains no dataset.json")
    (tmp_path / "dataset.json").mkdir()
    refused(tmp_path, "contains no dataset.json")
    refused(tmp_path / "missing", "contains no dataset.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", "[" * 100_000])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    make(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    refused(tmp_path, "is not (a )?JSON")


def test_a_description_in_no_known_encoding_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "dataset.json").write_bytes(b'{"training": "\xff\xfe"}')
    refused(tmp_path, "is not (a )?JSON")


@pytest.mark.parametrize(
    "changes",
    [
        {"training": None},
        {"training": "a"},
        {"training": [3]},
        {"training": [{"image": "./imagesTr/a.nii.gz"}]},
        {"labels": None},
        {"labels": ["background", "a"]},
        {"labels": {"background": 0, "a": 1, "b": 1}},
        {"modality": ["FLAIR", "T1w"]},
        {"modality": {"first": "FLAIR"}},
        {"modality": 1},
    ],
)
def test_a_description_of_another_form_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(make(tmp_path, **changes), "not a Decathlon dataset.json")


def test_no_case_is_refused(tmp_path: Path) -> None:
    refused(make(tmp_path, training=[]), "no training case")


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("name", ["../secret.nii.gz", "imagesTr/../../secret.nii.gz", "/etc/hostname"])
@pytest.mark.fault("reliability 72")
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, part: str, name: str) -> None:
    (tmp_path / "secret.nii.gz").touch()
    refused(make(tmp_path / "set", training=[entry("a") | {part: name}]), "outside the folder")


def test_a_link_to_a_file_elsewhere_is_followed_and_a_broken_one_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", training=[entry("c")])
    link = folder / "imagesTr" / "c.nii.gz"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "elsewhere.nii.gz")
    refused(folder, "names './imagesTr/c.nii.gz', which is a broken link")
    (tmp_path / "elsewhere.nii.gz").touch()
    (folder / "labelsTr" / "c.nii.gz").touch()
    assert [case.image for case in read_decathlon(folder).cases] == [link]


def test_a_folder_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    make(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert len(read_decathlon(tmp_path / "link").cases) == 2


@pytest.mark.parametrize("name", ["./imagesTr/c.nii.gz", ".", "", "a\0b.nii.gz", "x" * 5000])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    refused(make(tmp_path, training=[entry("a"), entry("b") | {"image": name}]), "does not exist")


def test_links_in_a_circle_are_not_there(tmp_path: Path) -> None:
    folder = make(tmp_path, training=[entry("c")])
    (folder / "imagesTr" / "c.nii.gz").symlink_to(folder / "imagesTr" / "c.nii.gz")
    refused(folder, "is a broken link")


def test_one_name_for_two_cases_is_refused(tmp_path: Path) -> None:
    refused(make(tmp_path, training=[entry("a"), entry("b"), entry("a")]), "lists 'a' more than once")


def test_label_maps_are_cases_of_their_own_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "labels.json", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.nii").mkdir()
    found = read_label_maps(tmp_path)
    assert [case.case_id for case in found.cases] == ["a", "b"]
    assert [case.group for case in found.cases] == ["a", "b"]
    assert all(case.image == case.label for case in found.cases)
    assert found.cases[1].image == tmp_path / "b.nii.gz"
    assert (found.channels, found.labels) == ((), {})


@pytest.mark.parametrize("names", [(), ("a.txt",)])
def test_a_folder_without_label_maps_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"contains no label map \(.nii, .nii.gz\)") as fault:
        read_label_maps(tmp_path)
    assert str(fault.value).startswith(str(tmp_path))
    with pytest.raises(InputError, match="contains no label map"):
        read_label_maps(tmp_path / "missing")


def test_one_name_for_two_label_maps_is_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="lists 'a' more than once"):
        read_label_maps(tmp_path)


YEARS = {
    "2013": ("{}", ["Flair_x", "T1_x", "T1c_x", "T2_x", "OTMultiClass", "brainmask"], {}),
    "2018": ("BraTS18_{}_1", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], {}),
    "2021": ("BraTS2021_{}", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], {}),
    "2023": ("BraTS-GLI-{}-000", ["-t2f", "-t1n", "-t1c", "-t2w", "-seg"], {3: 4}),
}
"""Of each year: a patient's folder, the files (flair, t1, t1c, t2, labels), and the relabelling."""


def patients(
    folder: Path, year: str, without: str = "", numbers: tuple[str, ...] = ("00002", "00001")
) -> Path:
    form, files, _ = YEARS[year]
    for number in numbers:
        name = form.format(number)
        (folder / name).mkdir(parents=True)
        for file in files:
            if file != without:
                stem = file if year == "2013" else name + file
                (folder / name / f"{stem}.nii.gz").touch()
    return folder


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.fault("reliability 50")
def test_brats_is_a_folder_a_patient_whatever_the_year(tmp_path: Path, year: str) -> None:
    form, files, relabel = YEARS[year]
    found = read_brats(patients(tmp_path, year))
    assert [case.case_id for case in found.cases] == [form.format("00001"), form.format("00002")]
    first = found.cases[0]
    stem = "" if year == "2013" else first.case_id
    folder = tmp_path / first.case_id
    paths = [folder / f"{stem}{file}.nii.gz" for file in files]
    assert first.channels == dict(zip(("flair", "t1", "t1c", "t2"), paths, strict=False))
    assert first.label == paths[4]
    assert first.relabel == relabel


@pytest.mark.parametrize("year", YEARS)
def test_a_brats_patient_may_lack_a_sequence_but_not_the_labels(tmp_path: Path, year: str) -> None:
    files = YEARS[year][1]
    (case, _) = read_brats(patients(tmp_path / "a", year, without=files[1])).cases
    assert list(case.channels) == ["flair", "t1c", "t2"]
    with pytest.raises(InputError, match="contains no label file"):
        read_brats(patients(tmp_path / "b", year, without=files[4]))
    (case, _) = read_brats(tmp_path / "b", complete=False).cases
    assert (case.label, case.relabel) == (None, {})


def test_brats_patients_may_lie_a_folder_deeper(tmp_path: Path) -> None:
    patients(tmp_path / "HGG", "2018", numbers=("A",))
    patients(tmp_path / "LGG", "2018", numbers=("B",))
    assert [case.case_id for case in read_brats(tmp_path).cases] == ["BraTS18_A_1", "BraTS18_B_1"]


def test_visits_of_one_brats_patient_stay_together(tmp_path: Path) -> None:
    patients(tmp_path, "2023", numbers=("00001", "00002"))
    (tmp_path / "BraTS-GLI-00001-000").rename(tmp_path / "BraTS-GLI-00001-001")
    assert [case.group for case in read_brats(tmp_path).cases] == ["BraTS-GLI-00001", "BraTS-GLI-00002"]


def test_a_folder_without_brats_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no patient folder"):
        read_brats(tmp_path / "nowhere")
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "scan.nii.gz").touch()
    with pytest.raises(InputError, match="contains no images with the names of a BRATS year"):
        read_brats(tmp_path)


def test_two_files_of_one_sequence_are_refused(tmp_path: Path) -> None:
    patients(tmp_path, "2013")
    (tmp_path / "00001" / "Flair_y.nii.gz").touch()
    with pytest.raises(InputError, match="are of the same modality"):
        read_brats(tmp_path)


def nnunet(folder: Path, cases: tuple[str, ...] = ("b", "a"), **changes: Any) -> Path:
    """A raw data set of two channels; the files are there and empty."""
    data: dict[str, Any] = {
        "channel_names": {"1": "T1w", "0": "FLAIR"},
        "labels": {"background": 0, "edema": 1, "core": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    for sub in ("imagesTr", "imagesTs", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for name in cases:
        for file in (f"imagesTr/{name}_0000", f"imagesTr/{name}_0001", f"labelsTr/{name}"):
            (folder / f"{file}.nii.gz").touch()
    data = {k: v for k, v in (data | changes).items() if v is not None}
    (folder / "dataset.json").write_text(json.dumps(data))
    return folder


def test_nnunets_cases_are_its_labels_with_a_file_a_channel(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, ("b__2", "a"))
    (folder / "imagesTs" / "t_0000.nii.gz").touch()
    found = read_nnunet(folder)
    assert (found.channels, found.labels, found.regions) == (("FLAIR", "T1w"), {1: "edema", 2: "core"}, ())
    assert [(case.case_id, case.group) for case in found.cases] == [("a", "a"), ("b__2", "b")]
    images = folder / "imagesTr"
    assert found.cases[0].channels == {"FLAIR": images / "a_0000.nii.gz", "T1w": images / "a_0001.nii.gz"}
    assert found.cases[0].label == folder / "labelsTr" / "a.nii.gz"
    (single, _) = read_nnunet(nnunet(tmp_path, channel_names={"0": "CT"})).cases[:2]
    assert (single.channels, single.image) == ({}, images / "a_0000.nii.gz")


def test_nnunets_regions_write_what_its_order_says(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    found = read_nnunet(nnunet(tmp_path, labels=labels, regions_class_order=[1, 2, 3]))
    assert found.labels == {}
    assert [(s.name, s.value, s.members) for s in found.regions] == [
        ("whole", 1, (1, 2, 3)), ("core", 2, (2, 3)), ("enhancing", 3, (3,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"background": 0, "whole": [1, 2]}},
        {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1, 2]},
        {"labels": {"background": 0, "a": 1, "b": 1}},
        {"labels": ["a"]},
        {"channel_names": None},
        {"channel_names": ["CT"]},
        {"file_ending": None},
        {"dataset": {"a": "a.nii.gz"}},
    ],
)
def test_an_nnunet_description_of_another_form_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"not an nnU-Net dataset.json"):
        read_nnunet(nnunet(tmp_path, **changes))


@pytest.mark.fault("reliability 72")
def test_an_nnunet_case_must_be_whole_and_inside(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "set")
    (folder / "imagesTr" / "a_0001.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"labelsTr/a.nii.gz: has no image imagesTr/a_0001.nii.gz; add the image"
    ):
        read_nnunet(folder)
    assert len(read_nnunet(folder, complete=False).cases) == 2
    (folder / "imagesTr" / "a_0001.nii.gz").symlink_to(tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match=r"imagesTr/a_0001.nii.gz', which is a broken link"):
        read_nnunet(folder)
    assert len(read_nnunet(folder, complete=False).cases) == 2
    (tmp_path / "x.nii.gz").touch()
    assert len(read_nnunet(folder).cases) == 2
    with pytest.raises(InputError, match="no training case"):
        read_nnunet(nnunet(tmp_path / "none", cases=()))
    with pytest.raises(InputError, match=r"contains no dataset.json"):
        read_nnunet(tmp_path / "nowhere")


def test_an_nnunet_description_may_name_its_files(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, ("a",))
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    (case,) = read_nnunet(nnunet(tmp_path, ("a",), dataset={"first": entry})).cases
    assert (case.case_id, case.image) == ("first", folder / "imagesTr" / "a_0000.nii.gz")
    few = {"first": entry | {"images": entry["images"] * 2}}
    with pytest.raises(InputError, match="lists 4 images of 'first', but 2 channels"):
        read_nnunet(nnunet(tmp_path, ("a",), dataset=few))
    out = {"first": entry | {"label": "../a.nii.gz"}}
    with pytest.raises(InputError, match="outside the folder"):
        read_nnunet(nnunet(tmp_path, ("a",), dataset=out))


def test_nnunets_colours_lie_in_one_file(tmp_path: Path) -> None:
    for name in ("imagesTr/a_0000.png", "labelsTr/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    colours = {"0": "red", "1": "green", "2": "blue"}
    (case,) = read_nnunet(nnunet(tmp_path, (), channel_names=colours, file_ending=".png")).cases
    assert (case.image, case.channels) == (tmp_path / "imagesTr" / "a_0000.png", {})


def meta_image(path: Path, voxels: bool = True) -> None:
    """A MetaImage of 2x2x1 bytes with its voxels in a .raw file, as the challenge has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 1\nElementType = MET_UCHAR\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\n"
        f"ElementDataFile = {path.stem}.raw\n"
    )
    if voxels:
        path.with_suffix(".raw").write_bytes(bytes(4))


def test_promise12_is_read_flat_and_in_folders(tmp_path: Path) -> None:
    for name in ("Case01", "Case01_segmentation", "part2/Case00", "part2/Case00_segmentation"):
        meta_image(tmp_path / f"{name}.mhd")
    found = read_promise12(tmp_path)
    assert [case.case_id for case in found.cases] == ["Case01", "Case00"]
    assert found.cases[1].image == tmp_path / "part2" / "Case00.mhd"
    assert found.cases[1].label == tmp_path / "part2" / "Case00_segmentation.mhd"
    assert read_volume(found.cases[0].image).array.shape == (1, 2, 2, 1)


def test_promise12s_test_cases_are_no_training_cases(tmp_path: Path) -> None:
    for name in ("train/Case00", "train/Case00_segmentation", "test/Case00", "test/Case01"):
        meta_image(tmp_path / f"{name}.mhd")
    (case,) = read_promise12(tmp_path).cases
    assert case.image.parent.name == "train"
    found = read_promise12(tmp_path / "test", complete=False)
    assert [(c.case_id, c.label) for c in found.cases] == [("Case00", None), ("Case01", None)]
    with pytest.raises(InputError, match="contains no segmentation"):
        read_promise12(tmp_path / "test")


def test_promise12s_files_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains no .mhd file"):
        read_promise12(tmp_path)
    meta_image(tmp_path / "a" / "Case00_segmentation.mhd")
    meta_image(tmp_path / "a" / "Case01.mhd")
    with pytest.raises(InputError, match=r"no image Case00.mhd beside it"):
        read_promise12(tmp_path)
    meta_image(tmp_path / "b" / "Case00.mhd", voxels=False)
    meta_image(tmp_path / "b" / "Case00_segmentation.mhd")
    with pytest.raises(InputError, match=r"Case00.raw: there is no such file"):
        read_promise12(tmp_path / "b")
    for folder in ("c", "d"):
        meta_image(tmp_path / "e" / folder / "Case00.mhd")
        meta_image(tmp_path / "e" / folder / "Case00_segmentation.mhd")
    with pytest.raises(InputError, match="lists 'Case00' more than once"):
        read_promise12(tmp_path / "e")


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_prostatex_pairs_images_and_masks_by_the_patients_number(tmp_path: Path) -> None:
    touched(tmp_path, "Images/ProstateX-0080_t2_tse_tra_4.nii.gz", "mask_prostate/ProstateX-080.nii.gz")
    touched(tmp_path, "Images/ProstateX-0191_t2_tse_tra_Grappa3_2.nii.gz")
    touched(tmp_path, "mask_prostate/ProstateX-0191.nii.gz", "mask_pz/ProstateX-0191_pz.nii.gz")
    found = read_prostatex(tmp_path).cases
    assert [case.case_id for case in found] == ["ProstateX-0080", "ProstateX-0191"]
    assert found[0].label == tmp_path / "mask_prostate" / "ProstateX-080.nii.gz"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Images/ProstateX-0001_t2.nii.gz", "no mask for ProstateX-0001"),
        ("mask_prostate/ProstateX-0001.nii.gz", "no image for ProstateX-0001"),
        ("mask_prostate/ProstateX-000.nii.gz", "lists 'ProstateX-0000' more than once"),
        ("Images/scan.nii.gz", "is not named ProstateX-NUMBER"),
    ],
)
def test_a_prostatex_folder_that_is_not_whole_is_refused(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(InputError, match="contains no Images"):
        read_prostatex(tmp_path)
    touched(tmp_path, "Images/ProstateX-0000_t2.nii.gz", "mask_prostate/ProstateX-0000.nii.gz", name)
    with pytest.raises(InputError, match=fault):
        read_prostatex(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("images/a__1.png", "images/a__2.tif", "masks/a__1.png", "masks/a__2.png"),
        ("images/a__1.png", "images/a__2.tif", "labels/a__1.tiff", "labels/a__2.tif"),
        ("a__1.png", "a__1_mask.png", "a__2.tif", "a__2_seg.png"),
    ],
)
def test_images_and_masks_lie_in_two_folders_or_side_by_side(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = read_images(touched(tmp_path, *names, "notes.txt"))
    assert [(case.case_id, case.group) for case in found.cases] == [("a__1", "a"), ("a__2", "a")]
    stems = [case.label.stem for case in found.cases if case.label]
    assert [stem[:4] for stem in stems] == ["a__1", "a__2"]


def test_groups_may_be_told_by_a_table(tmp_path: Path) -> None:
    touched(tmp_path, "images/x.png", "images/y.png", "masks/x.png", "masks/y.png")
    table = tmp_path / "groups.csv"
    table.write_text("file,group\nx.png,anna\ny,anna\n")
    assert [case.group for case in read_images(tmp_path).cases] == ["anna", "anna"]
    for text, fault in (
        ("file,group\nx.png,anna\n", "does not list 'y'"),
        ("file,group\nx,a\ny,b\nx,c\n", "lists 'x' in two groups"),
        ("file,group\nx,a\ny,b\nz,c\n", "lists 'z' in the group 'c'"),
        ("file,group\nx,a\ny,\n", "lists 'y' in no group; name a group"),
        ("file,group\nx,a\ny\n", "lists 'y' in no group; name a group"),
        ("patient,file\na,x\nb,y\n", "has the columns patient, file; it needs file and group; begin it with"),
        ("file;group\nx;a\n", "has the columns file;group; it needs file and group"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=fault):
            read_images(tmp_path)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ((), "neither scans nor label files"),
        (("images/a.png",), "1 image and no label file"),
        (("images/a.png", "masks/a.png", "masks/b.png"), "masks/b.png: has no image"),
        (("images/a.png", "images/a.tif", "masks/a.png"), "both the image of masks/a.png"),
        (("images/a.png", "masks/a.png", "labels/a.png"), "both labels of a"),
        (("a.png", "a_mask.png", "a_seg.png"), "both labels of a"),
        (("a_mask.png",), "no scan"),
    ],
)
def test_images_that_are_not_whole_are_refused(tmp_path: Path, names: tuple[str, ...], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read_images(touched(tmp_path, *names))


def test_a_folder_of_masks_is_the_label_of_a_case(tmp_path: Path) -> None:
    for case, scan in (("s1", "ct"), ("s0", "mri"), ("s2", "image")):
        touched(tmp_path, f"{case}/{scan}.nii.gz", f"{case}/segmentations/{case}_kidney.nii.gz")
    touched(tmp_path, "meta.csv")
    found = read_masks(tmp_path).cases
    assert [case.case_id for case in found] == ["s0", "s1", "s2"]
    assert found[0].image == tmp_path / "s0" / "mri.nii.gz"
    assert found[0].label == tmp_path / "s0" / "segmentations"
    assert mask_names(found) == ("s0_kidney", "s1_kidney", "s2_kidney")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("meta.csv",), "contains no case folder"),
        (("s0/ct.nii.gz",), "contains no mask in segmentations"),
        (("s0/segmentations/a.nii.gz",), "contains no scan"),
        (("s0/ct.nii.gz", "s0/mri.nii.gz", "s0/segmentations/a.nii.gz"), "contains both ct.nii.gz and mri"),
    ],
)
def test_a_case_of_masks_that_is_not_whole_is_refused(
    tmp_path: Path, names: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        read_masks(touched(tmp_path, *names))


def test_label_values_get_names_also_where_regions_unite_them() -> None:
    regions = (
        Structure(2, "whole", members=(1, 2, 3, 4)), Structure(1, "core", members=(1, 3, 4)),
        Structure(4, "enhancing", members=(4,)),
    )  # fmt: skip
    assert label_names(StructureSet(regions)) == {
        1: "core, value 1", 2: "whole", 3: "core, value 3", 4: "enhancing",
    }  # fmt: skip
    assert label_names(from_labels({5: "a", 3: "b"})) == {5: "a", 3: "b"}


@pytest.mark.fault("reliability 50")
def test_values_change_places_all_at_once() -> None:
    labels = LabelMap(np.array([[[0, 1, 2, 3]]], np.uint8), Grid((1, 1, 4), np.eye(4)))
    changed = revalued(labels, {1: 2, 2: 300})
    assert changed.array.tolist() == [[[0, 2, 300, 3]]]
    assert revalued(labels, {1: 1}) is labels


@pytest.mark.fault("reports 27")
@pytest.mark.parametrize("layout", ["decathlon", "nnunet"])
def test_a_comma_behind_the_last_value_is_read(tmp_path: Path, layout: str) -> None:
    folder = make(tmp_path) if layout == "decathlon" else nnunet(tmp_path)
    path = folder / "dataset.json"
    content = json.loads(path.read_text()) | {"note": 'a "quoted, ]" text, }'}
    path.write_text(json.dumps(content))
    assert detect(folder) == layout
    before = LAYOUTS[layout].read(folder)
    path.write_text(json.dumps(content, indent=1)[:-2] + ",\n}")
    with pytest.raises(json.JSONDecodeError):
        json.loads(path.read_text())
    assert detect(folder) == layout
    assert LAYOUTS[layout].read(folder) == before
    assert read_json(path)["note"] == content["note"]


@pytest.mark.fault("reports 27")
def test_a_description_at_fault_is_told_by_its_line(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {\n "1": "a"\n "2": "b"}}')
    told = refused_check(tmp_path)
    assert "dataset.json: is not JSON: Expecting ',' delimiter in line 3, column 2; correct that line" in told
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    assert "has neither 'training' (Decathlon) nor 'file_ending' (nnU-Net)" in refused_check(tmp_path)
    refused(make(tmp_path, labels=None), "is not a Decathlon dataset.json: it lacks 'labels'")


def refused_check(folder: Path) -> str:
    with pytest.raises(InputError) as fault:
        check(folder)
    return str(fault.value)


@pytest.mark.fault("reports 27")
def test_what_nnunet_people_write_is_read_where_it_is_plain(tmp_path: Path) -> None:
    expected = read_nnunet(nnunet(tmp_path))
    assert read_nnunet(nnunet(tmp_path, file_ending="nii.gz")) == expected
    capital = {"Background": 0, "edema": 1, "core": 2}
    assert read_nnunet(nnunet(tmp_path, labels=capital)) == expected
    old = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a", "b")]
    folder = nnunet(tmp_path, training=old)
    assert detect(folder) == "nnunet"
    assert read_nnunet(folder) == expected, "its list of cases names files that nobody has"
    assert read_nnunet(nnunet(tmp_path, labels={"0": "background", "1": "edema", "2": "core"})) == expected


@pytest.mark.fault("reports 27")
def test_a_list_of_training_cases_that_are_there_is_taken(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, ("a",), training=[{"image": "imagesTr/x.nii.gz", "label": "labelsTr/a.nii.gz"}])
    (folder / "imagesTr" / "x.nii.gz").touch()
    (case,) = read_nnunet(folder).cases
    assert (case.case_id, case.image, case.channels) == ("a", folder / "imagesTr" / "x.nii.gz", {})


@pytest.mark.fault("reports 27")
def test_a_decathlon_description_may_name_values_as_nnunet_does(tmp_path: Path) -> None:
    found = read_decathlon(make(tmp_path, labels={"Background": 0, "Edema": 1, "Core": 2, "ignore": 3}))
    assert (found.labels, found.ignore) == ({1: "Edema", 2: "Core"}, 3)


@pytest.mark.fault("reports 27")
def test_a_label_without_an_image_is_named(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    (folder / "labelsTr" / "c.nii.gz").touch()
    with pytest.raises(
        InputError, match=r"labelsTr/c.nii.gz: has no image imagesTr/c_0000.nii.gz; add the image"
    ):
        read_nnunet(folder)
    assert "c" in {f.case_id for f in check(folder).errors}


def patient_2020(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.fault("reports 27")
@pytest.mark.parametrize("enhanced", ["T1CE", "t1ce", "T1c", "t1Gd"])
def test_brats_names_may_have_capitals(tmp_path: Path, enhanced: str) -> None:
    parts = ("FLAIR", "T1", enhanced, "T2", "SEG")
    place = patient_2020(tmp_path / "set" / "p1", tuple(f"p1_{part}.nii.gz" for part in parts))
    assert detect(tmp_path / "set") == "brats"
    (case,) = read_brats(tmp_path / "set").cases
    assert case.channels["t1c"] == place / f"p1_{enhanced}.nii.gz"
    assert case.label == place / "p1_SEG.nii.gz"


@pytest.mark.fault("reports 23")
def test_the_mask_of_case_355_of_2020_is_taken(tmp_path: Path) -> None:
    name = "BraTS20_Training_355"
    parts = tuple(f"{name}_{part}.nii" for part in ("flair", "t1", "t1ce", "t2"))
    place = patient_2020(tmp_path / "set" / name, (*parts, "W39_1998.09.19_Segm.nii"))
    (case,) = read_brats(tmp_path / "set").cases
    assert case.label == place / "W39_1998.09.19_Segm.nii"
    assert len(case.channels) == 4


@pytest.mark.fault("reports 23")
def test_a_mask_of_any_other_name_is_named_with_what_it_should_be_called(tmp_path: Path) -> None:
    parts = ("p1_flair.nii.gz", "p1_t1.nii.gz", "drawn_by_me.nii.gz")
    place = patient_2020(tmp_path / "set" / "p1", parts)
    told = r"p1: contains no label file, but perhaps drawn_by_me.nii.gz is one; rename it to p1_seg.nii.gz"
    with pytest.raises(InputError, match=told):
        read_brats(tmp_path / "set")
    (place / "other.nii.gz").touch()
    with pytest.raises(InputError, match=r"contains no label file; add p1_seg.nii.gz, or move"):
        read_brats(tmp_path / "set")


@pytest.mark.fault("reports 27")
def test_promise12_segmentations_may_have_a_capital(tmp_path: Path) -> None:
    for name in ("Case00", "Case00_Segmentation"):
        header = f"ElementDataFile = {name}.raw"
        (tmp_path / f"{name}.mhd").write_text(header)
        (tmp_path / f"{name}.raw").touch()
    assert detect(tmp_path) == "promise12"
    (case,) = read_promise12(tmp_path, complete=False).cases
    assert (case.case_id, case.label) == ("Case00", tmp_path / "Case00_Segmentation.mhd")
