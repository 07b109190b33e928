"""Post-processing: components and holes, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core import specs
from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.inference.postprocess import postprocess
from medseg.model.spec import PostprocessSpec

ORGANS = from_labels({3: "liver", 7: "spleen"})
GRID = Grid((12, 12, 12), np.diag([1.0, 2.0, 0.5, 1.0]))  # 1 mm3 a voxel


def empty() -> NDArray[np.uint8]:
    return np.zeros((12, 12, 12), np.uint8)


def test_nothing_is_asked_for_and_nothing_changes() -> None:
    labels = np.random.default_rng(0).choice(np.uint8([0, 3, 7]), size=GRID.shape)
    labels.setflags(write=False)
    out = postprocess(labels, ORGANS, PostprocessSpec(), GRID)
    assert out is labels


def test_only_the_largest_component_of_the_named_structure_stays() -> None:
    labels = empty()
    labels[1:4, 1:4, 1:4] = 3
    labels[8, 8, 8:10] = 3
    labels[6, 1, 1] = labels[10, 10, 1] = 7
    out = postprocess(labels, ORGANS, PostprocessSpec(largest_component=("liver",)), GRID)
    expected = labels.copy()
    expected[8, 8, 8:10] = 0
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == labels.dtype


def test_voxels_that_share_a_corner_are_connected() -> None:
    labels = empty()
    labels[2:4, 2:4, 2:4] = 3
    labels[4, 4, 4] = 3
    out = postprocess(labels, ORGANS, PostprocessSpec(largest_component=("liver",)), GRID)
    np.testing.assert_array_equal(out, labels)


def test_the_largest_agrees_with_scipy() -> None:
    labels = (np.random.default_rng(1).random((24, 25, 26)) < 0.06).astype(np.int16) * 3
    grid = Grid(labels.shape, np.eye(4))
    out = postprocess(labels, ORGANS, PostprocessSpec(largest_component=("liver",)), grid)
    components, count = ndimage.label(labels == 3, np.ones((3, 3, 3)))
    assert count > 20
    sizes = ndimage.sum_labels(labels == 3, components, np.arange(1, count + 1))
    assert np.count_nonzero(out) == sizes.max()
    assert len(np.unique(components[out > 0])) == 1


@pytest.mark.parametrize(("limit_mm3", "left"), [(1.0, [1, 2, 8]), (2.0, [2, 8]), (2.1, [8]), (9.0, [])])
def test_components_below_the_volume_go(limit_mm3: float, left: list[int]) -> None:
    labels = empty()
    labels[0, 0, 0] = 7
    labels[5, 5, 5:7] = 7
    labels[8:10, 8:10, 8:10] = 7
    out = postprocess(labels, ORGANS, PostprocessSpec(min_volume_mm3={"spleen": limit_mm3}), GRID)
    components, count = ndimage.label(out == 7)
    assert sorted(np.bincount(components.ravel())[1:].tolist()) == left
    assert count == len(left)


def test_the_volume_counts_millimetres_not_voxels() -> None:
    labels = empty()
    labels[0, 0, 0] = 7
    spec = PostprocessSpec(min_volume_mm3={"spleen": 5.0})
    coarse = Grid(GRID.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert not postprocess(labels, ORGANS, spec, GRID).any()
    assert postprocess(labels, ORGANS, spec, coarse).any()


def test_holes_are_filled_but_other_structures_are_not_overwritten() -> None:
    labels = empty()
    labels[2:9, 2:9, 2:9] = 3
    labels[4:7, 4:7, 4:7] = 0
    labels[5, 5, 5] = 7
    out = postprocess(labels, ORGANS, PostprocessSpec(fill_holes=("liver",)), GRID)
    expected = empty()
    expected[2:9, 2:9, 2:9] = 3
    expected[5, 5, 5] = 7
    np.testing.assert_array_equal(out, expected)


def test_what_is_open_to_the_outside_is_no_hole() -> None:
    labels = empty()
    labels[2:9, 2:9, 2:9] = 3
    labels[4:7, 4:7, 4:] = 0
    out = postprocess(labels, ORGANS, PostprocessSpec(fill_holes=("liver",)), GRID)
    np.testing.assert_array_equal(out, labels)


def test_a_hole_in_a_flat_image_is_a_hole() -> None:
    labels = np.zeros((8, 8, 1), np.uint8)
    labels[2:6, 2:6] = 3
    labels[3, 3] = 0
    out = postprocess(labels, ORGANS, PostprocessSpec(fill_holes=("liver",)), Grid((8, 8, 1), np.eye(4)))
    assert out[3, 3, 0] == 3
    assert np.count_nonzero(out) == 16


def test_a_flat_structure_in_a_deep_image_encloses_nothing() -> None:
    labels = empty()
    labels[2:6, 2:6, 4] = 3
    labels[3, 3, 4] = 0
    out = postprocess(labels, ORGANS, PostprocessSpec(fill_holes=("liver",)), GRID)
    np.testing.assert_array_equal(out, labels)


def test_axis_order_does_not_matter() -> None:
    labels = np.random.default_rng(4).choice(np.uint8([0, 3, 7]), p=[0.8, 0.12, 0.08], size=(9, 10, 11))
    spec = PostprocessSpec(min_volume_mm3={"liver": 3.0, "spleen": 2.0}, fill_holes=("liver",))
    out = postprocess(labels, ORGANS, spec, Grid((9, 10, 11), np.eye(4)))
    turned = postprocess(labels.transpose(2, 0, 1)[::-1], ORGANS, spec, Grid((11, 9, 10), np.eye(4)))
    np.testing.assert_array_equal(turned[::-1].transpose(1, 2, 0), out)


def test_a_structure_that_is_absent_stays_absent() -> None:
    spec = PostprocessSpec(("liver",), {"spleen": 1.0}, ("liver", "spleen"))
    assert not postprocess(empty(), ORGANS, spec, GRID).any()


def test_regions_are_worked_on_by_the_value_they_paint() -> None:
    regions = StructureSet((Structure(1, "whole tumour", members=(1, 2)), Structure(2, "core", members=(2,))))
    labels = empty()
    labels[1:5, 1:5, 1:5] = 1
    labels[2, 2, 2] = labels[9, 9, 9] = 2
    out = postprocess(labels, regions, PostprocessSpec(min_volume_mm3={"whole tumour": 10.0}), GRID)
    np.testing.assert_array_equal(out, labels)
    out = postprocess(labels, regions, PostprocessSpec(largest_component=("core",)), GRID)
    assert np.count_nonzero(out == 2) == 1


def test_an_unknown_structure_is_refused() -> None:
    with pytest.raises(UsageError, match="the structure 'kidney' does not exist"):
        postprocess(empty(), ORGANS, PostprocessSpec(fill_holes=("kidney",)), GRID)


@pytest.mark.parametrize("volume", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_volume_is_refused(volume: float) -> None:
    with pytest.raises(UsageError, match="positive"):
        PostprocessSpec(min_volume_mm3={"liver": volume})


def test_the_spec_survives_json() -> None:
    spec = PostprocessSpec(("liver",), {"spleen": 20.0}, ("spleen",))
    text = json.dumps(specs.to_mapping(spec))
    assert specs.from_mapping(PostprocessSpec, json.loads(text), source="x") == spec


HEAD = from_labels({1: "left lobe", 2: "right lobe", 5: "stem"})


def halves() -> NDArray[np.uint8]:
    labels = empty()
    labels[1:6, 1:11, 1:11] = 1
    labels[6:11, 1:11, 1:11] = 2
    return labels


def test_a_speck_of_one_side_within_the_other_becomes_that_one() -> None:
    labels = halves()
    labels[8, 4, 4] = labels[9, 7:9, 7] = 1
    labels[3, 3, 3] = 2
    out = postprocess(labels, HEAD, PostprocessSpec(one_side=True), GRID)
    np.testing.assert_array_equal(out, halves())


def test_a_large_piece_of_a_side_stays_on_it() -> None:
    """Half a cerebellum lies apart from its side, and touches the other half."""
    labels = halves()
    labels[8:11, 1:4, 1:4] = 1
    out = postprocess(labels, HEAD, PostprocessSpec(one_side=True), GRID)
    np.testing.assert_array_equal(out, labels)


def test_a_small_piece_becomes_what_it_touches_most() -> None:
    labels = halves()
    labels[8, 4, 4] = 5
    labels[3, 11, 3] = 5
    labels[4:8, 8:11, 8:11] = 5
    expected = labels.copy()
    expected[8, 4, 4], expected[3, 11, 3] = 2, 0
    out = postprocess(labels, HEAD, PostprocessSpec(one_piece=("stem",)), GRID)
    np.testing.assert_array_equal(out, expected)


def test_a_structure_of_two_large_pieces_keeps_both() -> None:
    labels = empty()
    labels[1:4, 1:4, 1:4] = labels[7:10, 7:10, 7:9] = 5
    out = postprocess(labels, HEAD, PostprocessSpec(one_piece=("stem",)), GRID)
    np.testing.assert_array_equal(out, labels)


def test_a_name_without_a_side_stands_for_both() -> None:
    labels = halves()
    labels[2, 2, 2] = labels[8, 8, 8] = 0
    out = postprocess(labels, HEAD, PostprocessSpec(fill_holes=("lobe",)), GRID)
    np.testing.assert_array_equal(out, halves())


def test_sides_and_pieces_of_an_empty_map_are_empty() -> None:
    spec = PostprocessSpec(one_side=True, one_piece=("lobe", "stem"))
    assert not postprocess(empty(), HEAD, spec, GRID).any()
