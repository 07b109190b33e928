"""Folders of cases: what `dataset.json` may say, and what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.layouts import read_brats2013, read_decathlon, read_label_maps


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
    refused(tmp_path, "no dataset.json")
    (tmp_path / "dataset.json").mkdir()
    refused(tmp_path, "no dataset.json")
    refused(tmp_path / "missing", "no dataset.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", "[" * 100_000])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    make(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    refused(tmp_path, "not a Decathlon dataset.json")


def test_a_description_in_no_known_encoding_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "dataset.json").write_bytes(b'{"training": "\xff\xfe"}')
    refused(tmp_path, "not a Decathlon dataset.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"training": None},
        {"training": "a"},
        {"training": [3]},
        {"training": [{"image": "./imagesTr/a.nii.gz"}]},
        {"labels": None},
        {"labels": ["background", "a"]},
        {"labels": {"background": 0, "a": 1}},
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
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, part: str, name: str) -> None:
    (tmp_path / "secret.nii.gz").touch()
    refused(make(tmp_path / "set", training=[entry("a") | {part: name}]), "outside the folder")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.nii.gz").touch()
    folder = make(tmp_path / "set", training=[entry("c")])
    (folder / "imagesTr" / "c.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    refused(folder, "outside the folder")


def test_a_folder_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    make(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert len(read_decathlon(tmp_path / "link").cases) == 2


@pytest.mark.parametrize("name", ["./imagesTr/c.nii.gz", ".", "", "a\0b.nii.gz", "x" * 5000])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    refused(make(tmp_path, training=[entry("a"), entry("b") | {"image": name}]), "is not there")


def test_links_in_a_circle_are_not_there(tmp_path: Path) -> None:
    folder = make(tmp_path, training=[entry("c")])
    (folder / "imagesTr" / "c.nii.gz").symlink_to(folder / "imagesTr" / "c.nii.gz")
    refused(folder, "is not there|outside")


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
    with pytest.raises(InputError, match=r"holds no label map \(.nii, .nii.gz\)") as fault:
        read_label_maps(tmp_path)
    assert str(fault.value).startswith(str(tmp_path))
    with pytest.raises(InputError, match="holds no label map"):
        read_label_maps(tmp_path / "missing")


def test_one_name_for_two_label_maps_is_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="lists 'a' more than once"):
        read_label_maps(tmp_path)


def brats(folder: Path, *names: str) -> Path:
    for patient in ("p2", "p1"):
        (folder / patient).mkdir(parents=True)
        for name in names:
            (folder / patient / name).touch()
    return folder


def test_brats_2013_is_a_folder_a_patient(tmp_path: Path) -> None:
    files = ("T1c_x.nii.gz", "Flair_x.nii.gz", "OTMultiClass.nii.gz", "brainmask.nii.gz", "licence.txt")
    found = read_brats2013(brats(tmp_path, *files))
    assert [case.case_id for case in found.cases] == ["p1", "p2"]
    first = found.cases[0]
    assert first.source == {"flair": tmp_path / "p1/Flair_x.nii.gz", "t1c": tmp_path / "p1/T1c_x.nii.gz"}
    assert (first.label, first.group) == (tmp_path / "p1/OTMultiClass.nii.gz", "p1")


def test_brats_2013_without_images_or_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of a patient"):
        read_brats2013(tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not hold OTMultiClass"):
        read_brats2013(brats(tmp_path / "a", "Flair_x.nii.gz"))
    (case, _) = read_brats2013(tmp_path / "a", complete=False).cases
    assert case.label is None
    with pytest.raises(InputError, match="does not hold any image"):
        read_brats2013(brats(tmp_path / "b", "OTMultiClass.nii.gz"))
