"""Reading a patch: against scipy, against the plain crop, and one field for image and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import BSpline

from medseg.augment import elastic, warp
from medseg.augment.affine import AffineParams
from medseg.augment.compose import Augmenter, Params
from medseg.augment.elastic import ElasticParams
from medseg.augment.spec import AugmentSpec
from medseg.core.structures import from_labels

VOLUME = (30, 26, 14)
PATCH = (21, 16, 10)
CENTRE = (14.0, 12.5, 6.5)
SPACING_MM = (1.0, 1.25, 2.5)
STRUCTURES = from_labels({1: "liver", 2: "spleen", 3: "aorta"})
MOVED = AffineParams((10.0, -20.0, 30.0), (1.2, 0.9, 1.1), (0.1, -0.05, 0.02), (1.5, -2.0, 0.7))


def augmenter(spacing_mm: tuple[float, float, float] = SPACING_MM) -> Augmenter:
    return Augmenter(AugmentSpec(), STRUCTURES, spacing_mm)


def volume(channels: int = 2) -> torch.Tensor:
    noise = np.random.default_rng(1).normal(size=(channels, *VOLUME))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.0)) * 10
    return torch.from_numpy(smooth.astype(np.float32))


def blocks() -> torch.Tensor:
    labels = np.zeros(VOLUME, np.uint8)
    labels[5:15, 6:20, 3:11] = 1
    labels[15:24, 4:14, 2:9] = 2
    labels[16:25, 15:22, 5:12] = 3
    return torch.from_numpy(labels)


def wavy(spacing_mm: tuple[float, float, float] = SPACING_MM, sigma_mm: float = 1.5) -> ElasticParams:
    lattice = elastic.lattice_for(PATCH, spacing_mm, 8.0)
    drawn = torch.randn((*lattice, 3), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return bends_of(sigma_mm * drawn, 8.0)


def bends_of(displacements_mm: torch.Tensor, spacing_mm: float) -> ElasticParams:
    i, j, k = displacements_mm.shape[:3]
    return ElasticParams(spacing_mm, (i, j, k), tuple(displacements_mm.flatten().tolist()))


def oracle_positions(bends: ElasticParams | None, moves: AffineParams | None) -> np.ndarray:
    """Positions (3, I, J, K) by the formula, one weight at a time, with scipy's B-spline."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(PATCH, SPACING_MM, strict=True)]
    mm = np.stack(np.meshgrid(*axes, indexing="ij"))
    if bends is not None:
        element = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
        weights = []
        for axis, count in zip(axes, bends.lattice, strict=True):
            knots = (np.arange(count) - (count - 1) / 2) * bends.spacing_mm
            weights.append(np.nan_to_num(element((axis[:, None] - knots) / bends.spacing_mm)))
        mm = mm + np.einsum("ia,jb,kc,abcd->dijk", *weights, bends.tensor().numpy())
    if moves is not None:
        mm = np.einsum("de,eijk->dijk", moves.matrix().numpy(), mm)
        mm = mm + np.reshape(moves.translation_mm, (3, 1, 1, 1))
    start = warp.patch_start(CENTRE, PATCH)
    centre = np.add(start, (np.array(PATCH) - 1) / 2)
    return mm / np.reshape(SPACING_MM, (3, 1, 1, 1)) + centre.reshape(3, 1, 1, 1)


@pytest.mark.parametrize("bends", [None, wavy()], ids=["straight", "bent"])
@pytest.mark.parametrize("moves", [None, MOVED], ids=["still", "moved"])
def test_image_and_labels_are_what_scipy_reads_at_the_formulas_positions(
    bends: ElasticParams | None, moves: AffineParams | None
) -> None:
    image, labels = volume(), blocks()
    patch, cut = augmenter().apply(Params(elastic=bends, affine=moves), image, labels, CENTRE, PATCH)
    at = oracle_positions(bends, moves)
    for channel, found in zip(image.numpy(), patch.numpy(), strict=True):
        expected = ndimage.map_coordinates(channel, at, order=1, mode="nearest")
        np.testing.assert_allclose(found, expected, atol=1e-4)
    expected = ndimage.map_coordinates(labels.numpy(), np.round(at), order=0, mode="constant")
    assert cut is not None
    near_a_tie = np.any(np.abs(at - np.floor(at) - 0.5) < 1e-4, axis=0)
    assert np.all((cut.numpy() == expected) | near_a_tie)
    assert near_a_tie.mean() < 0.01


def test_an_affine_map_is_scipys_affine_transform_in_millimetres() -> None:
    image = volume(1)
    patch, _ = augmenter().apply(Params(affine=MOVED), image, None, CENTRE, PATCH)
    scale = np.diag(SPACING_MM)
    matrix = np.linalg.inv(scale) @ MOVED.matrix().numpy() @ scale
    centre = np.add(warp.patch_start(CENTRE, PATCH), (np.array(PATCH) - 1) / 2)
    shift = centre - matrix @ ((np.array(PATCH) - 1) / 2) + np.divide(MOVED.translation_mm, SPACING_MM)
    expected = ndimage.affine_transform(
        image[0].numpy(), matrix, shift, output_shape=PATCH, order=1, mode="nearest"
    )
    np.testing.assert_allclose(patch[0].numpy(), expected, atol=1e-4)


