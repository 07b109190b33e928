"""Flips keep left and right names true."""

from __future__ import annotations

import pytest
import torch

from medseg.augment import flip
from medseg.augment.spec import FlipSpec
from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet, from_labels

KIDNEYS = from_labels({7: "left kidney", 3: "liver", 5: "right kidney"})


@pytest.mark.fault("reliability 53")
def test_a_left_right_flip_exchanges_twins() -> None:
    swapped = flip.swapped_indices(KIDNEYS)
    assert swapped == (0, 3, 2, 1)
    labels = torch.tensor([1, 1, 2, 0, 3], dtype=torch.uint8)[:, None, None]
    found = flip.flip_labels(labels, (0,), swapped)
    assert found.flatten().tolist() == [1, 0, 2, 3, 3]
    assert torch.equal(flip.flip_labels(found, (0,), swapped), labels)


def test_other_flips_leave_names_alone() -> None:
    labels = torch.tensor([1, 2, 3], dtype=torch.uint8)[None, :, None]
    found = flip.flip_labels(labels, (1, 2), flip.swapped_indices(KIDNEYS))
    assert found.flatten().tolist() == [3, 2, 1]


def test_the_image_is_reversed_along_the_axes_named() -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(flip.flip_image(image, (0, 2)), image.flip(1).flip(3))
    assert flip.flip_image(image, ()) is image


@pytest.mark.fault("reliability 53")
def test_a_side_without_a_twin_forbids_the_left_right_flip_only() -> None:
    lone = from_labels({1: "left lung", 2: "heart"})
    with pytest.raises(UsageError, match="mislabel left lung"):
        flip.require_twins((0, 1), lone)
    flip.require_twins((1, 2), lone)
    flip.require_twins((0, 1), KIDNEYS)


def test_the_table_of_plain_labels_is_the_networks() -> None:
    assert flip.swapped_indices(KIDNEYS) == KIDNEYS.twin_channels()
    assert KIDNEYS.index_values == (0, 7, 3, 5)


def regions(left: tuple[int, ...], right: tuple[int, ...]) -> StructureSet:
    return StructureSet(
        (
            Structure(20, "left", side="left", twin="right", members=left),
            Structure(21, "right", side="right", twin="left", members=right),
            Structure(22, "all", members=(1, 2, 3, 4, 9)),
        )
    )


def test_twin_regions_exchange_their_members_in_order() -> None:
    both = regions((1, 2), (3, 4))
    assert both.index_values == (0, 1, 2, 3, 4, 9)
    assert flip.swapped_indices(both) == (0, 3, 4, 1, 2, 5)


@pytest.mark.parametrize(("left", "right"), [((1, 2), (3,)), ((1, 2), (3, 3))])
def test_twin_regions_that_cannot_be_paired_are_refused(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="twin"):
        flip.swapped_indices(regions(left, right))


def test_each_axis_is_flipped_as_often_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [flip.sample(FlipSpec(axes=(2, 0), probability=0.25), generator) for _ in range(2000)]
    for axis, expected in ((0, 500), (1, 0), (2, 500)):
        assert sum(axis in axes for axes in drawn) == pytest.approx(expected, abs=80)
    assert all(tuple(sorted(axes)) == axes for axes in drawn)
