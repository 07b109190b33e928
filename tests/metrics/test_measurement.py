"""What is measured of a case for its page: lesions, twins, the volume of the head, the worst surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import evaluate_case
from medseg.metrics.lesions import LesionRule, lesion_rows, match_lesions
from medseg.metrics.measurement import Measurement, measure, worst_first
from medseg.metrics.volumes import asymmetries, intracranial_ml

GRID = Grid((30, 30, 30), np.eye(4))
TUMOUR = from_labels({1: "tumour"})
RULE = LesionRule(dilation_steps=1, smallest_volume_mm3=2.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A lesion found, one missed, one too small to count, and a piece that is none."""
    reference, labels = np.zeros((2, *GRID.shape), np.uint8)
    reference[2:6, 2:6, 2:6] = labels[2:6, 2:6, 2:5] = 1
    reference[15:18, 15:18, 15:18] = 1
    reference[25, 25, 25] = 1
    labels[2:4, 20, 20] = 1
    return labels, reference


def test_lesions_are_found_missed_extra_or_left_out() -> None:
    labels, reference = scene()
    rows = lesion_rows(labels, reference, GRID, TUMOUR, ["tumour"], RULE)
    assert [(r.outcome, r.reference_ml, r.predicted_ml) for r in rows] == [
        ("found", pytest.approx(0.064), pytest.approx(0.048)),
        ("missed", pytest.approx(0.027), 0.0),
        ("left out", pytest.approx(0.001), 0.0),
        ("extra", None, pytest.approx(0.002)),
    ]
    assert rows[0].dice == pytest.approx(2 * 48 / (64 + 48))
    assert all(row.dice is None and row.hd95_mm is None for row in rows[1:])


def test_the_rows_count_what_the_metric_counts() -> None:
    labels, reference = scene()
    match = match_lesions(reference > 0, labels > 0, GRID, RULE)
    outcomes = [r.outcome for r in lesion_rows(labels, reference, GRID, TUMOUR, ["tumour"], RULE)]
    assert [outcomes.count(o) for o in ("found", "missed", "extra")] == [
        match.found,
        match.missed,
        match.extra,
    ]


def test_without_a_reference_pieces_are_listed_and_not_judged() -> None:
    labels, _ = scene()
    rows = lesion_rows(labels, None, GRID, TUMOUR, ["tumour"], RULE)
    assert [(r.outcome, r.predicted_ml) for r in rows] == [
        ("labelled", pytest.approx(0.048)),
        ("labelled", pytest.approx(0.002)),
    ]


def test_a_name_that_is_no_structure_is_refused() -> None:
    labels, reference = scene()
    with pytest.raises(UsageError, match="tumour"):
        lesion_rows(labels, reference, GRID, TUMOUR, ["metastasis"])


@pytest.mark.parametrize(
    ("name", "is_lesion"),
    [
        ("whole tumour", True), ("Tumor core", True), ("MS lesions", True), ("brain metastases", True),
        ("haemorrhage", True), ("left kidney", False), ("prostate", False), ("tumourless", False),
    ],
)  # fmt: skip
def test_lesions_are_known_by_their_names(name: str, is_lesion: bool) -> None:
    assert from_labels({1: name}).lesions == ((name,) if is_lesion else ())


def test_twins_make_a_row_whatever_their_order() -> None:
    structures = from_labels({1: "Right-Thalamus", 2: "Left-Thalamus", 3: "brain-stem", 4: "left ear"})
    found = asymmetries({s.name: float(s.value) for s in structures}, structures)
    assert [(r.left, r.left_ml, r.right_ml) for r in found] == [("Left-Thalamus", 2.0, 1.0)]


def test_twins_that_are_both_absent_have_no_row() -> None:
    structures = from_labels({1: "left ear", 2: "right ear"})
    assert asymmetries(dict.fromkeys(structures.names, 0.0), structures) == ()


def test_shares_of_the_head_need_its_volume() -> None:
    volumes = {"thalamus": 15.0}
    assert intracranial_ml((), volumes) is None
    assert intracranial_ml([("intracranial volume", 0.0)], volumes) is None
    assert intracranial_ml([("Intracranial volume", 1500.0)], volumes) == 1500.0
    assert intracranial_ml((), volumes | {"intracranial": 1400.0}) == 1400.0
    assert intracranial_ml([("intracranial volume", 1500.0)], {"intracranial": 1400.0}) == 1500.0


def test_regions_are_wholes() -> None:
    regions = StructureSet((Structure(1, "whole tumour", members=(1, 2)),))
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:6, 4, 4], labels[6:8, 4, 4] = 1, 2
    (row,) = lesion_rows(labels, None, GRID, regions, ["whole tumour"])
    assert row.predicted_ml == pytest.approx(0.004)


ORGANS = from_labels({1: "liver", 2: "spleen", 3: "kidney", 4: "bladder"})


def organs() -> tuple[LabelMap, LabelMap]:
    """The spleen moved by two voxels, the liver by one, the kidney missed, no bladder."""
    reference, labels = np.zeros((2, *GRID.shape), np.uint8)
    reference[2:6, 2:6, 2:6] = labels[3:7, 2:6, 2:6] = 1
    reference[12:16, 2:6, 2:6] = labels[14:18, 2:6, 2:6] = 2
    reference[20:24, 20:24, 20:24] = 3
    return LabelMap(labels, GRID), LabelMap(reference, GRID)


def test_the_structures_that_differ_most_come_first() -> None:
    found = measure(*organs(), ORGANS, lesions=["kidney"])
    assert worst_first(found.result.rows) == ("kidney", "spleen", "liver")
    assert [(row.structure, row.outcome) for row in found.lesions] == [("kidney", "missed")]
    kidney, spleen, liver = found.surfaces()
    assert (kidney[0].name, kidney[1]) == ("kidney", None)
    for (structure, surfaces), mm in ((spleen, 2.0), (liver, 1.0)):
        assert surfaces is not None
        assert abs(surfaces.largest_mm) == mm == found.result[structure.name].metrics["hd100_mm"].value


def test_surfaces_are_those_that_were_measured() -> None:
    predicted, reference = organs()
    none = evaluate_case(predicted, reference, ORGANS, surface=False)
    assert all(s is None for _, s in Measurement(predicted, reference, ORGANS, none).surfaces())
    voxel = evaluate_case(predicted, reference, ORGANS, mode="voxel")
    (_, _), (_, spleen), _ = Measurement(predicted, reference, ORGANS, voxel).surfaces()
    assert spleen is not None
    assert set(spleen.area.tolist()) == {1.0}
