"""Surface distances: definitions in loops, published values, invariants, empty masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GridMismatchError, UsageError
from medseg.metrics import surface as sd
from medseg.metrics.surfels import areas_mm2, codes

SPACING = (1.5, 0.7, 2.0)
Measure = Callable[..., sd.SurfaceDistances]
BOTH = pytest.mark.parametrize("measure", [sd.surfel_distances, sd.voxel_distances])


def random_masks(seed: int, shape: tuple[int, ...] = (4, 4, 4)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    r, p = generator.random((2, *shape)) < generator.uniform(0.1, 0.9, (2, 1, 1, 1))
    r.flat[generator.integers(r.size)] = p.flat[generator.integers(p.size)] = True
    return r, p


def blob(seed: int, shape: tuple[int, ...] = (14, 12, 10)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return noise > np.quantile(noise, 0.8)


def ball(centre: tuple[float, ...], radius: float, spacing: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    offsets = [(g * s - c) ** 2 for g, s, c in zip(np.indices((99, 99, 99)), spacing, centre, strict=True)]
    return sum(offsets) <= radius**2


def all_numbers(d: sd.SurfaceDistances) -> list[float]:
    return [
        sd.hausdorff_mm(d, 95), sd.hausdorff_mm(d, 50), sd.hausdorff_mm(d), sd.average_mm(d),
        sd.mean_of_means_mm(d), sd.voxel_hausdorff_mm(d, 95), sd.pooled_hausdorff_mm(d, 95),
    ]  # fmt: skip


def naive_points(mask: np.ndarray, surfel: bool) -> list[tuple[tuple[int, ...], float]]:
    """Surface points with weights, voxel by voxel and cell by cell."""
    padded, out = np.pad(mask, 1), []
    areas = areas_mm2(SPACING)
    for i, j, k in np.ndindex(*(n + 1 for n in mask.shape)):
        cell = padded[i : i + 2, j : j + 2, k : k + 2]
        if surfel and cell.any() and not cell.all():
            out.append(((i, j, k), areas[sum(int(c) << b for b, c in enumerate(cell.flat))]))
        inner = i < mask.shape[0] and j < mask.shape[1] and k < mask.shape[2]
        if not surfel and inner and mask[i, j, k]:
            steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
            if not all(padded[i + 1 + a, j + 1 + b, k + 1 + c] for a, b, c in steps):
                out.append(((i, j, k), 1.0))
    return out


def naive_distances(here: list, there: list) -> list[tuple[float, float]]:
    def gap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return math.sqrt(sum(((x - y) * s) ** 2 for x, y, s in zip(a, b, SPACING, strict=True)))

    return sorted((min(gap(a, b) for b, _ in there), weight) for a, weight in here)


def naive_percentile(pairs: list[tuple[float, float]], percent: float) -> float:
    total, seen = sum(w for _, w in pairs), 0.0
    for mm, weight in pairs:
        seen += weight
        if seen >= percent / 100 * total * (1 - 1e-12):
            return mm
    return pairs[-1][0]


@pytest.mark.parametrize("seed", range(25))
def test_surfel_numbers_equal_the_definition(seed: int) -> None:
    r, p = random_masks(seed)
    a, b = naive_points(r, surfel=True), naive_points(p, surfel=True)
    forth, back = naive_distances(a, b), naive_distances(b, a)
    d = sd.surfel_distances(r, p, SPACING)
    np.testing.assert_allclose(d.reference_mm, [mm for mm, _ in forth], atol=1e-12)
    np.testing.assert_allclose(d.predicted_weight.sum(), sum(w for _, w in back))
    for percent in (37, 95, 100):
        expected = max(naive_percentile(forth, percent), naive_percentile(back, percent))
        assert sd.hausdorff_mm(d, percent) == pytest.approx(expected, abs=1e-12)
    everything = forth + back
    area = sum(w for _, w in everything)
    assert sd.average_mm(d) == pytest.approx(sum(mm * w for mm, w in everything) / area, abs=1e-12)
    for tau in (0.7, 1.5, 2.0):
        near = sum(w for mm, w in everything if mm <= tau + 1e-12) / area
        assert sd.normalised_surface_dice(d, tau) == pytest.approx(near, abs=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_voxel_numbers_equal_the_definition(seed: int) -> None:
    r, p = random_masks(seed)
    a, b = naive_points(r, surfel=False), naive_points(p, surfel=False)
    forth, back = ([mm for mm, _ in naive_distances(*pair)] for pair in ((a, b), (b, a)))
    d = sd.voxel_distances(r, p, SPACING)
    np.testing.assert_allclose(d.reference_mm, forth, atol=1e-12)
    np.testing.assert_allclose(d.predicted_mm, back, atol=1e-12)
    assert sd.voxel_hausdorff_mm(d) == pytest.approx(max(forth + back))
    assert sd.voxel_hausdorff_mm(d, 95) == pytest.approx(max(np.percentile(x, 95) for x in (forth, back)))
    assert sd.pooled_hausdorff_mm(d, 95) == pytest.approx(np.percentile(forth + back, 95))
    assert sd.average_mm(d) == pytest.approx(np.mean(forth + back))
    assert sd.mean_of_means_mm(d) == pytest.approx((np.mean(forth) + np.mean(back)) / 2)


@BOTH
def test_distances_equal_a_distance_transform_to_the_last_bit(measure: Measure) -> None:
    r, p = blob(1), blob(2)
    surface = (
        [m & ~ndimage.binary_erosion(m) for m in (r, p)]
        if measure is sd.voxel_distances
        else [(c != 0) & (c != 255) for c in (codes(r), codes(p))]
    )
    d = measure(r, p, SPACING)
    transform = ndimage.distance_transform_edt(~surface[1], sampling=SPACING)
    np.testing.assert_array_equal(d.reference_mm, np.sort(transform[surface[0]]))


def test_half_spaces_as_published_with_surface_distance() -> None:
    r, p = np.zeros((2, 100, 100, 100), bool)
    r[:50], p[:51] = True, True
    d = sd.surfel_distances(r, p, (2, 1, 1))
    forth, back = (float((mm * w).sum() / w.sum()) for mm, w in d.directed)
    near = [float(w[mm <= 1].sum() / w.sum()) for mm, w in d.directed]
    assert (forth, back) == (pytest.approx(0.322, abs=5e-4), pytest.approx(0.339, abs=5e-4))
    assert near == [pytest.approx(0.842, abs=5e-4), pytest.approx(0.830, abs=5e-4)]
    assert sd.normalised_surface_dice(d, 1.0) == pytest.approx(0.836, abs=5e-4)
    assert 2 * (r & p).sum() / (r.sum() + p.sum()) == pytest.approx(0.990, abs=5e-4)


def test_two_pixels_as_published_with_surface_distance() -> None:
    """Two pixels two columns apart, at a spacing of 2 and 1."""
    r, p = np.zeros((2, 128, 128, 1), bool)
    r[50, 70] = p[50, 72] = True
    d = sd.surfel_distances(r, p, (2, 1, 1))
    for mm, length in d.directed:
        assert mm.tolist() == [1, 1, 2, 2]
        assert length.tolist() == pytest.approx([0.5 * math.hypot(2, 1)] * 4)
    assert (sd.average_mm(d), sd.hausdorff_mm(d), sd.normalised_surface_dice(d, 1.0)) == (1.5, 2.0, 0.5)


def test_single_voxels_apart_are_exactly_that_far_apart() -> None:
    r, p = np.zeros((2, 9, 9, 9), bool)
    r[2, 2, 2] = p[5, 2, 6] = True
    expected = math.hypot(3 * SPACING[0], 4 * SPACING[2])
    voxel = sd.voxel_distances(r, p, SPACING)
    assert sd.voxel_hausdorff_mm(voxel) == sd.average_mm(voxel) == pytest.approx(expected)
    assert sd.hausdorff_mm(sd.surfel_distances(r, p, SPACING)) == pytest.approx(expected)


def test_spheres_as_published_with_monai() -> None:
    d = sd.voxel_distances(ball((20, 33, 22), 20), ball((20, 33, 22), 40), (1, 1, 1))
    assert d.reference_mm.max() == pytest.approx(20.0998, abs=5e-5)
    assert sd.voxel_hausdorff_mm(d) == pytest.approx(20.2237, abs=5e-5)
    assert sd.voxel_hausdorff_mm(d, 95) == pytest.approx(20.0998, abs=5e-5)
    assert sd.average_mm(d) == pytest.approx(15.117741, abs=5e-7)


def test_anisotropic_spheres_as_published_with_monai() -> None:
    spacing = (0.85, 1.2, 0.9)
    balls = [ball((n, n, n), 20, spacing) for n in (20, 19)]
    d = sd.voxel_distances(*balls, spacing)
    assert d.reference_mm.max() == pytest.approx(2.0809, abs=5e-5)
    assert sd.voxel_hausdorff_mm(d) == pytest.approx(2.2672, abs=5e-5)


def test_squares_as_published_with_panoptica() -> None:
    r, p = np.zeros((2, 50, 50, 1), bool)
    r[20:40, 10:20] = p[20:35, 10:20] = True
    d = sd.voxel_distances(r, p, (1, 1, 1))
    assert sd.mean_of_means_mm(d) == pytest.approx(0.842391304347826, abs=1e-15)
    assert sd.average_mm(d) == pytest.approx(90 / 102, abs=1e-15)


@pytest.mark.parametrize("slice_mm", [1.0, 99.0])
def test_one_slice_is_measured_in_its_plane(slice_mm: float) -> None:
    r, p = np.zeros((2, 12, 12, 1), bool)
    r[2:8, 2:8] = p[2:8, 2:10] = True
    d = sd.surfel_distances(r, p, (1, 2, slice_mm))
    assert sd.hausdorff_mm(d) == 4.0
    assert d.reference_weight.sum() == pytest.approx(2 * 5 * 1 + 2 * 5 * 2 + 4 * math.hypot(1, 2) / 2)


@BOTH
def test_equal_masks_are_at_zero(measure: Measure) -> None:
    d = measure(blob(3), blob(3), SPACING)
    assert all_numbers(d) == [0.0] * 7
    assert sd.normalised_surface_dice(d, 1e-9) == 1.0


@BOTH
def test_swapping_the_masks_changes_nothing(measure: Measure) -> None:
    r, p = blob(1), blob(2)
    np.testing.assert_allclose(
        all_numbers(measure(r, p, SPACING)), all_numbers(measure(p, r, SPACING)), rtol=1e-13
    )


@BOTH
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_flipping_changes_nothing(measure: Measure, axes: tuple[int, ...]) -> None:
    r, p = blob(1), blob(2)
    flipped = measure(np.flip(r, axes), np.flip(p, axes), SPACING)
    np.testing.assert_allclose(all_numbers(flipped), all_numbers(measure(r, p, SPACING)), rtol=1e-13)


@BOTH
@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_transposing_with_the_spacing_changes_nothing(measure: Measure, order: tuple[int, ...]) -> None:
    r, p = blob(1), blob(2)
    turned = measure(r.transpose(order), p.transpose(order), [SPACING[a] for a in order])
    np.testing.assert_allclose(all_numbers(turned), all_numbers(measure(r, p, SPACING)), rtol=1e-13)


@BOTH
def test_distances_scale_with_the_spacing(measure: Measure) -> None:
    r, p = blob(1), blob(2)
    near, far = measure(r, p, SPACING), measure(r, p, [4 * s for s in SPACING])
    np.testing.assert_array_equal(all_numbers(far), 4 * np.array(all_numbers(near)))
    assert sd.normalised_surface_dice(far, 4.0) == pytest.approx(
        sd.normalised_surface_dice(near, 1.0), rel=1e-13
    )


@BOTH
def test_background_around_the_masks_changes_nothing(measure: Measure) -> None:
    r, p = blob(1), blob(2)
    padded = measure(np.pad(r, 3), np.pad(p, 3), SPACING)
    np.testing.assert_array_equal(all_numbers(padded), all_numbers(measure(r, p, SPACING)))


@BOTH
def test_the_masks_are_not_written_to(measure: Measure) -> None:
    r, p = blob(1), blob(2)
    expected = all_numbers(measure(r.copy(), p.copy(), SPACING))
    for mask in (r, p):
        mask.setflags(write=False)
    assert all_numbers(measure(r, p, SPACING)) == expected


def test_a_distance_equal_to_the_tolerance_is_within_it() -> None:
    r, p = np.zeros((2, 8, 4, 4), bool)
    r[1:3, 1:3, 1:3] = p[4:6, 1:3, 1:3] = True
    spacing = (0.1, 10.0, 10.0)
    d = sd.surfel_distances(r, p, spacing)
    worst = sd.hausdorff_mm(d)
    assert sd.normalised_surface_dice(d, worst) == 1.0
    assert sd.normalised_surface_dice(d, np.nextafter(worst, 0)) < 1.0


@BOTH
def test_one_empty_mask_is_infinitely_far(measure: Measure) -> None:
    nothing = np.zeros_like(blob(1))
    for pair in ((blob(1), nothing), (nothing, blob(1))):
        d = measure(*pair, SPACING)
        assert all_numbers(d) == [math.inf] * 7
        assert sd.normalised_surface_dice(d, 5.0) == 0.0


@BOTH
def test_two_empty_masks_have_no_distance(measure: Measure) -> None:
    nothing = np.zeros((3, 3, 3), bool)
    d = measure(nothing, nothing, SPACING)
    assert np.isnan([*all_numbers(d), sd.normalised_surface_dice(d, 1.0)]).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(GridMismatchError, match=r"\(2, 2, 2\).*\(2, 2, 3\)"):
        sd.surfel_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING)
    with pytest.raises(UsageError, match="3 lengths"):
        sd.voxel_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), SPACING[:2])
