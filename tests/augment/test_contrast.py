"""Each change of intensity: nothing at zero magnitude, and what a hand or scipy computes otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg.augment import contrast
from medseg.augment.contrast import BiasFieldParams, ContrastParams
from medseg.augment.spec import (
    BiasFieldSpec,
    BlurSpec,
    ContrastSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
)
from medseg.core.errors import UsageError

MM = (1.0, 2.0, 4.0)


def patch(shape: tuple[int, ...] = (2, 12, 10, 8), seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


ZERO: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gamma": lambda x: contrast.gamma(x, (1.0, 1.0)),
    "linear": lambda x: contrast.linear(x, (1.0,), (0.0,)),
    "noise": lambda x: contrast.noise(x, (0.0,), 3),
    "blur": lambda x: contrast.blur(x, (0.0, 0.0), MM),
    "low_resolution": lambda x: contrast.low_resolution(x, (1.0, 1.0, 1.0)),
    "bias_field": lambda x: contrast.bias_field(x, BiasFieldParams(40.0, (4, 4, 4), ((0.0,) * 64,)), MM),
    "none": lambda x: contrast.apply(ContrastParams(), x, MM),
}
CHANGED = ContrastParams(
    blur_sigma_mm=(1.0, 2.0),
    low_resolution=(2.0, 1.0, 1.5),
    bias_field=BiasFieldParams(40.0, (4, 4, 4), ((0.2,) * 64, (-0.1,) * 64)),
    gamma=(0.8, 1.3),
    linear_scale=(1.1, 0.9),
    linear_shift=(0.1, -0.1),
    noise_sigma=(0.1, 0.2),
    noise_seed=11,
)


@pytest.mark.parametrize("name", ZERO)
def test_zero_magnitude_returns_the_image_itself(name: str) -> None:
    image = patch()
    assert ZERO[name](image) is image


def test_no_change_writes_to_the_image_it_was_given() -> None:
    image = patch()
    before = image.clone()
    changed = contrast.apply(CHANGED, image, MM)
    assert torch.equal(image, before)
    assert changed.shape == image.shape
    assert changed.dtype == torch.float32
    assert not torch.equal(changed, image)


@pytest.mark.parametrize(
    "drawn",
    [
        ContrastParams(gamma=(0.8, 1.3)),
        ContrastParams(blur_sigma_mm=(1.0, 2.0)),
        ContrastParams(bias_field=BiasFieldParams(40.0, (4, 4, 4), ((0.2,) * 64,) * 2)),
    ],
)
def test_changes_drawn_for_another_number_of_channels_are_refused(drawn: ContrastParams) -> None:
    with pytest.raises(UsageError, match="channels, but the image has 3"):
        contrast.apply(drawn, patch((3, 4, 4, 4)), MM)


def test_one_value_serves_all_channels() -> None:
    image = patch((3, 6, 6, 6))
    one = ContrastParams(gamma=(0.8,), noise_sigma=(0.1,), blur_sigma_mm=(1.0,))
    three = ContrastParams(gamma=(0.8,) * 3, noise_sigma=(0.1,) * 3, blur_sigma_mm=(1.0,) * 3)
    assert torch.equal(contrast.apply(one, image, MM), contrast.apply(three, image, MM))


def test_gamma_two_squares_the_share_of_the_range_of_each_channel() -> None:
    image = torch.tensor([[-1.0, 0.0, 1.0], [2.0, 3.0, 6.0]])[..., None, None]
    found = contrast.gamma(image, (2.0, 1.0))
    torch.testing.assert_close(found[0].flatten(), torch.tensor([-1.0, -0.5, 1.0]))
    torch.testing.assert_close(found[1].flatten(), torch.tensor([2.0, 3.0, 6.0]))


def test_gamma_keeps_a_constant_channel_and_the_order_of_intensities() -> None:
    flat = torch.full((1, 3, 3, 3), -2.5)
    torch.testing.assert_close(contrast.gamma(flat, (0.7,)), flat)
    image = patch()[:1]
    order = image.flatten().argsort()
    assert torch.all(contrast.gamma(image, (0.6,)).flatten()[order].diff() >= 0)


def test_linear_scales_about_the_mean_and_shifts() -> None:
    image = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None]
    found = contrast.linear(image, (2.0,), (0.5,))
    assert found.flatten().tolist() == pytest.approx([0.5, 2.5, 4.5])


def test_noise_has_the_deviation_asked_for_and_depends_on_its_seed_alone() -> None:
    image = torch.zeros(2, 30, 30, 30)
    one, two = contrast.noise(image, (0.1, 0.4), 7), contrast.noise(image, (0.1, 0.4), 7)
    assert torch.equal(one, two)
    assert not torch.equal(one, contrast.noise(image, (0.1, 0.4), 8))
    assert one.std((1, 2, 3)).tolist() == pytest.approx([0.1, 0.4], rel=0.03)


def test_blur_is_scipys_gaussian_with_the_sigma_in_millimetres() -> None:
    image = patch()
    found = contrast.blur(image, (2.0, 1.0), MM).numpy()
    for n, sigma_mm in enumerate((2.0, 1.0)):
        radius = [int(np.ceil(4 * sigma_mm / mm)) for mm in MM]
        expected = ndimage.gaussian_filter(
            image[n].numpy(), [sigma_mm / mm for mm in MM], mode="nearest", radius=radius
        )
        np.testing.assert_allclose(found[n], expected, atol=1e-5)


def test_low_resolution_by_two_averages_pairs_and_interpolates_between_their_centres() -> None:
    """0 2 | 4 6 has pair means 1 and 5 at 0.5 and 2.5; voxels 1 and 2 lie a quarter inside."""
    image = torch.tensor([0.0, 2.0, 4.0, 6.0])[None, :, None, None]
    found = contrast.low_resolution(image, (2.0, 1.0, 1.0))
    assert found.flatten().tolist() == pytest.approx([1.0, 2.0, 4.0, 5.0])


@pytest.mark.parametrize("factor", [1.3, 2.0, 3.7, 50.0])
def test_low_resolution_and_blur_keep_a_constant(factor: float) -> None:
    image = torch.full((1, 11, 7, 5), 3.0)
    torch.testing.assert_close(contrast.low_resolution(image, (factor,) * 3), image)
    torch.testing.assert_close(contrast.blur(image, (factor,), MM), image)


def test_a_constant_bias_field_multiplies_what_lies_above_the_darkest_voxel() -> None:
    image = torch.tensor([-1.0, 0.0, 3.0])[None, :, None, None]
    params = BiasFieldParams(40.0, (4, 1, 1), ((float(np.log(2.0)),) * 4,))
    found = contrast.bias_field(image, params, (1.0, 1.0, 1.0))
    assert found.flatten().tolist() == pytest.approx([-1.0, 1.0, 7.0], abs=1e-5)


def test_values_are_drawn_within_their_ranges_for_each_channel() -> None:
    generator = torch.Generator().manual_seed(2)
    every = ContrastSpec(
        BlurSpec(), LowResolutionSpec(), BiasFieldSpec(), GammaSpec(), LinearSpec(), NoiseSpec()
    )
    drawn = [contrast.sample(every, generator, (16, 16, 16), MM, 3) for _ in range(300)]
    gammas = [v for p in drawn if p.gamma for v in p.gamma]
    assert len(gammas) == pytest.approx(3 * 300 * 0.3, rel=0.25)
    assert 0.7 <= min(gammas) < 0.75
    assert 1.4 < max(gammas) <= 1.5
    assert len({len(p.noise_sigma) for p in drawn if p.noise_sigma}) == 1
    seeds = [p.noise_seed for p in drawn if p.noise_sigma]
    assert len(set(seeds)) == len(seeds)


def test_low_resolution_takes_one_axis_or_all_but_never_one_of_a_single_voxel() -> None:
    generator = torch.Generator().manual_seed(2)
    one = ContrastSpec(low_resolution=LowResolutionSpec(1.0, (2.0, 2.0), "one"))
    every = ContrastSpec(low_resolution=LowResolutionSpec(1.0, (2.0, 2.0), "all"))
    drawn = {contrast.sample(one, generator, (8, 8, 1), MM, 1).low_resolution for _ in range(40)}
    assert drawn == {(2.0, 1.0, 1.0), (1.0, 2.0, 1.0)}
    assert contrast.sample(every, generator, (8, 8, 1), MM, 1).low_resolution == (2.0, 2.0, 1.0)


def test_a_slice_is_changed_within_its_plane() -> None:
    image = patch((1, 9, 9, 1))
    found = contrast.apply(
        contrast.sample(
            ContrastSpec(blur=BlurSpec(1.0), low_resolution=LowResolutionSpec(1.0, (2.0, 2.0), "all")),
            torch.Generator().manual_seed(0),
            (9, 9, 1),
            MM,
            1,
        ),
        image,
        MM,
    )
    assert found.shape == image.shape
    assert bool(found.isfinite().all())
