"""The dense CRF: the grid against exact sums over all pairs of voxels, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg.classical import dense_crf as crf
from medseg.classical.dense_crf import dense_crf
from medseg.classical.spec import DenseCrfSpec
from medseg.core.errors import UsageError

NEAR = DenseCrfSpec(bilateral_mm=4.0, intensity=0.3)
WIDE = DenseCrfSpec(bilateral_mm=10.0, intensity=0.5, spatial_mm=3.0, iterations=3)


def blob(shape: tuple[int, int, int], channels: int = 1, outputs: int = 2) -> tuple[np.ndarray, ...]:
    """What is there, images of it, and noisy probabilities."""
    rng = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(rng.normal(size=shape), 2) for _ in range(outputs)])
    labels = smooth.argmax(axis=0)
    images = labels + 0.2 * rng.normal(size=(channels, *shape))
    logits = np.eye(outputs)[labels].transpose(3, 0, 1, 2) + rng.normal(size=smooth.shape)
    return labels, images.astype(np.float32), softmax(logits).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def exact_kernels(
    images: np.ndarray, spacing_mm: tuple[float, float, float], spec: DenseCrfSpec
) -> list[np.ndarray]:
    """Both normalised kernels (N, N), by the definition: 0 for a voxel and itself."""
    shape = images.shape[1:]
    axes = (np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    greys = images.reshape(len(images), -1).T.astype(float)
    far, unlike = (((x[:, None] - x[None]) ** 2).sum(-1) for x in (places, greys))
    kernels = []
    for exponent in (
        far / (2 * spec.bilateral_mm**2) + unlike / (2 * spec.intensity**2),
        far / (2 * spec.spatial_mm**2),
    ):
        kernel = np.exp(-exponent)
        scale = 1 / np.sqrt(kernel.sum(axis=1))
        kernels.append(kernel * scale[:, None] * scale)
        np.fill_diagonal(kernels[-1], 0)
    return kernels


def exact(
    probabilities: np.ndarray, images: np.ndarray, spacing_mm: tuple[float, float, float], spec: DenseCrfSpec
) -> np.ndarray:
    """The mean field by sums over all pairs."""
    flat = probabilities.reshape(len(probabilities), -1).astype(float)
    found, kernels = flat, exact_kernels(images, spacing_mm, spec)
    for _ in range(spec.iterations):
        messages = spec.bilateral_weight * found @ kernels[0] + spec.spatial_weight * found @ kernels[1]
        found = softmax(np.log(flat) + messages)
    return found.reshape(probabilities.shape)


@pytest.mark.parametrize("spec", [NEAR, WIDE], ids=["near", "wide"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 1.2, 2.5)])
def test_the_mean_field_is_that_of_sums_over_all_pairs(
    spec: DenseCrfSpec, channels: int, spacing_mm: tuple[float, float, float]
) -> None:
    labels, images, given = blob((11, 12, 10), channels, outputs=3)
    found, expected = dense_crf(given, images, spacing_mm, spec), exact(given, images, spacing_mm, spec)
    error = np.abs(found - expected)
    assert error.max() < 0.06
    assert math.sqrt((error**2).mean()) < 0.006
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert (found.argmax(axis=0) == labels).mean() > (given.argmax(axis=0) == labels).mean() + 0.1


def test_a_message_is_within_a_quarter_of_the_spread_of_the_exact_ones() -> None:
    _, images, given = blob((12, 12, 12))
    spec = DenseCrfSpec(bilateral_mm=6.0, intensity=0.3)
    flat = given.reshape(2, -1)
    kernel, scale = crf._normalised(crf._bilateral(images, (1, 1, 1), spec), flat.shape[1])
    found = scale * (kernel(scale * flat) - scale * flat)
    expected = flat @ exact_kernels(images, (1, 1, 1), spec)[0]
    assert np.abs(found - expected).max() < 0.25 * expected.std()
    assert math.sqrt(((found - expected) ** 2).mean()) < 0.06 * expected.std()


def test_without_weights_the_probabilities_stay() -> None:
    _, images, given = blob((6, 7, 5))
    found = dense_crf(given, images, (1, 1, 1), DenseCrfSpec(bilateral_weight=0, spatial_weight=0))
    np.testing.assert_allclose(found, given, atol=1e-6)


def test_of_a_constant_image_the_bilateral_kernel_is_the_spatial_one_of_its_width() -> None:
    _, images, given = blob((12, 12, 12))
    flat, spec = np.zeros_like(images), DenseCrfSpec(3.0, 3.0, 0.2, 0.0, 1.0)
    spatial = DenseCrfSpec(0.0, 1.0, 0.2, 3.0, 3.0)
    found, expected = (dense_crf(given, flat, (1, 1, 1), s) for s in (spec, spatial))
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.abs(expected - given).max() > 0.3


def test_a_single_slice_and_a_single_voxel_will_do() -> None:
    for shape in ((9, 8, 1), (1, 1, 1)):
        _, images, given = blob(shape)
        found = dense_crf(given, images, (1, 1, 5), DenseCrfSpec())
        assert found.shape == given.shape
        assert np.isfinite(found).all()


def test_a_finer_grid_than_there_is_room_for_is_coarser_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, images, given = blob((11, 12, 10))
    usual = dense_crf(given, images, (1, 1, 1), NEAR)
    sizes = crf._cells([*(np.arange(n) / 4 for n in (11, 12, 10)), images[0] / 0.3])[1]
    monkeypatch.setattr(crf, "MOST_CELLS", math.prod(sizes) - 1)
    coarser = dense_crf(given, images, (1, 1, 1), NEAR)
    assert 0 < np.abs(coarser - usual).max() < 0.15
    monkeypatch.setattr(crf, "MOST_CELLS", 100)
    with pytest.raises(UsageError, match=r"cells, and may have 100; raise dense_crf.bilateral_mm"):
        dense_crf(given, images, (1, 1, 1), NEAR)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bilateral_weight": -1.0}, "dense_crf.bilateral_weight must be at least 0, not -1.0"),
        ({"spatial_mm": 0.0}, "dense_crf.spatial_mm must be positive, not 0.0"),
        ({"intensity": math.inf}, "dense_crf.intensity must be positive, not inf"),
        ({"iterations": 0}, "dense_crf.iterations must be 1 to 100, not 0"),
        ({"channels": ("a", "b", "c")}, "dense_crf.channels must name at most 2, not 3"),
    ],
)
def test_settings_out_of_range_are_refused_with_their_value(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DenseCrfSpec(**settings)
