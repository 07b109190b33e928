"""Counts against a voxel-by-voxel definition."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GridMismatchError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.metrics import counts as mc
from medseg.metrics.counts import Counts, index_map, joint_counts, joint_histogram, present_values

VALUES = (1, 2, 5, 300)


def label_pair(seed: int = 0, dtype: type = np.uint16) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return tuple(generator.choice([0, 9, *VALUES], (2, 4, 5, 6)).astype(dtype))


def naive(reference: np.ndarray, predicted: np.ndarray, members: set[int]) -> Counts:
    pairs = [
        (int(r) in members, int(p) in members) for r, p in zip(reference.flat, predicted.flat, strict=True)
    ]
    return Counts(
        *(pairs.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False)))
    )


@pytest.mark.parametrize("members", [{1}, {300}, {1, 5}, {1, 2, 5, 300}])
def test_counts_equal_the_definition(members: set[int]) -> None:
    reference, predicted = label_pair()
    assert joint_histogram(reference, predicted, VALUES).counts(members) == naive(
        reference, predicted, members
    )


def test_a_member_named_twice_counts_once() -> None:
    histogram = joint_histogram(*label_pair(), VALUES)
    assert histogram.counts([1, 1, 5]) == histogram.counts([5, 1])


def test_slabs_and_memory_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, predicted = label_pair()
    whole = joint_histogram(reference, predicted, VALUES).table
    monkeypatch.setattr(mc, "SLAB_VOXELS", 7)
    for a in (reference, np.asfortranarray(reference)):
        for b in (predicted, np.asfortranarray(predicted)):
            np.testing.assert_array_equal(joint_histogram(a, b, VALUES).table, whole)
    assert present_values(np.asfortranarray(reference)) == present_values(reference)


def test_every_voxel_is_counted_once() -> None:
    reference, predicted = label_pair()
    histogram = joint_histogram(reference, predicted, VALUES)
    assert histogram.table.dtype == np.int64
    for value in VALUES:
        c = histogram.counts([value])
        assert c.tp + c.fp + c.fn + c.tn == reference.size


@pytest.mark.parametrize("values", [(3, -7), (2_000_000_000, -7, 0)])
def test_labels_far_apart_or_negative_are_told_apart(values: tuple[int, ...]) -> None:
    labels = np.array([-7, 3, 0, 2_000_000_000, 4], dtype=np.int64)
    expected = [values.index(v) + 1 if v in values else 0 for v in labels.tolist()]
    assert index_map(labels, values).tolist() == expected
    assert present_values(labels) == dict.fromkeys(sorted(labels.tolist()), 1)


def test_many_structures_need_wider_indices() -> None:
    labels = np.arange(1000, dtype=np.int32)
    assert index_map(labels, range(1, 1000)).tolist() == labels.tolist()


def test_counts_by_name_of_labels_and_of_regions() -> None:
    reference, predicted = label_pair()
    labels = from_labels({1: "one", 5: "five"})
    assert joint_counts(reference, predicted, labels)["five"] == naive(reference, predicted, {5})
    regions = StructureSet((Structure(1, "all", members=(1, 2, 5)), Structure(2, "core", members=(2, 5))))
    assert joint_counts(reference, predicted, regions)["core"] == naive(reference, predicted, {2, 5})


def test_shapes_must_agree() -> None:
    with pytest.raises(GridMismatchError, match=r"\(2, 3\).*\(3, 2\)"):
        joint_histogram(np.zeros((2, 3), int), np.zeros((3, 2), int), (1,))


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "status"), [(1, 0, 0, "ok"), (0, 1, 1, "ok"), (0, 0, 0, "both_empty"),
                                   (0, 1, 0, "ref_empty"), (0, 0, 1, "pred_empty")],
)  # fmt: skip
def test_status_says_which_mask_is_empty(tp: int, fp: int, fn: int, status: str) -> None:
    assert Counts(tp, fp, fn, tn=4).status == status
