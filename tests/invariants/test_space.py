"""Invariants of space: axes, origins, readers, files, resampling, tiles and borders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drawn import ORDERS, SEEDS, SHAPES, SIGNS, affines, examples, labels, noise
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_model
from scipy import ndimage
from scipy.special import expit

from medseg import io
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.data.phantom import phantom_case
from medseg.inference.engines.torch import torch_engine
from medseg.inference.predictor import Predictor
from medseg.model.spec import NetworkSpec
from medseg.networks import registry
from medseg.preparation.orient import Reorientation
from medseg.preparation.resample import resample, resample_labels
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

LEAST = st.tuples(*[st.integers(8, 20)] * 3)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter([tiny_model()], SegmenterOptions(threads=1))


# 1, 2: orientation and translation


@examples(8)
@given(seed=SEEDS, shape=LEAST, affine=affines(), order=ORDERS, signs=SIGNS)
def test_however_a_scan_is_stored_its_labels_are_the_same_in_the_world(
    segmenter: Segmenter, seed: int, shape: Any, affine: np.ndarray, order: Any, signs: Any
) -> None:
    array = phantom_case(np.random.default_rng(seed), (20, 20, 20))[0].array[
        :, : shape[0], : shape[1], : shape[2]
    ]
    volume = Volume(np.ascontiguousarray(array), Grid(array.shape[1:], affine), ("image",))
    turn = Reorientation(tuple(order), tuple(signs))
    turned = Volume(turn.forward(volume.array), turn.grid(volume.grid), ("image",))
    here, there = segmenter(volume).labels, segmenter(turned).labels
    np.testing.assert_array_equal(there.array, turn.forward(here.array))
    assert there.grid.matches(turned.grid)


@examples(5)
@given(seed=SEEDS, axis=st.integers(0, 2))
def test_a_flip_in_the_header_alone_changes_the_answer(segmenter: Segmenter, seed: int, axis: int) -> None:
    """A program that ignored affines would pass every other test of orientation."""
    volume = phantom_case(np.random.default_rng(seed), (18, 20, 16))[0]
    mirror = np.eye(4)
    mirror[axis, axis] = -1
    flipped = Volume(volume.array, Grid(volume.grid.shape, volume.grid.affine @ mirror), ("image",))
    assert (segmenter(volume).labels.array != segmenter(flipped).labels.array).any()


@examples(5)
@given(seed=SEEDS, shift=st.tuples(*[st.floats(-500, 500)] * 3))
def test_a_moved_origin_moves_the_labels_and_changes_none(
    segmenter: Segmenter, seed: int, shift: Any
) -> None:
    volume = phantom_case(np.random.default_rng(seed), (16, 18, 17))[0]
    affine = volume.grid.affine.copy()
    affine[:3, 3] += shift
    moved = Volume(volume.array, Grid(volume.grid.shape, affine), ("image",))
    here, there = segmenter(volume).labels, segmenter(moved).labels
    np.testing.assert_array_equal(there.array, here.array)
    np.testing.assert_array_equal(there.grid.affine, affine)


# 3, 6: readers and files


@examples()
@given(
    shape=SHAPES,
    affine=affines(),
    dtype=st.sampled_from(("u1", "i2", "u2", "i4", "f4")),
    suffix=st.sampled_from((".nii", ".nii.gz")),
    seed=SEEDS,
)
def test_two_libraries_read_one_file_alike(
    shape: Any, affine: np.ndarray, dtype: str, suffix: str, seed: int
) -> None:
    array = (noise(seed, *shape) * 50 + 120).clip(0, 250).astype(dtype)
    with folder() as place:
        image = nib.Nifti1Image(array, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        nib.save(image, place / f"a{suffix}")
        volume, other = io.read_volume(place / f"a{suffix}"), sitk.ReadImage(str(place / f"a{suffix}"))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(other).T)
    for corner in np.ndindex(2, 2, 2):
        index = [int(c * (n - 1)) for c, n in zip(corner, shape, strict=True)]
        theirs = np.multiply(other.TransformIndexToPhysicalPoint(index), (-1, -1, 1))
        ours = volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@examples()
@given(
    array=labels(most=255),
    affine=affines(),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any),
    suffix=st.sampled_from((".nii", ".nii.gz", ".mha", ".nrrd")),
)
def test_what_is_saved_is_loaded_and_saved_again_to_the_same_bytes(
    array: np.ndarray, affine: np.ndarray, codes: tuple[int, int], suffix: str
) -> None:
    grid = Grid(array.shape, affine)
    with folder() as place:
        form: FileForm | None = None
        if suffix.startswith(".nii"):
            image = nib.Nifti1Image(array, affine)
            image.set_sform(affine, codes[0])
            image.set_qform(affine, codes[1])
            nib.save(image, place / "scan.nii")
            scan = io.read_volume(place / "scan.nii")
            grid, form = scan.grid, replace(scan.form, suffix=suffix) if scan.form else None
        written = LabelMap(array, grid, form)
        for name in ("a", "b"):
            io.write_labels(place / f"{name}{suffix}", written)
        assert (place / f"a{suffix}").read_bytes() == (place / f"b{suffix}").read_bytes()
        found = io.read_labels(place / f"a{suffix}")
        np.testing.assert_array_equal(found.array, array)
        assert found.array.dtype == np.uint8
        assert found.grid.matches(grid)
        if form is not None and found.form is not None:
            assert (found.form.sform_code, found.form.qform_code) == (form.sform_code, form.qform_code)


# 4, 5: tiles, and sizes that come back


class Pointwise:
    """An engine that answers a voxel by that voxel."""

    name, precision = "pointwise", "f32"

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(tiles) * 3, dtype=np.float32)


@examples()
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3).filter(lambda s: np.prod(s) < 60_000),
    tile=st.tuples(*[st.sampled_from((8, 12, 16, 20))] * 3),
    overlap=st.floats(0, 0.9),
    strategy=st.sampled_from(("sliding_window", "overlap_tile")),
    weight=st.sampled_from(("gaussian", "constant")),
    batch=st.integers(1, 4),
    seed=SEEDS,
)
def test_tiles_of_any_size_answer_as_the_whole_in_its_own_shape(
    shape: Any, tile: Any, overlap: float, strategy: Any, weight: Any, batch: int, seed: int
) -> None:
    volume = noise(seed, 1, *shape)
    found = Predictor(
        engines=(Pointwise(),), stride=(4, 4, 4), radius=(5, 5, 5), tile=tile, tile_independent=True,
        strategy=strategy, overlap=overlap, weight=weight, batch=batch, regions=True, max_voxels=20**3,
    ).probabilities(volume)  # fmt: skip
    assert found.shape == volume.shape
    np.testing.assert_allclose(found, expit(np.sin(volume) * 3), atol=1e-6)


@pytest.fixture(scope="module")
def convolutional() -> Any:
    torch.manual_seed(3)
    spec = NetworkSpec("unet3d", 1, 2, widths=(4, 8), norm="batch")
    return registry.build(spec).eval()


@examples(3)
@given(shape=st.tuples(*[st.integers(30, 44)] * 3), share=st.floats(0.7, 0.95), seed=SEEDS)
def test_tiles_with_the_halo_of_a_network_answer_as_one_tile(
    convolutional: Any, shape: Any, share: float, seed: int
) -> None:
    whole = Predictor(
        engines=(torch_engine(convolutional, threads=1),), stride=convolutional.stride,
        radius=convolutional.receptive_radius, tile=(16, 16, 16), tile_independent=True, max_voxels=10**8,
    )  # fmt: skip
    volume = noise(seed, 1, *shape)
    (only,) = whole.plan(shape).tiles
    tiled = replace(whole, max_voxels=int(share * np.prod(only.read.shape)))
    assert len(tiled.plan(shape).tiles) > 1
    expected = whole.probabilities(volume)
    np.testing.assert_allclose(tiled.probabilities(volume), expected, atol=1e-5)


# 7: resampling


@examples()
@given(array=labels(most=6), shape=SHAPES)
def test_resampled_labels_gain_no_value_and_their_own_shape_changes_nothing(
    array: np.ndarray, shape: Any
) -> None:
    assert set(np.unique(resample_labels(array, shape))) <= set(np.unique(array))
    np.testing.assert_array_equal(resample_labels(array, array.shape), array)
    image = array[None].astype(np.float32)
    np.testing.assert_array_equal(resample(image, array.shape), image)
    between = resample(image, shape)
    assert between.min() >= image.min() - 1e-4
    assert between.max() <= image.max() + 1e-4


@examples(8)
@given(seed=SEEDS, shape=st.tuples(*[st.integers(24, 70)] * 3))
def test_resampling_keeps_the_volume_of_a_smooth_object(seed: int, shape: Any) -> None:
    waves = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(48, 48, 48)), 8)
    far = ((np.indices(waves.shape) - 23.5) ** 2).sum(0) / 18**2
    mask = (far + waves / waves.std() / 4 < 1).astype(np.uint8)
    found = resample_labels(mask, shape)
    assert found.mean() == pytest.approx(mask.mean(), rel=0.02)