def test_a_quarter_turn_moves_whole_voxels() -> None:
    image = torch.arange(5 * 5 * 5, dtype=torch.float32).reshape(1, 5, 5, 5)
    turned = Params(affine=AffineParams(rotation_degrees=(0.0, 0.0, 90.0)))
    patch, _ = augmenter((1.0, 1.0, 1.0)).apply(turned, image, None, (2.0, 2.0, 2.0), (5, 5, 5))
    torch.testing.assert_close(patch, torch.rot90(image, k=-1, dims=(1, 2)), atol=1e-3, rtol=0)


def test_a_translation_in_millimetres_is_half_the_voxels_at_double_the_spacing() -> None:
    ramp = torch.arange(30, dtype=torch.float32)[:, None, None].expand(30, 8, 8)[None].contiguous()
    shifts = []
    for mm in (1.0, 2.0):
        flat = torch.zeros(8, 8, 8, 3, dtype=torch.float64)
        flat[..., 0] = 3.0
        params = Params(elastic=bends_of(flat, 10.0))
        patch, _ = augmenter((mm, mm, mm)).apply(params, ramp, None, (15.0, 3.5, 3.5), (10, 4, 4))
        shifts.append(float((patch - ramp[:, 11:21, 2:6, 2:6]).mean()))
    assert shifts == pytest.approx([3.0, 1.5], abs=1e-4)


def test_image_and_labels_go_through_the_same_field() -> None:
    """The nearest of eight neighbours weighs at least an eighth: a larger share decides the label."""
    labels = blocks()
    image = (labels == 1).float()[None]
    params = Params(elastic=wavy(), affine=MOVED)
    patch, cut = augmenter().apply(params, image, labels, CENTRE, PATCH)
    assert cut is not None
    share, inside = patch[0], cut == 1
    assert torch.all(inside[share > 7 / 8 + 1e-4])
    assert not torch.any(inside[share < 1 / 8 - 1e-4])
    assert 0.1 < float(inside.float().mean()) < 0.9


def test_labels_are_a_subset_of_those_there_were() -> None:
    labels = blocks() * 80
    _, cut = augmenter().apply(Params(elastic=wavy(sigma_mm=6.0)), volume(), labels, CENTRE, PATCH)
    assert cut is not None
    assert cut.dtype == torch.uint8
    assert set(cut.unique().tolist()) <= set(labels.unique().tolist())


def test_beyond_the_volume_there_is_its_edge_and_background() -> None:
    image = torch.full((1, 6, 6, 6), 7.0)
    labels = torch.full((6, 6, 6), 2, dtype=torch.uint8)
    params = Params(affine=AffineParams(scale=(3.0, 3.0, 3.0)))
    patch, cut = augmenter((1.0, 1.0, 1.0)).apply(params, image, labels, (2.5, 2.5, 2.5), (6, 6, 6))
    torch.testing.assert_close(patch, torch.full((1, 6, 6, 6), 7.0))
    assert cut is not None
    assert set(cut.unique().tolist()) == {0, 2}
    assert int((cut == 2).sum()) == 8


def test_a_field_too_small_to_see_gives_nearly_the_plain_crop() -> None:
    params = Params(elastic=wavy(sigma_mm=1e-6))
    image, labels = volume(), blocks()
    bent = augmenter().apply(params, image, labels, CENTRE, PATCH)
    plain = augmenter().apply(Params(), image, labels, CENTRE, PATCH)
    torch.testing.assert_close(bent[0], plain[0], atol=2e-4, rtol=0)
    assert bent[1] is not None
    assert plain[1] is not None
    assert torch.equal(bent[1], plain[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_change_no_more_than_rounding(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Params(elastic=wavy(), affine=MOVED)
    expected, _ = augmenter().apply(params, volume(), None, CENTRE, PATCH)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(warp, "CHUNK_VOXELS", 700)
    found, _ = augmenter().apply(params, volume(), None, CENTRE, PATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("centre", [(14.0, 12.5, 6.5), (2.0, 3.0, 1.0), (29.0, 25.0, 13.0), (90.0, 0.0, 0.0)])
def test_the_plain_crop_is_numpys_padding(centre: tuple[float, float, float]) -> None:
    image, labels = volume(), blocks()
    start = warp.patch_start(centre, PATCH)
    patch, cut = warp.crop(image, labels, start, PATCH)
    wide = 100
    box = tuple(slice(s + wide, s + wide + n) for s, n in zip(start, PATCH, strict=True))
    expected = np.pad(image.numpy(), [(0, 0)] + [(wide, wide)] * 3, mode="edge")[:, *box]
    assert np.array_equal(patch.numpy(), expected)
    assert cut is not None
    assert np.array_equal(cut.numpy(), np.pad(labels.numpy(), wide)[box])
