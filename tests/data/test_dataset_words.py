"""What `check`, `convert` and `train` say of a folder: each fact once, with what to do about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, refused
from io_files import write_dicom

from medseg.data.phantom import write_phantoms

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
        assert "is not in the layout brats: it contains a dataset.json that lists training cases" in told
        assert "as in the layout decathlon; give the layout decathlon, or a card with this layout" in told
    told = refused(3, "check", tumours, "--card", "phantom")
    assert (
        "is not in the layout decathlon: it contains folders of patients with one file per modality" in told
    )


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
    assert told.endswith(", or add --unlabelled to convert cases without labels too")
    assert " 0 with labels" in done(*words, "--unlabelled").out


def test_what_stays_faulty_has_no_such_way(heads: Path, tmp_path: Path) -> None:
    told = refused(3, "convert", heads, tmp_path / "out", "--from", "dicom", "--to", "nnunet")
    assert "--unlabelled" not in told


def change(data: Path, cases: int, edit: Callable[[nib.Nifti1Image], nib.Nifti1Image], part: str) -> None:
    """Write files of the first cases anew."""
    for n in range(cases):
        path = data / part / f"phantom_{n:03d}.nii.gz"
        nib.save(edit(nib.load(path)), path)


def relabelled(edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    return lambda old: nib.Nifti1Image(edit(np.asarray(old.dataobj)), old.affine)


def test_what_many_slices_have_in_common_is_one_line(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", "images", 3, 0, SHAPE)
    ran = done("check", tmp_path / "data")
    lines = ran.out.splitlines()
    assert len({line.split("  ")[-1].strip() for line in lines}) == len(lines)
    (line,) = (line for line in lines if line.endswith("  label 3 is not labelled"))
    assert line.startswith("warning")
    assert " of 18 cases (phantom_000__axial" in line
    assert " more)  label 3" in line
    assert f"{len(lines)} warnings" in ran.err
    assert any("  18 of 18 cases  " in line and "The file states no size in mm" in line for line in lines)
    told = json.loads(done("check", tmp_path / "data", "--json").out)["issues"]
    assert sum(f["text"] == "label 3 is not labelled" for f in told) == int(line.split()[1]), (
        "each has its own"
    )


def test_figures_of_cases_stand_beside_their_names(heads: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(heads, tmp_path / "data"))

    def speck(array: np.ndarray) -> np.ndarray:
        out = np.where(array == 3, 0, array)
        out[4, 4, 4] = 3
        return out

    change(data, 2, relabelled(speck), "labelsTr")
    told = done("check", data).out
    assert "2 of 3 cases (phantom_000: 1 and phantom_001: 1)  core has fewer than 10 voxels\n" in told


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_check_and_train_say_how_much_is_ignored(heads: Path, tmp_path: Path, share: float) -> None:
    data = Path(shutil.copytree(heads, tmp_path / "data"))
    described = json.loads((data / "dataset.json").read_text())
    described["labels"]["4"] = "ignore"
    (data / "dataset.json").write_text(json.dumps(described))

    def scribbled(array: np.ndarray) -> np.ndarray:
        return np.where(np.random.default_rng(0).random(array.shape) < share, 4, array).astype(np.uint8)

    change(data, 2, relabelled(scribbled), "labelsTr")
    there = [(np.asarray(nib.load(path).dataobj) == 4).mean() for path in data.glob("labelsTr/*")]
    said = f"on average {100 * np.mean(there):.2g} % of the voxels of a case are ignored (label 4)"
    if share > 0.5:
        said += "; more than half in 2 of 3 cases (phantom_000: 80 % and phantom_001: 80 %)"
    assert [line.split("  ")[-1].strip() for line in done("check", data).out.splitlines()] == [said]
    done("check", data, "--strict")
    words = ("--data", data, "-o", tmp_path / "run", "--folds", 3, "--epochs", 1, "--threads", 1)
    (tmp_path / "tiny.toml").write_text(TINY)
    assert f"note: {said}\n" in done("train", tmp_path / "tiny.toml", *words).err


TINY = """
name = "tiny"
card = "phantom"

[network]
name = "unet3d"
widths = [2, 4]
norm = "batch"

[training]
patch = [8, 8, 8]
epochs = 1
steps_per_epoch = 1
selection_share = 0.0
"""


def test_voxel_sizes_are_told_in_one_line(heads: Path, tmp_path: Path) -> None:
    """Micrometres, for what was meant as mm, are converted, unusual, and unlike the others: one fact."""
    data = Path(shutil.copytree(heads, tmp_path / "data"))

    def in_micrometres(old: nib.Nifti1Image) -> nib.Nifti1Image:
        new = nib.Nifti1Image(np.asarray(old.dataobj), old.affine)
        new.header.set_xyzt_units("micron")
        return new

    for part in ("imagesTr", "labelsTr"):
        change(data, 1, in_micrometres, part)
    (line,) = done("check", data).out.splitlines()
    assert line.split("  ")[-1].strip() == (
        "The file measures in micrometres; its grid was converted to millimetres, where the voxels measure "
        "0.001 x 0.001 x 0.001 mm, outside the usual 0.1 to 10.0 mm."
    )


def test_a_training_that_learnt_nothing_says_so_at_its_end(heads: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ("--data", heads, "-o", tmp_path / "run", "--folds", 3, "--epochs", 1, "--threads", 1)
    ran = done("train", tmp_path / "tiny.toml", *words)
    assert "warning: The held-out Dice of " in ran.err
    assert "below 0.3, a result is doubtful." in ran.err
