"""Structures: label values, their indices, regions, and left and right."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core import structures
from medseg.core.colours import PALETTE
from medseg.core.errors import InputError, UsageError
from medseg.core.sides import side_of, without_side
from medseg.core.structures import Structure, StructureSet, Total, from_labels, value_counts
from medseg.core.volume import Grid

ORGANS = from_labels({7: "left kidney", 3: "liver", 5: "right kidney"})
TUMOUR = StructureSet(
    (
        Structure(2, "whole tumour", members=(1, 2, 4)),
        Structure(1, "core", members=(1, 4)),
        Structure(4, "enhancing", members=(4,)),
    )
)


def labels_of(*values: int, dtype: type = np.int64) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(len(values), 1, 1)


def test_indices_are_the_networks_outputs() -> None:
    encoded = ORGANS.encode(labels_of(0, 7, 3, 5, 7))
    assert encoded.dtype == np.uint8
    assert encoded.shape == (5, 1, 1)
    assert encoded.ravel().tolist() == [0, 1, 2, 3, 1]
    assert ORGANS.index_values == (0, 7, 3, 5)
    assert ORGANS.output_channels == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int64, np.uint64])
def test_indices_lead_back_to_the_values(dtype: type) -> None:
    labels = np.random.default_rng(0).choice([0, 3, 5, 7], (6, 5, 4)).astype(dtype)
    np.testing.assert_array_equal(np.asarray(ORGANS.index_values)[ORGANS.encode(labels)], labels)


def test_negative_and_large_values_are_values_like_others() -> None:
    odd = from_labels({-3: "a", 2**53 + 1: "b", 300: "c"})
    assert odd.encode(labels_of(2**53 + 1, -3, 0, 300)).ravel().tolist() == [2, 1, 0, 3]
    with pytest.raises(InputError, match=rf"{2**53} \(1 voxel\)"):
        odd.encode(labels_of(2**53))


def test_large_unsigned_values_are_told_apart() -> None:
    far = from_labels({2**63 + 1: "a", 2**63 + 2: "b"})
    assert far.encode(labels_of(2**63 + 2, 2**63 + 1, dtype=np.uint64)).ravel().tolist() == [2, 1]


@pytest.mark.fault("reliability 49")
def test_an_unknown_value_is_told_with_its_voxels() -> None:
    with pytest.raises(InputError) as fault:
        ORGANS.encode(labels_of(5, 9, 9, -1, 0))
    assert "-1 (1 voxel), 9 (2 voxels)" in str(fault.value)
    assert "0, 3, 5, 7" in str(fault.value)


@pytest.mark.fault("reliability 49")
@pytest.mark.fault("reliability 51")
def test_a_value_that_only_wraps_onto_a_known_one_is_unknown() -> None:
    with pytest.raises(InputError, match="259"):
        ORGANS.encode(labels_of(259))  # 256 + 3


def test_an_empty_array_has_no_unknown_value() -> None:
    assert ORGANS.encode(np.zeros((0, 2, 2), np.int16)).shape == (0, 2, 2)


def test_more_structures_than_a_byte_counts_are_refused_in_training_only() -> None:
    most = from_labels({n: f"s{n}" for n in range(1, 255)})
    assert most.encode(labels_of(254)).item() == 254
    many = from_labels({n: f"s{n}" for n in range(1, 256)})
    with pytest.raises(UsageError, match="256"):
        many.encode(labels_of(255))


def test_regions_are_encoded_by_their_members() -> None:
    assert TUMOUR.are_regions
    assert TUMOUR.output_channels == 3
    assert TUMOUR.known_values == TUMOUR.index_values == (0, 1, 2, 4)
    assert TUMOUR.encode(labels_of(4, 2, 0)).ravel().tolist() == [3, 2, 0]


def test_the_region_table_says_which_region_holds_which_index() -> None:
    expected = [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]
    np.testing.assert_array_equal(TUMOUR.region_table(), np.array(expected, dtype=bool))


def test_the_region_table_gives_the_masks() -> None:
    labels = np.random.default_rng(1).choice([0, 1, 2, 4], (4, 4, 4))
    through_table = TUMOUR.region_table()[:, TUMOUR.encode(labels)]
    for found, region in zip(through_table, TUMOUR, strict=True):
        np.testing.assert_array_equal(found, TUMOUR.mask(labels, region))


def test_a_mask_is_the_voxels_of_the_value() -> None:
    assert ORGANS.mask(labels_of(3, 5, 3), ORGANS["liver"]).ravel().tolist() == [True, False, True]
    with pytest.raises(UsageError, match=r"the structure 'spleen' does not exist.*liver"):
        ORGANS["spleen"]


def test_twins_are_found_in_the_names() -> None:
    assert ORGANS.twins() == ((7, 5),)
    assert ORGANS.twin_channels() == (0, 3, 2, 1)
    assert [s.side for s in ORGANS] == ["left", "none", "right"]


def test_twin_regions_trade_channels_without_a_background() -> None:
    both = StructureSet(
        (
            Structure(1, "a", side="right", twin="b", members=(1,)),
            Structure(2, "all", members=(1, 2)),
            Structure(3, "b", side="left", twin="a", members=(2, 3)),
        )
    )
    assert both.twin_channels() == (2, 1, 0)
    assert both.twins() == ((3, 1),)


@pytest.mark.parametrize(
    ("name", "side", "twin"),
    [
        ("left kidney", "left", "right kidney"),
        ("kidney_right", "right", "kidney_left"),
        ("Left-Thalamus-Proper", "left", "Right-Thalamus-Proper"),
        ("LEFT LUNG", "left", "RIGHT LUNG"),
        ("right", "right", "left"),
        ("right lung, left lobe", "right", "left lung, right lobe"),
        ("kidney_L", "left", "kidney_R"),
        ("R-Parotid", "right", "L-Parotid"),
        ("Lung (Lt)", "left", "Lung (Rt)"),
        ("ctx-lh-insula", "left", "ctx-rh-insula"),
        ("rh", "right", "lh"),
        ("vertebra L 1", "none", None),
        ("RHD", "none", None),
        ("brain-stem", "none", None),
        ("upright cleft", "none", None),
        ("leftover", "none", None),
        ("", "none", None),
    ],
)
def test_a_side_is_a_word_of_the_name(name: str, side: str, twin: str | None) -> None:
    assert side_of(name) == (side, twin)
    if twin is not None:
        assert side_of(twin)[1] == name


@pytest.mark.parametrize("name", ["kidney_L", "kidney (L)", "Lt kidney", "kidney lh", "LEFT kidney"])
def test_a_name_without_its_side_is_that_of_both(name: str) -> None:
    assert without_side(name, "left") == "kidney"


def test_a_side_without_a_counterpart_has_no_twin() -> None:
    lone = from_labels({1: "left atrium", 2: "aorta"})
    assert lone["left atrium"].side == "left"
    assert lone["left atrium"].twin is None
    assert lone.twins() == ()


def test_what_is_stated_is_not_guessed_again() -> None:
    stated = from_labels(
        [Structure(1, "left ear", side="left"), Structure(2, "right ear"), Structure(3, "left eye")]
    )
    assert stated["left ear"].twin is None
    assert stated["right ear"].twin is None
    assert stated["left eye"].side == "left"


A, B = Structure(1, "a"), Structure(2, "b")


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ((A, Structure(1, "b")), "the same name or the same value"),
        ((A, Structure(2, "a")), "the same name or the same value"),
        ((Structure(0, "air"),), "background"),
        ((A, Structure(2, "b", members=(1, 2))), "mixed"),
        ((Structure(1, "a", members=(0, 1)),), "contains 0, the background"),
        ((Structure(1, "a", side="left", twin="c"), B), "does not have the twin"),
        ((Structure(1, "a", side="left", twin="b"), B), "does not have the twin"),
        ((Structure(1, "a", side="left", twin="a"),), "sides"),
        ((Structure(1, "a", twin="b"), Structure(2, "b", twin="a")), "sides none and none"),
        (
            (Structure(1, "a", side="left", twin="b"), Structure(2, "b", side="left", twin="a")),
            "sides left and left",
        ),
    ],
)
def test_structures_that_contradict_each_other_are_refused(items: tuple[Structure, ...], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        StructureSet(items)


def test_structures_without_a_colour_get_one_each() -> None:
    many = from_labels({n: f"s{n}" for n in range(1, 20)})
    assert [s.colour for s in many][: len(PALETTE)] == list(PALETTE)
    assert StructureSet((Structure(1, "a", colour="#ABCDEF"),))["a"].colour == "#ABCDEF"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_are_counted(dtype: type, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "COUNTED_AT_ONCE", 100)
    labels = (
        np.random.default_rng(0).choice(np.array([0, 3, 7, 200]), size=(7, 8, 9)).astype(dtype, order=order)
    )
    values, counts = np.unique(labels, return_counts=True)
    assert value_counts(labels[::2]) == value_counts(labels[::2].copy())
    assert value_counts(labels) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert value_counts(labels[:0]) == {}


def test_a_name_without_a_side_means_both() -> None:
    eyes = from_labels({1: "left eye", 2: "right eye", 3: "nose"})
    assert [s.value for s in eyes.meant("eye")] == [1, 2]
    assert [s.value for s in eyes.meant("right eye")] == [2]
    assert [eyes.unsided(name) for name in eyes.names] == ["eye", "eye", "nose"]
    with pytest.raises(UsageError, match="the structure 'ear' does not exist"):
        eyes.meant("ear")


@pytest.mark.parametrize(
    "style", ["Left-Thalamus", "thalamus_left", "LEFT thalamus", "Thalamus (left)", "left thalamus"]
)
def test_a_name_loses_its_side_wherever_it_stands(style: str) -> None:
    other = style.replace("Left", "Right").replace("left", "right").replace("LEFT", "RIGHT")
    both = from_labels({1: style, 2: other, 3: "uprightness"})
    plain, twin, other = (both.unsided(name) for name in both.names)
    assert plain.lower() == twin.lower() == "thalamus"
    assert other == "uprightness"
    assert [s.value for s in both.meant(plain)] == [1, 2]


def test_a_structure_consists_of_its_members_or_of_itself() -> None:
    assert [s.label_values for s in ORGANS] == [(7,), (3,), (5,)]
    assert [s.label_values for s in TUMOUR] == [s.members for s in TUMOUR]
    assert TUMOUR.label_values == (1, 2, 4)


def test_every_volume_is_voxels_times_the_volume_of_one() -> None:
    grid = Grid((3, 3, 3), np.diag([0.9, 0.9, 0.9, 1]))
    five = 5 * grid.voxel_volume_mm3 / 1000
    assert five != 5 * (grid.voxel_volume_mm3 / 1000)  # as some places multiplied
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, 0] = labels[1, 1, :2] = 3
    count = value_counts(labels)
    assert ORGANS.voxels(count) == {"left kidney": 0, "liver": 5, "right kidney": 0}
    assert ORGANS.volumes_ml(count, grid) == {"left kidney": 0, "liver": five, "right kidney": 0}
    assert Total("all").voxels(labels) == 5
