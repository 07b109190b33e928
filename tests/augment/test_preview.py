"""What is shown of augmentation: the patch as it is, draws, and where their voxels were read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.augment.compose import Params
from medseg.augment.preview import Drawn, Preview
from medseg.augment.spec import AffineSpec, AugmentSpec, ContrastSpec, FlipSpec, NoiseSpec
from medseg.core.structures import from_labels

VOLUME, START, SHAPE = (26, 24, 20), (3, 2, 1), (18, 16, 14)
STRUCTURES = from_labels({1: "liver"})
INNER = tuple(slice(s, s + n) for s, n in zip(START, SHAPE, strict=True))


def image() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(1, *VOLUME))
    return np.float32(ndimage.gaussian_filter(noise, (0, 1, 1, 1)))


def labels() -> np.ndarray:
    held = np.zeros(VOLUME, np.uint8)
    held[8:16, 6:14, 5:12] = 1
    return held


def draws(what: AugmentSpec | str, count: int = 2, seed: int = 0) -> list[Drawn]:
    preview = Preview(
        what, STRUCTURES, image(), labels(), spacing_mm=(1.0, 1.0, 2.0), start=START, shape=SHAPE
    )
    return list(preview.draws(count, seed))


def test_the_first_is_the_patch_as_it_is() -> None:
    first = draws("unet3d2016")[0]
    assert first.params == Params()
    assert np.array_equal(first.image, image()[:, *INNER])
    assert np.array_equal(first.labels, labels()[INNER])
    assert np.array_equal(first.positions_voxels, np.indices(VOLUME, np.float32)[:, *INNER])


@pytest.mark.parametrize(
    "what", ["vnet2016", "simard2003", AugmentSpec("unet3d2016", AffineSpec(1.0), FlipSpec())]
)
def test_positions_say_where_each_voxel_was_read(what: AugmentSpec | str) -> None:
    for one in draws(what, 3)[1:]:
        assert one.params.elastic is not None
        expected = ndimage.map_coordinates(image()[0], one.positions_voxels, order=1, mode="nearest")
        np.testing.assert_allclose(one.image[0], expected, atol=1e-3)


def test_a_preset_is_always_applied_and_a_recipe_as_often_as_it_says() -> None:
    assert all(one.params.elastic is not None for one in draws("vnet2016", 8)[1:])
    applied = {one.params.elastic is not None for one in draws(AugmentSpec("vnet2016"), 8)[1:]}
    assert applied == {True, False}


def test_intensities_change_as_well_and_positions_do_not() -> None:
    noisy = AugmentSpec(contrast=ContrastSpec(noise=NoiseSpec(1.0, (0.5, 0.5))))
    first, second = draws(noisy, 1)
    assert np.std(second.image - first.image) == pytest.approx(0.5, rel=0.1)
    assert np.array_equal(first.positions_voxels, second.positions_voxels)


def test_more_draws_begin_with_the_same_ones() -> None:
    few, many = draws("unet2015", 1, seed=4), draws("unet2015", 3, seed=4)
    assert [one.params for one in few] == [one.params for one in many[:2]]
    assert few[1].params != draws("unet2015", 1, seed=5)[1].params
