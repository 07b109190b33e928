"""Preparation: any way to store a scan prepares to the same array, and everything finds its way back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg import io
from medseg.core import specs
from medseg.core.errors import GeometryError, GridMismatchError, InputError, UsageError
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.orient import Reorientation, canonical
from medseg.preparation.preparation import Preparation, PreparationSpec

SHAPE = (9, 12, 7)
OBLIQUE = np.array(
    [[0.95, -0.21, 0.13, -8.0], [0.2, 1.25, 0.3, 4.5], [-0.12, -0.25, 1.9, 11.0], [0.0, 0.0, 0.0, 1.0]]
)
SPECS = {
    "as it is": PreparationSpec(),
    "cropped": PreparationSpec(crop="nonzero"),
    "cropped to what differs": PreparationSpec(crop="foreground"),
    "finer": PreparationSpec(spacing_mm=(0.7, 0.8, 0.9)),
    "coarser, cropped": PreparationSpec((1.5, 1.9, 2.6), "nonzero", NormalisationSpec(region="nonzero")),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
TURNS = [
    Reorientation(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def scan(shape: tuple[int, int, int] = SHAPE, affine: NDArray[np.float64] = OBLIQUE) -> Volume:
    """Two noisy channels with zeros around them."""
    array = np.random.default_rng(5).gamma(2.0, 50.0, size=(2, *shape)).astype(np.float32)
    if min(shape) > 5:
        array[:, :2] = array[:, :, -1:] = array[..., -2:] = 0
    return Volume(array, Grid(shape, affine), ("t1", "t2"))


def labels_of(volume: Volume) -> LabelMap:
    return LabelMap((volume.array[0] // 60).astype(np.uint8), volume.grid)


def stored(volume: Volume, turn: Reorientation) -> Volume:
    return Volume(np.ascontiguousarray(turn.forward(volume.array)), turn.grid(volume.grid), volume.channels)


def probabilities(shape: tuple[int, ...], classes: int = 3) -> NDArray[np.float32]:
    drawn = np.random.default_rng(6).dirichlet(np.ones(classes), size=shape)
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 0), dtype=np.float32)


@every_spec
def test_all_48_ways_to_store_a_scan_prepare_to_the_same_bits(spec: PreparationSpec) -> None:
    volume, step = scan(), Preparation(spec)
    labels = labels_of(volume)
    expected = step.apply(volume)
    expected_labels = step.apply_labels(labels, expected)
    for turn in TURNS:
        prepared = step.apply(stored(volume, turn))
        np.testing.assert_array_equal(prepared.array, expected.array)
        assert prepared.array.flags.c_contiguous
        assert prepared.grid.matches(expected.grid, 1e-9)
        turned = LabelMap(turn.forward(labels.array), turn.grid(labels.grid))
        np.testing.assert_array_equal(step.apply_labels(turned, prepared), expected_labels)


@every_spec
def test_answers_come_back_to_the_same_place_in_the_world(spec: PreparationSpec) -> None:
    volume, step = scan(), Preparation(spec)
    known = step.apply(volume)
    given = probabilities(known.grid.shape)
    here = known.to_input(known.restore(given, background=True).argmax(axis=0))
    for turn in TURNS:
        prepared = step.apply(stored(volume, turn))
        there = prepared.to_input(prepared.restore(given, background=True).argmax(axis=0))
        assert there.flags.c_contiguous
        np.testing.assert_array_equal(there, turn.forward(here))


@every_spec
def test_a_moved_origin_moves_only_the_affine(spec: PreparationSpec) -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += 100.0, -250.0, 17.5
    here, there = (Preparation(spec).apply(scan(affine=a)) for a in (OBLIQUE, moved))
    np.testing.assert_array_equal(there.array, here.array)
    np.testing.assert_allclose(there.grid.affine[:3, 3] - here.grid.affine[:3, 3], [100.0, -250.0, 17.5])


@every_spec
@pytest.mark.parametrize("height", [1, 2, 5, 50])
def test_slabs_join_to_exactly_the_whole(spec: PreparationSpec, height: int) -> None:
    prepared = Preparation(spec).apply(scan())
    given = probabilities(prepared.grid.shape)
    for background in (True, False):
        slabs = [
            prepared.restore(given, slice(n, n + height), background=background)
            for n in range(0, prepared.oriented_shape[0], height)
        ]
        whole = prepared.restore(given, background=background)
        assert whole.shape == (3, *prepared.oriented_shape)
        assert whole.dtype == np.float32
        np.testing.assert_array_equal(np.concatenate(slabs, axis=1), whole)


@every_spec
def test_restored_classes_still_sum_to_one(spec: PreparationSpec) -> None:
    prepared = Preparation(spec).apply(scan())
    whole = prepared.restore(probabilities(prepared.grid.shape), background=True)
    np.testing.assert_allclose(whole.sum(axis=0), 1.0, atol=1e-5)


def test_without_resampling_probabilities_come_back_bit_for_bit() -> None:
    prepared = Preparation(PreparationSpec(crop="nonzero")).apply(scan())
    given = probabilities(prepared.grid.shape)
    whole = prepared.restore(given, background=True)
    inside = prepared.box.slices
    np.testing.assert_array_equal(whole[(slice(None), *inside)], given)
    outside = np.ones(prepared.oriented_shape, np.bool_)
    outside[inside] = False
    assert (whole[0][outside] == 1).all()
    assert not whole[1:, outside].any()
    assert not prepared.restore(given, background=False)[:, outside].any()


def test_the_crop_keeps_what_any_channel_holds() -> None:
    array = np.zeros((2, 8, 8, 8), np.float32)
    array[0, 2:4, 3:6, 3] = array[1, 5, 3, 3:7] = np.float32([1.0, 2.0, 1.0, 3.0])[:1]
    array[:, 3, 3, 3] = 7.0
    prepared = Preparation(PreparationSpec(crop="nonzero")).apply(
        Volume(array, Grid((8, 8, 8), np.eye(4)), ("a", "b"))
    )
    assert (prepared.box.start, prepared.box.stop) == ((2, 3, 3), (6, 6, 7))


@pytest.mark.parametrize("spacing_mm", [None, (0.6, 0.9, 1.7), (2.0, 3.0, 4.0)])
@pytest.mark.parametrize("shape", [(1, 1, 6), (1, 70, 1), (2, 3, 5), (7, 1, 33), (70, 13, 4)])
@pytest.mark.fault("reliability 36")
@pytest.mark.fault("reliability 37")
def test_every_size_comes_back_at_its_size(shape: Any, spacing_mm: Any) -> None:
    volume = scan(shape)
    prepared = Preparation(PreparationSpec(spacing_mm, "nonzero", NormalisationSpec("none"))).apply(volume)
    restored = prepared.restore(probabilities(prepared.grid.shape), background=True)
    assert prepared.to_input(restored.argmax(axis=0)).shape == shape


def test_labels_sent_there_and_back_barely_change() -> None:
    shape = (40, 44, 36)
    i, j, k = np.indices(shape) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    truth = (i**2 + (j / 1.2) ** 2 + k**2 < 14**2).astype(np.uint8) * 2
    volume = scan(shape)
    step = Preparation(PreparationSpec(spacing_mm=(1.1, 1.0, 1.5)))
    prepared = step.apply(volume)
    inner = step.apply_labels(LabelMap(truth, volume.grid), prepared)
    given = np.stack([inner == 0, inner == 2]).astype(np.float32)
    back = prepared.to_input(prepared.restore(given, background=True).argmax(axis=0))
    both = np.count_nonzero(back & (truth > 0))
    assert 2 * both / (np.count_nonzero(back) + np.count_nonzero(truth)) > 0.97


def test_labels_in_another_axis_order_than_the_image_are_taken() -> None:
    volume, step = scan(), Preparation()
    labels = labels_of(volume)
    prepared = step.apply(volume)
    turn = canonical(Grid(SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0])))
    turned = LabelMap(turn.forward(labels.array), turn.grid(labels.grid))
    np.testing.assert_array_equal(step.apply_labels(turned, prepared), step.apply_labels(labels, prepared))


@pytest.mark.fault("reliability 47")
def test_labels_on_another_grid_are_refused() -> None:
    volume, step = scan(), Preparation()
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.01
    labels = LabelMap(labels_of(volume).array, Grid(SHAPE, moved))
    with pytest.raises(GridMismatchError):
        step.apply_labels(labels, step.apply(volume))


def test_the_result_is_new_and_the_scan_untouched() -> None:
    volume = scan()
    before = volume.array.copy()
    for spec in SPECS.values():
        prepared = Preparation(spec).apply(volume)
        prepared.array[...] = -1.0
        prepared.restore(prepared.array, background=False)[...] = -2.0
        assert (prepared.array == -1.0).all()
    np.testing.assert_array_equal(volume.array, before)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
@every_spec
@pytest.mark.fault("reliability 34")
def test_a_constant_scan_is_refused(spec: PreparationSpec, value: float) -> None:
    volume = Volume(np.full((1, *SHAPE), value, np.float32), Grid(SHAPE, OBLIQUE), ("t1",))
    with pytest.raises(InputError, match="'t1' is constant"):
        Preparation(spec).apply(volume)


@every_spec
@pytest.mark.fault("reliability 32")
def test_one_bad_voxel_is_refused(spec: PreparationSpec) -> None:
    array = scan().array.copy()
    array[1, 4, 4, 4] = np.nan
    with pytest.raises(InputError, match="1 of 756 voxels of channel 't2' is not finite"):
        Preparation(spec).apply(Volume(array, Grid(SHAPE, OBLIQUE), ("t1", "t2")))


def test_probabilities_of_another_shape_are_refused() -> None:
    prepared = Preparation().apply(scan())
    with pytest.raises(GeometryError):
        prepared.restore(probabilities((4, 4, 4)), background=True)
    with pytest.raises(GeometryError):
        prepared.to_input(np.zeros((4, 4, 4), np.uint8))


def test_an_impossible_spacing_is_refused() -> None:
    with pytest.raises(UsageError):
        PreparationSpec(spacing_mm=(1.0, 0.0, 1.0))


def test_specs_survive_json() -> None:
    for spec in SPECS.values():
        text = json.dumps(specs.to_mapping(spec))
        assert specs.from_mapping(PreparationSpec, json.loads(text), source="x") == spec


@pytest.mark.realdata
def test_real_scans_prepare_and_come_back(data_root: Path) -> None:
    paths = sorted((data_root / "hippocampus" / "imagesTr").glob("*.nii.gz"))
    assert paths
    step = Preparation(PreparationSpec(spacing_mm=(1.2, 1.0, 0.9)))
    for path in paths[::10]:
        volume = io.read_volume(path)
        prepared = step.apply(volume)
        assert prepared.grid.axis_codes == "RAS"
        assert np.isfinite(prepared.array).all()
        assert prepared.array.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-3)
        truth = io.read_labels(data_root / "hippocampus" / "labelsTr" / path.name)
        inner = step.apply_labels(truth, prepared)
        given = np.stack([inner == value for value in (0, 1, 2)]).astype(np.float32)
        back = prepared.to_input(prepared.restore(given, background=True).argmax(axis=0))
        both = np.count_nonzero((back > 0) & (truth.array > 0))
        assert 2 * both / (np.count_nonzero(back) + np.count_nonzero(truth.array)) > 0.9


@pytest.mark.parametrize("shape", [(24, 30, 26), (40, 33, 36)])
@pytest.mark.parametrize("voxel_mm", [None, 1.6, 2.0, 3.1])
def test_what_lies_outside_a_head_has_no_part_in_its_intensities(
    shape: tuple[int, int, int], voxel_mm: float | None
) -> None:
    distances = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2 + 0.5) / 11.0, axis=-1).T
    head = np.random.default_rng(1).normal(1.0, 0.5, shape).astype(np.float32)
    array = np.where(distances < 1, head, -3.1607306).astype(np.float32)
    volume = Volume(array[None], Grid(shape, np.eye(4)), ("flair",))
    spacing = None if voxel_mm is None else (voxel_mm,) * 3
    spec = PreparationSpec(spacing, "foreground", NormalisationSpec("zscore", "foreground", None))
    prepared = Preparation(spec).apply(volume)
    assert prepared.array[0, 0, 0, 0] == 0.0
    assert prepared.array.mean() == pytest.approx(0, abs=0.02)
    whole = PreparationSpec(None, "none", spec.normalisation)
    native = Preparation(whole).apply(volume).array
    inside = head[distances < 1]
    np.testing.assert_allclose(native[0][distances < 1], (inside - inside.mean()) / inside.std(), atol=1e-4)
