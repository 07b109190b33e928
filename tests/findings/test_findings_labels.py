"""What a label map shows by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.core.boxes import outer_faces
from medseg.core.structures import Structure, StructureSet, edge_values, from_labels
from medseg.core.volume import Grid
from medseg.findings.finding import Finding, at_edge, is_doubtful
from medseg.findings.labels import VOLUME_SLACK, Expected, check_label_map, component_counts

PAIR = from_labels({1: "left kidney", 2: "right kidney"})
GRID = Grid((12, 10, 8), np.eye(4))
FEW = from_labels({n: f"part {n}" for n in range(1, 11)})


def found(
    labels: np.ndarray,
    grid: Grid = GRID,
    structures: StructureSet = PAIR,
    *,
    known: bool = True,
    **expected: Any,
) -> tuple[Finding, ...]:
    return check_label_map(labels, grid, structures, Expected(**expected), orientation_known=known)


def texts(labels: np.ndarray, grid: Grid = GRID, structures: StructureSet = PAIR, **more: Any) -> list[str]:
    return [f.sentence for f in found(labels, grid, structures, **more)]


def two_kidneys(left_value: int = 1, right_value: int = 2) -> np.ndarray:
    """In RAS+ the patient's left has the smaller x; 8 voxels each."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:4, 4:6, 3:5] = left_value
    labels[8:10, 4:6, 3:5] = right_value
    return labels


def test_a_sound_segmentation_raises_nothing() -> None:
    assert texts(two_kidneys()) == []


def test_exchanged_sides_are_a_doubt_in_both_orientations() -> None:
    (finding,) = found(two_kidneys(2, 1))
    assert (finding.code, finding.severity) == ("sides_exchanged", "doubt")
    assert finding.structures == ("left kidney", "right kidney")
    assert finding.evidence["right_mm"] == {"left kidney": 8.5, "right kidney": 2.5}
    mirrored = Grid(GRID.shape, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert any("may be exchanged" in t for t in texts(two_kidneys(), mirrored))
    assert texts(two_kidneys(2, 1), mirrored) == []
    (finding,) = found(two_kidneys(2, 1), Grid(GRID.shape, np.diag([1 / 3, 1.0, 1.0, 1.0])))
    assert finding.evidence["right_mm"] == {"left kidney": 2.83, "right kidney": 0.83}


def test_sides_are_not_judged_without_an_orientation() -> None:
    assert texts(two_kidneys(2, 1), known=False) == []


EDGES = [(0, 5, 4), (11, 5, 4), (6, 0, 4), (6, 9, 4), (6, 5, 0), (6, 5, 7)]


@pytest.mark.parametrize("at", EDGES)
def test_a_structure_at_the_edge_is_named(at: tuple[int, int, int]) -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[at] = 1
    (finding,) = found(labels, structures=from_labels({1: "lesion"}))
    assert finding.sentence == "Lesion reaches the edge of the scan; part of it may lie outside."
    assert (finding.code, finding.severity, finding.structures) == ("at_edge", "note", ("lesion",))


def test_the_two_faces_of_a_single_slice_are_no_edge() -> None:
    grid = Grid((8, 8, 1), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    labels[3:5, 3:5] = 1
    assert texts(labels, grid, from_labels({1: "lesion"})) == []
    assert edge_values(labels) == {0}
    assert outer_faces(grid.shape) == ((0, 0), (0, -1), (1, 0), (1, -1))


def test_negative_and_huge_label_values_are_looked_at_like_others() -> None:
    labels = two_kidneys(2, 1).astype(np.int64)
    labels[labels == 1], labels[labels == 2] = -3, 2**40
    structures = from_labels({-3: "left kidney", 2**40: "right kidney"})
    labels[2, 8, 5] = 2**40
    codes = {finding.code: finding for finding in found(labels, structures=structures)}
    assert set(codes) == {"pieces", "sides_exchanged"}
    assert codes["pieces"].evidence["pieces"] == {"right kidney": 2}


def test_pieces_are_counted_and_the_largest_is_measured() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:5, 2:5, 2:3] = 1  # 9 voxels
    labels[8, 8, 5] = 1
    (finding,) = found(labels, structures=from_labels({1: "spleen"}))
    assert finding.sentence == "Spleen has 2 connected components; the largest holds 90.0 % of it."
    assert finding.severity == "note"


def test_several_structures_in_pieces_share_a_finding() -> None:
    labels = two_kidneys()
    labels[2, 7, 3] = labels[9, 2, 3] = 1
    labels[9, 7, 3] = 2
    (finding,) = found(labels)
    assert finding.structures == ("left kidney", "right kidney")
    assert finding.evidence["pieces"] == {"left kidney": 3, "right kidney": 2}
    assert finding.sentence == (
        "Left kidney (3 components; the largest holds 80.0 % of it) and "
        "right kidney (2 components; the largest holds 88.9 % of it) have several connected components."
    )


def test_voxels_that_touch_at_a_corner_are_one_piece() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4, 4, 4] = labels[5, 5, 5] = 1
    assert texts(labels, structures=from_labels({1: "spleen"})) == []


def test_nothing_labelled_is_a_doubt_and_said_of_the_model_not_of_the_patient() -> None:
    (finding,) = found(np.zeros(GRID.shape, np.uint8), volumes_ml={"left kidney": (1.0, 2.0)})
    assert finding.sentence == "The model labelled no voxels in this scan."
    assert (finding.code, finding.severity) == ("nothing_found", "doubt")


