"""What `check`, `convert` and `train` say of a folder: each fact once, with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import done, refused
from io_files import write_dicom

from medseg.phantom import write_phantoms

SHAPE = (18, 20, 16)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "set"
    write_phantoms(folder, "decathlon", 3, 1, SHAPE)
    return folder


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumours") / "set"
    write_phantoms(folder, "brats2020", 2, 1, SHAPE)
    return folder


COMMANDS = {
    "check": ("check", "IN"),
    "check, card": ("check", "IN", "--card", "brats"),
    "convert": ("convert", "IN", "OUT", "--from", "masks", "--to", "nnunet"),
    "convert, card": ("convert", "IN", "OUT", "--from", "brats2013", "--to", "nnunet"),
    "train": ("train", "phantom_unet3d", "--data", "IN", "-o", "OUT"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("name", "fault"), [("none", "there is no such folder"), ("file", "is a file, not")])
def test_a_folder_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, words: tuple[str, ...], name: str, fault: str
) -> None:
    (tmp_path / "file").touch()
    places = {"IN": tmp_path / name, "OUT": tmp_path / "out"}
    told = refused(3, *(places.get(word, word) for word in words))
    assert f"{places['IN']}: {fault}" in told
    assert not places["OUT"].exists()


def test_a_folder_of_another_layout_is_told_which_it_has(heads: Path, tumours: Path, tmp_path: Path) -> None:
    for layout in ("brats", "brats2013", "brats2020"):
        told = refused(3, "convert", heads, tmp_path / "out", "--from", layout, "--to", "nnunet")
        assert "is not in the layout brats: it holds a dataset.json that lists training cases" in told
        assert "which is the layout decathlon; name the layout decathlon, or a card of it" in told
    told = refused(3, "check", tumours, "--card", "phantom")
    assert "is not in the layout decathlon: it holds folders of patients with a file a modality" in told


@pytest.mark.parametrize("layout", ["dicom", "masks", "images"])
def test_a_case_without_labels_has_a_way_to_be_converted(tmp_path: Path, layout: str) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    if layout == "dicom":
        data.mkdir()
        write_dicom(data / "p0", 4, size=(20, 16))
    else:
        write_phantoms(data, layout, 2, 0, SHAPE)
        for path in data.glob("*/segmentations/*" if layout == "masks" else "masks/*.png"):
            path.unlink()
    words = ("convert", data, out, "--from", layout, "--to", "nnunet")
    told = refused(3, *words)
    assert told.endswith(", or add --unlabelled, to take cases without labels too")
    assert " 0 with labels" in done(*words, "--unlabelled").out


def test_what_stays_faulty_has_no_such_way(heads: Path, tmp_path: Path) -> None:
    told = refused(3, "convert", heads, tmp_path / "out", "--from", "dicom", "--to", "nnunet")
    assert "--unlabelled" not in told
