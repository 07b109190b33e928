"""What a reader is told before the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.report import flags
from medseg.structures import Structure, StructureSet, from_labels
from medseg.volume import Grid

PAIR = from_labels({1: "left kidney", 2: "right kidney"})
GRID = Grid((12, 10, 8), np.eye(4))


def texts(
    labels: np.ndarray, grid: Grid = GRID, structures: StructureSet = PAIR, **more: object
) -> list[str]:
    return [f.text for f in flags.find(labels, grid, structures, **more)]  # type: ignore[arg-type]


def two_kidneys(left_value: int = 1, right_value: int = 2) -> np.ndarray:
    """In RAS+ the patient's left has the smaller x."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:4, 4:6, 3:5] = left_value
    labels[8:10, 4:6, 3:5] = right_value
    return labels


def test_a_sound_segmentation_raises_nothing() -> None:
    assert texts(two_kidneys()) == []


def test_exchanged_sides_are_noticed_in_both_orientations() -> None:
    assert any("exchanged" in t for t in texts(two_kidneys(2, 1)))
    mirrored = Grid(GRID.shape, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert any("exchanged" in t for t in texts(two_kidneys(), mirrored))
    assert texts(two_kidneys(2, 1), mirrored) == []


def test_sides_are_not_judged_without_an_orientation() -> None:
    found = texts(two_kidneys(2, 1), orientation_known=False)
    assert found == [flags.NO_ORIENTATION]


@pytest.mark.parametrize("at", [(0, 5, 4), (11, 5, 4), (6, 0, 4), (6, 9, 4), (6, 5, 0), (6, 5, 7)])
def test_a_structure_at_the_edge_is_named(at: tuple[int, int, int]) -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[at] = 1
    structures = from_labels({1: "lesion"})
    assert texts(labels, structures=structures) == [
        "lesion reaches the edge of the scan; part of it may lie outside."
    ]


def test_the_two_faces_of_a_single_slice_are_no_edge() -> None:
    grid = Grid((8, 8, 1), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    labels[3:5, 3:5] = 1
    assert texts(labels, grid, from_labels({1: "lesion"})) == []


def test_pieces_are_counted_and_the_largest_is_measured() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:5, 2:5, 2:3] = 1  # 9 voxels
    labels[8, 8, 5] = 1
    found = texts(labels, structures=from_labels({1: "spleen"}))
    assert found == ["spleen is in 2 separate pieces; the largest holds 90.0 % of it."]


def test_voxels_that_touch_at_a_corner_are_one_piece() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4, 4, 4] = labels[5, 5, 5] = 1
    assert texts(labels, structures=from_labels({1: "spleen"})) == []


def test_nothing_labelled_is_said_of_the_model_and_not_of_the_patient() -> None:
    assert texts(np.zeros(GRID.shape, np.uint8)) == ["The model labelled no voxels in this scan."]
    labels = two_kidneys(right_value=0)
    assert texts(labels) == ["The model labelled no voxels as right kidney."]


def test_values_without_a_structure_are_counted_however_large() -> None:
    labels = two_kidneys().astype(np.int64)
    labels[0, 0, :3] = 10**12
    assert texts(labels) == [
        "The label map holds values that no structure has, left out here: 1000000000000 (3 voxels)."
    ]


def test_a_region_is_looked_at_as_a_whole() -> None:
    regions = StructureSet((Structure(9, "whole tumour", members=(1, 2)), Structure(2, "core", members=(2,))))
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:5, 3, 3], labels[5:7, 3, 3] = 1, 2  # side by side: one piece of the region
    assert texts(labels, structures=regions) == []


def test_header_warnings_come_first_and_once() -> None:
    found = texts(two_kidneys(2, 1), warnings=("both forms disagree", "both forms disagree"))
    assert found[0] == "Both forms disagree."
    assert len(found) == 2


def test_a_tilted_and_a_sheared_scan_are_named() -> None:
    angle = np.radians(20)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert any("tilted by up to 20°" in t for t in texts(two_kidneys(), Grid(GRID.shape, matrix)))
    matrix = np.eye(4)
    matrix[0, 1] = 0.1
    assert any("off a right angle" in t for t in texts(two_kidneys(), Grid(GRID.shape, matrix)))


def test_a_volume_outside_the_training_range_is_named() -> None:
    found = texts(two_kidneys(), expected_ml={"left kidney": (0.1, 0.2), "right kidney": (0.001, 0.2)})
    said = "0.008 ml against 0.1 to 0.2 ml"
    assert found == [f"left kidney is smaller than any in the training data: {said}."]


def test_a_volume_just_outside_the_training_range_is_not() -> None:
    """8 mm³, a range from 9 mm³: within the slack that few training cases deserve."""
    assert texts(two_kidneys(), expected_ml={"left kidney": (0.009, 0.2)}) == []


def test_specks_are_no_pieces_and_lesions_may_have_many() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:6, 2:6, 2:4] = 1  # 32 voxels
    labels[9, 8, 5] = 1  # 3 %
    assert texts(labels, structures=from_labels({1: "spleen"})) == []
    labels[9, 7:9, 5] = 1
    assert len(texts(labels, structures=from_labels({1: "spleen"}))) == 1
    assert texts(labels, structures=from_labels({1: "spleen"}), expected_pieces={"spleen": 2}) == []


def test_more_than_a_few_of_a_kind_share_a_sentence() -> None:
    structures = from_labels({n: f"part {n}" for n in range(1, 7)})
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4, 4, 4] = 1
    (found,) = texts(labels, structures=structures)
    assert found == "The model labelled no voxels as part 2, part 3, part 4, part 5, part 6."