def test_what_is_absent_is_a_doubt_only_where_the_training_had_it() -> None:
    (finding,) = found(two_kidneys(right_value=0))
    assert finding.sentence == "The model labelled no voxels as right kidney."
    assert (finding.code, finding.severity) == ("absent", "note")
    ranges = {"left kidney": (0.008, 0.008), "right kidney": (0.008, 0.01)}
    first, second = found(two_kidneys(right_value=0), volumes_ml=ranges)
    assert (first.code, second.code) == ("unlike_training", "not_found")
    assert second.structures == ("right kidney",)
    assert second.sentence == "The model labelled no voxels as right kidney, found in the training data."
    assert second.severity == "doubt"


def test_values_without_a_structure_are_counted_however_large() -> None:
    labels = two_kidneys().astype(np.int64)
    labels[0, 0, :3] = 10**12
    assert texts(labels) == [
        "The label map contains values without a structure, which are left out here: 1000000000000 "
        "(3 voxels)."
    ]


def test_a_region_is_looked_at_as_a_whole() -> None:
    regions = StructureSet((Structure(9, "whole tumour", members=(1, 2)), Structure(2, "core", members=(2,))))
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:5, 3, 3], labels[5:7, 3, 3] = 1, 2  # side by side: one piece of the region
    assert texts(labels, structures=regions) == []
    assert component_counts(labels, regions) == {"whole tumour": 1, "core": 1}
    labels[0, 3, 3] = 1
    assert at_edge(found(labels, structures=regions)) == {"whole tumour"}


FINE = {f"part {n}": (0.001, 0.001) for n in range(1, 11)}


def ten_parts(**voxels: int) -> np.ndarray:
    """Ten structures of one voxel each, or of as many along the last axis as asked for, off the edge."""
    labels = np.zeros(GRID.shape, np.uint8)
    for n in range(1, 11):
        labels[n, 1 + n % 8, 1 : 1 + voxels.get(f"part_{n}", 1)] = n
    return labels


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        (1.0, 4.0, None),
        (4 * VOLUME_SLACK * 1.01, 9.0, "small_volume"),
        (4 * VOLUME_SLACK * 0.99, 9.0, None),
        (1.0, 4 / VOLUME_SLACK * 0.99, "large_volume"),
        (1.0, 4 / VOLUME_SLACK * 1.01, None),
    ],
)
@pytest.mark.fault("reports 37")
def test_a_volume_beyond_the_training_has_one_limit(low: float, high: float, code: str | None) -> None:
    """4 voxels; the limit lies between the pairs, and is written down: 1.6."""
    assert VOLUME_SLACK == 1.6
    raised = found(
        ten_parts(part_3=4), structures=FEW, volumes_ml=FINE | {"part 3": (low / 1000, high / 1000)}
    )
    assert [(f.code, f.structures, f.limit) for f in raised] == ([(code, ("part 3",), 1.6)] if code else [])
    assert is_doubtful(raised) == bool(code)


@pytest.mark.fault("reports 37")
def test_a_cut_structure_that_is_too_small_is_told_once() -> None:
    """Neither the edge nor the volume is repeated in other words."""
    labels = ten_parts()
    labels[labels == 3] = 0
    labels[0, 4, 4] = 3
    (finding,) = found(labels, structures=FEW, volumes_ml=FINE | {"part 3": (0.002, 0.005)})
    assert (finding.code, finding.severity, finding.structures) == ("cut_short", "doubt", ("part 3",))
    assert finding.sentence == (
        "Part 3 (0.00100 ml against 0.00200 to 0.00500 ml) is cut by the edge of the scan and smaller than "
        "any in the training data by a factor of more than 1.6."
    )
    assert at_edge([finding]) == {"part 3"}
    (whole,) = found(labels, structures=FEW, volumes_ml=FINE)
    assert (whole.code, whole.severity) == ("at_edge", "note")


@pytest.mark.fault("reports 37")
def test_many_unlikely_volumes_speak_against_the_scan_and_each_structure_is_in_one_finding() -> None:
    labels = ten_parts(part_1=4, part_2=4, part_3=4)
    labels[labels == 4] = 0
    labels[4, 0, 1] = 4
    labels[labels == 5] = 0
    ranges = FINE | {"part 4": (0.004, 0.005)}
    raised = found(labels, structures=FEW, volumes_ml=ranges)
    assert [f.code for f in raised] == ["unlike_training", "not_found", "cut_short", "large_volume"]
    assert raised[0].sentence == (
        "5 of 10 structures have a volume outside the range of the training data, so the scan is "
        "probably unlike them."
    )
    named = [name for f in raised for name in f.structures]
    assert sorted(named) == [f"part {n}" for n in range(1, 6)]


def test_specks_are_no_pieces_and_lesions_may_have_many() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:6, 2:6, 2:4] = 1  # 32 voxels
    labels[9, 8, 5] = 1  # 3 %
    spleen = from_labels({1: "spleen"})
    assert texts(labels, structures=spleen) == []
    labels[9, 7:9, 5] = 1
    assert len(texts(labels, structures=spleen)) == 1
    assert texts(labels, structures=spleen, components={"spleen": 2}) == []


def test_a_long_list_is_counted_after_the_eighth() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4, 4, 4] = 1
    (finding,) = found(labels, structures=FEW)
    assert finding.sentence == (
        "The model labelled no voxels as part 2, part 3, part 4, part 5, part 6, part 7, part 8, part 9 "
        "and 1 more."
    )
    assert len(finding.structures) == 9
