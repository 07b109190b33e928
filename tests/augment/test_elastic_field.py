"""The B-spline field: its basis, its values in millimetres, and where it folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from medseg.augment import elastic
from medseg.augment.elastic import ElasticParams
from medseg.augment.spec import ElasticSpec
from medseg.core.errors import UsageError

PATCH = (20, 17, 9)
SPACING_MM = (1.0, 1.5, 3.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_weights_of_all_control_points_sum_to_one_and_their_slopes_to_zero() -> None:
    positions = torch.linspace(0, 4, 33, dtype=torch.float64)
    torch.testing.assert_close(elastic.basis(positions, 7).sum(1), torch.ones(33, dtype=torch.float64))
    slopes = elastic.basis(positions, 7, derivative=True)
    torch.testing.assert_close(slopes.sum(1), torch.zeros(33, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("derivative", [False, True])
def test_the_weights_are_those_of_scipys_cubic_b_spline(derivative: bool) -> None:
    positions = np.linspace(0, 5, 41)
    element = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    curve = element.derivative() if derivative else element
    centres = np.arange(8) - 1.0
    expected = np.nan_to_num(curve(positions[:, None] - centres))
    found = elastic.basis(torch.from_numpy(positions), 8, derivative=derivative).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_position_beyond_the_lattice_is_refused() -> None:
    with pytest.raises(UsageError, match="covers positions from 0 to 2"):
        elastic.basis(torch.tensor([2.5]), 5)


def test_one_moved_control_point_moves_its_own_place_by_eight_twenty_sevenths() -> None:
    """The basis at its centre is 2/3 an axis, 1/6 one interval away, 0 two intervals away."""
    control = torch.zeros(5, 5, 5, 3, dtype=torch.float64)
    control[2, 2, 2] = torch.tensor([27.0, -54.0, 5.4])
    bases = [elastic.patch_basis(3, 5, 10.0, 10.0)] * 3
    field = elastic.evaluate(control, bases)
    expected = torch.tensor([8.0, -16.0, 1.6], dtype=torch.float64)
    torch.testing.assert_close(field[1, 1, 1], expected)
    torch.testing.assert_close(field[0, 1, 1], expected / 4)
    torch.testing.assert_close(field[0, 2, 0], expected / 64)


def test_a_lattice_covers_its_patch_and_little_more() -> None:
    for voxels in range(2, 60):
        count = elastic.lattice_for((voxels, 1, 1), (1.3, 1.0, 1.0), 8.0)[0]
        elastic.patch_basis(voxels, count, 1.3, 8.0)
        assert (count - 4) * 8.0 < max((voxels - 1) * 1.3, 1e-6) <= (count - 3) * 8.0


def determinants(displacements_mm: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    return elastic.determinants(elastic.sampled_gradient(displacements_mm, spacing_mm))


def test_the_determinant_is_the_finite_difference_of_the_map() -> None:
    displacements = 3.0 * torch.randn((6, 6, 6, 3), generator=generator(), dtype=torch.float64)
    fine, h = 12, 10.0
    positions = torch.arange(3 * fine + 1, dtype=torch.float64) / fine
    bases = [elastic.basis(positions, 6)] * 3
    field = elastic.evaluate(displacements, bases).numpy()
    gradient = np.stack([np.gradient(field, h / fine, axis=a, edge_order=2) for a in range(3)], axis=-1)
    naive = np.linalg.det(gradient + np.eye(3))[::3, ::3, ::3]
    exact = determinants(displacements, h).numpy()
    np.testing.assert_allclose(exact[1:-1, 1:-1, 1:-1], naive[1:-1, 1:-1, 1:-1], atol=0.02)


def test_a_fold_is_found() -> None:
    """Neighbouring points that trade places fold the space between them."""
    control = torch.zeros(7, 7, 7, 3, dtype=torch.float64)
    control[2, :, :, 0], control[4, :, :, 0] = 30.0, -30.0
    folded, gentle = (determinants(control / by, 10.0).min() for by in (1, 10))
    assert float(folded) == pytest.approx(1 - 3.0)
    assert float(gentle) == pytest.approx(1 - 0.3)


@pytest.mark.parametrize("seed", range(8))
def test_a_sampled_field_never_folds_not_even_between_the_points_looked_at(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ElasticSpec(spacing_mm=10.0, sigma_mm=(40.0, 40.0), min_jacobian=0.2)
    params = elastic.sample(spec, generator(seed), PATCH, SPACING_MM)
    assert params.shrunk < 1.0
    assert params.min_jacobian >= 0.2
    monkeypatch.setattr(elastic, "SAMPLES_PER_INTERVAL", 13)
    elastic._sampled_basis.cache_clear()
    dense = determinants(params.tensor(), params.spacing_mm)
    elastic._sampled_basis.cache_clear()
    assert float(dense.min()) > 0.1


def test_a_gentle_field_is_kept_as_drawn() -> None:
    params = elastic.sample(ElasticSpec(sigma_mm=(0.5, 0.5)), generator(), PATCH, SPACING_MM)
    assert params.shrunk == 1.0
    assert 0.8 < params.min_jacobian < 1.0


def test_control_points_deviate_by_sigma_and_the_field_by_a_third_of_it() -> None:
    spec = ElasticSpec(spacing_mm=10.0, sigma_mm=(0.8, 0.8))
    params = elastic.sample(spec, generator(3), (120, 120, 120), (1.0, 1.0, 1.0))
    assert float(params.tensor().std()) == pytest.approx(0.8, rel=0.05)
    bases = [elastic.patch_basis(120, n, 1.0, 10.0) for n in params.lattice]
    assert float(elastic.evaluate(params.tensor(), bases).std()) == pytest.approx(0.8 / 3, rel=0.1)


def test_nothing_moves_along_an_axis_of_one_voxel() -> None:
    params = elastic.sample(ElasticSpec(), generator(), (32, 32, 1), (1.0, 1.0, 1.0))
    assert params.lattice[2] == 1
    assert float(params.tensor()[..., 2].abs().max()) == 0.0
    assert float(params.tensor()[..., :2].abs().max()) > 0.0


def test_displacements_that_do_not_fill_the_lattice_are_refused() -> None:
    with pytest.raises(UsageError, match="5 displacements do not fit a lattice of"):
        ElasticParams(10.0, (4, 4, 4), (0.0,) * 5).tensor()
