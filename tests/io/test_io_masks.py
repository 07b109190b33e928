"""A folder of one mask a structure is one label map, by names, with nothing lost unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from io_files import AFFINE, save, write_dicom

from medseg import io
from medseg.core.errors import GridMismatchError, InputError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap

SHAPE = (5, 6, 7)
BOXES = {"liver": (0, 3), "Kidney_Left": (3, 4), "spleen": (2, 5)}
VALUES = {"kidney left": 2, "Liver": 5, "spleen": 300}


def box(first: int, last: int) -> np.ndarray:
    """Ones in the planes from `first` to before `last` along I."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[first:last] = 1
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three masks: liver and spleen share a plane of 42 voxels, kidney and spleen another."""
    for name, (first, last) in BOXES.items():
        save(tmp_path / f"{name}.nii.gz", box(first, last))
    return tmp_path


def test_masks_are_painted_in_the_order_of_the_values(folder: Path) -> None:
    labels, names = io.read_mask_folder(folder, VALUES)
    np.testing.assert_array_equal(labels.array[:, 0, 0], [5, 5, 300, 300, 300])
    assert names == {2: "kidney left", 5: "Liver", 300: "spleen"}
    np.testing.assert_allclose(labels.grid.affine, AFFINE)
    assert labels.warnings == (
        "42 voxels lie in both kidney left and spleen, and count as spleen.",
        "42 voxels lie in both Liver and spleen, and count as spleen.",
    )
    assert labels.lacking == ((2, labels.warnings[0]), (5, labels.warnings[1]))
    other, _ = io.read_mask_folder(folder, dict(reversed(VALUES.items())))
    np.testing.assert_array_equal(other.array[:, 0, 0], [5, 5, 5, 2, 300])


def test_without_values_masks_are_numbered_by_name(folder: Path) -> None:
    labels, names = io.read_mask_folder(folder)
    assert names == {1: "Kidney_Left", 2: "liver", 3: "spleen"}
    np.testing.assert_array_equal(labels.array[:, 0, 0], [2, 2, 3, 3, 3])


def test_structures_make_a_folder_labels(folder: Path) -> None:
    labels = io.read_labels(folder, structures=from_labels({v: n for n, v in VALUES.items()}))
    np.testing.assert_array_equal(labels.array, io.read_mask_folder(folder, VALUES)[0].array)
    regions = StructureSet((Structure(1, "liver", members=(1, 2)), Structure(2, "spleen", members=(2,))))
    (folder / "Kidney_Left.nii.gz").unlink()
    np.testing.assert_array_equal(io.read_labels(folder, structures=regions).array[:, 0, 0], [1, 1, 2, 2, 2])


def test_a_dicom_folder_stays_one(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series")
    stored = io.read_labels(tmp_path / "series")
    found = io.read_labels(tmp_path / "series", structures=from_labels({1: "a"}))
    np.testing.assert_array_equal(found.array, stored.array)


def test_a_structure_without_a_mask_is_absent_and_said_to_be(folder: Path) -> None:
    labels, names = io.read_mask_folder(folder, VALUES | {"heart": 7})
    assert 7 not in labels.array
    assert names[7] == "heart"
    assert (
        labels.warnings[0]
        == "There is no mask of heart, which counts as unlabelled; an empty mask states absence."
    )


def test_a_mask_of_no_structure_is_refused_unless_told_otherwise(folder: Path) -> None:
    few = {"liver": 1}
    with pytest.raises(
        InputError, match=r"not known structures: Kidney_Left\.nii\.gz and spleen\.nii\.gz; declare"
    ):
        io.read_mask_folder(folder, few)
    labels, _ = io.read_mask_folder(folder, few, others=True)
    np.testing.assert_array_equal(labels.array[:, 0, 0], [1, 1, 1, 0, 0])
    with pytest.raises(InputError, match="contains no mask of heart"):
        io.read_mask_folder(folder, {"heart": 1}, others=True)


@pytest.mark.parametrize("top", [1.0, 0.9999999702, 255.0, 7.0])
def test_a_mask_has_any_one_value(tmp_path: Path, top: float) -> None:
    save(tmp_path / "a.nii", (box(1, 3) * np.float32(top)).astype(np.float32))
    labels, _ = io.read_mask_folder(tmp_path, {"a": 4})
    np.testing.assert_array_equal(labels.array, 4 * box(1, 3))


@pytest.mark.parametrize(
    ("mask", "fault"),
    [
        (box(0, 2) + box(1, 3), "is not a mask: it contains the values 1 and 2 besides 0"),
        (box(0, 2) * np.float32(0.4), "is not an integer"),
        (np.arange(210).reshape(SHAPE).astype(np.uint8), "1, 2, 3, 4, 5, 6, 7, 8 and 201 more"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, mask: np.ndarray, fault: str) -> None:
    save(tmp_path / "a.nii", mask)
    with pytest.raises(InputError, match=fault) as caught:
        io.read_mask_folder(tmp_path, {"a": 1})
    assert str(tmp_path / "a.nii") in str(caught.value)


def test_masks_on_different_grids_are_refused(folder: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 0.01
    save(folder / "spleen.nii.gz", box(0, 1), moved)
    with pytest.raises(GridMismatchError, match=r"Kidney_Left\.nii\.gz and spleen\.nii\.gz"):
        io.read_mask_folder(folder, VALUES)


def test_names_that_cannot_be_told_apart_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'a b' and 'A_B'"):
        io.read_mask_folder(folder, {"a b": 1, "A_B": 2})
    save(folder / "LIVER.nii", box(0, 1))
    with pytest.raises(InputError, match="are the same structure"):
        io.read_mask_folder(folder, VALUES)


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "statistics.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"contains no mask|cannot be read"):
            io.read_mask_folder(folder, VALUES)


def test_previews_and_tables_beside_masks_are_left_alone(folder: Path) -> None:
    (folder / "preview.png").write_bytes(b"x")
    (folder / "statistics.json").write_text("{}")
    (folder / "._liver.nii.gz").write_bytes(b"x")
    assert io.read_mask_folder(folder, VALUES)[0].grid.shape == SHAPE


def test_pictures_alone_are_masks(tmp_path: Path) -> None:
    grid = Grid((4, 3, 1), np.eye(4))
    for name, column in (("vessel", 1), ("disc", 2)):
        mask = np.zeros(grid.shape, np.uint8)
        mask[column] = 255
        io.write_labels(tmp_path / f"{name}.png", LabelMap(mask, grid, FileForm(".png")))
    labels, names = io.read_mask_folder(tmp_path)
    np.testing.assert_array_equal(labels.array[:, 0, 0], [0, 2, 1, 0])
    assert names == {1: "disc", 2: "vessel"}
    assert len(labels.warnings) == 1


@pytest.mark.parametrize("values", [{"a": 1, "b": 2}, {"b": 70_000, "a": 3}])
def test_the_map_has_the_smallest_type_for_its_values(tmp_path: Path, values: Mapping[str, int]) -> None:
    for name in values:
        save(tmp_path / f"{name}.nii", box(0, 1))
    labels, _ = io.read_mask_folder(tmp_path, values)
    assert labels.array.dtype == (np.uint8 if max(values.values()) < 256 else np.uint32)
