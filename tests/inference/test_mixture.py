"""The brightness of tissues, fitted to samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from medseg.inference import mixture
from medseg.inference.mixture import Sample, bins, fit

KINDS = (0, 1, 2)
MEANS = np.array([0.9, 0.6, 0.2])


def sample(
    *, means: np.ndarray = MEANS, shade: float = 0.0, noise: float = 0.03, sure: float = 0.8, seed: int = 0
) -> Sample:
    """Voxels of three tissues; the prior gives the right one `sure`, and shares the rest."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 9000)
    places = rng.uniform(-1, 1, (9000, 3))
    values = rng.normal(means[truth], noise) * np.exp(shade * places[:, 0])
    prior = np.full((9000, 3), (0.98 - sure) / 2)
    prior[np.arange(9000), truth] = sure
    return Sample(1000 * values, prior, np.full(9000, 0.02), places)


def in_units_of_the_scan(found: mixture.Mixture) -> np.ndarray:
    scaled = found.means[:3] - mixture.OFFSET
    return (scaled * (found.high - found.low) + found.low) / 1000


def test_the_means_of_the_tissues_are_found() -> None:
    found = fit(sample(), KINDS)
    np.testing.assert_allclose(in_units_of_the_scan(found), MEANS, atol=0.015)


def test_they_are_found_in_any_order() -> None:
    turned = MEANS[[2, 0, 1]]
    np.testing.assert_allclose(in_units_of_the_scan(fit(sample(means=turned), KINDS)), turned, atol=0.015)


def test_a_bias_field_is_found_and_taken_out() -> None:
    shaded, flat = fit(sample(shade=0.2), KINDS), fit(sample(), KINDS)
    line = np.linspace(-1, 1, 9)
    field = shaded.field([line, np.zeros(1), np.zeros(1)])[:, 0, 0]
    slope = np.polyfit(line, np.log(field), 1)[0]
    assert slope == pytest.approx(0.2, abs=0.04)
    assert np.abs(np.log(flat.field([line, np.zeros(1), np.zeros(1)]))).max() < 0.04
    without = np.sqrt(shaded.variances[:3]).max()
    assert without < 1.5 * np.sqrt(flat.variances[:3]).max()


def test_intensities_multiplied_and_shifted_give_the_same_fit() -> None:
    first = sample()
    other = Sample(first.values * 7 + 300, first.prior, first.background, first.places)
    np.testing.assert_allclose(fit(other, KINDS).means, fit(first, KINDS).means, rtol=1e-6)


def test_the_contrast_is_the_distance_of_means_over_spreads() -> None:
    sharp, blurred = (fit(sample(noise=noise, sure=0.98), KINDS) for noise in (0.03, 0.1))
    assert sharp.contrast[0, 1] == pytest.approx(0.3 / 0.03, rel=0.1)
    assert blurred.contrast[0, 1] == pytest.approx(0.3 / 0.1, rel=0.1)
    assert set(sharp.contrast) == {(0, 1), (0, 2), (1, 2)}
    assert [sharp.belief(n) for n in range(3)] == [1, 1, 1]


def test_noise_has_no_contrast_and_is_not_believed() -> None:
    found = fit(sample(means=np.full(3, 0.5), noise=0.1), KINDS)
    assert max(found.contrast.values()) < 0.1
    assert found.trusted == 0


def test_a_kind_follows_the_scan_only_as_far_as_it_differs_from_the_others() -> None:
    """Grey matter and fluid alike, as in proton density: white matter is followed, they are not."""
    found = fit(sample(means=np.array([0.4, 0.7, 0.7]), noise=0.1, sure=0.98), KINDS)
    assert found.belief(0) == 1
    assert found.belief(1) == found.belief(2) == 0
    assert found.trusted == 1


def test_a_class_without_voxels_keeps_a_finite_brightness() -> None:
    one = sample()
    prior = np.concatenate([one.prior, np.zeros((len(one.prior), 1))], axis=1)
    found = fit(Sample(one.values, prior, one.background, one.places), (0, 1, 2, 1))
    assert np.isfinite(found.means).all()
    assert (found.variances > 0).all()


def test_a_scan_of_one_value_can_be_fitted() -> None:
    one = sample()
    found = fit(Sample(np.full(len(one.values), 5.0), one.prior, one.background, one.places), KINDS)
    assert np.isfinite(found.means).all()
    assert (found.variances > 0).all()


def test_densities_add_up_to_one_pure_and_mixed() -> None:
    tables = fit(sample(), KINDS).tables()
    low, high = mixture.RANGE
    width = (high - low) / (mixture.BINS - 1)
    np.testing.assert_allclose(tables.pure[:3].sum(axis=1) * width, 1, atol=1e-3)
    np.testing.assert_allclose(tables.mixed.sum(axis=2) * width, 1, atol=1e-3)


def test_a_mixed_voxel_lies_between_its_tissue_and_half_way_to_the_other() -> None:
    found = fit(sample(), KINDS)
    centres = np.linspace(*mixture.RANGE, mixture.BINS)
    mixed = found.tables().mixed[0, 2]
    mean = (mixed * centres).sum() / mixed.sum()
    assert mean == pytest.approx(0.75 * found.means[0] + 0.25 * found.means[2], abs=1e-3)


def test_an_intensity_finds_its_bin() -> None:
    low, high = mixture.RANGE
    assert bins(np.array([low - 1, low, high, high + 1])).tolist() == [
        0,
        0,
        mixture.BINS - 1,
        mixture.BINS - 1,
    ]


def test_the_error_function_is_scipys() -> None:
    x = np.linspace(-5, 5, 1001)
    np.testing.assert_allclose(mixture._erf(x), special.erf(x), atol=2e-7)
