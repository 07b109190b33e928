"""Cross-entropy against torch's, and its border map against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from loss_cases import WEIGHTS, case, loss
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from medseg.losses.distances import border_map

SPACING_MM = (1.0, 0.5, 2.0)


def brute_border_map(
    labels: NDArray[np.int64], sigma_mm: float, spacing_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Every voxel's distance to every voxel of every instance."""
    spacing = np.array(spacing_mm[: labels.ndim])
    distances = []
    for label in np.unique(labels[labels > 0]):
        instances, count = ndimage.label(labels == label, np.ones((3,) * labels.ndim))
        for number in range(1, count + 1):
            voxels = np.argwhere(instances == number) * spacing
            places = np.indices(labels.shape).reshape(labels.ndim, -1).T * spacing
            distances.append(np.linalg.norm(places[:, None] - voxels[None], axis=-1).min(1))
    if len(distances) < 2:
        return np.zeros(labels.shape)
    first, second = np.sort(distances, axis=0)[:2]
    return np.exp(-((first + second) ** 2) / (2 * sigma_mm**2)).reshape(labels.shape)


def speckles(size: tuple[int, ...], labels: int = 2, share: float = 0.1) -> NDArray[np.int64]:
    generator = np.random.default_rng(4)
    return np.where(generator.random(size) < share, generator.integers(1, labels + 1, size), 0)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_of_labels_it_equals_torchs(weights: tuple[float, ...]) -> None:
    logits, target = case(False)
    known = torch.tensor(weights, dtype=torch.float64) if weights else None
    found = loss("cross_entropy", False, class_weights=weights)(logits, target)
    torch.testing.assert_close(found, functional.cross_entropy(logits, target, weight=known))


def test_of_regions_it_equals_torchs() -> None:
    logits, target = case(True)
    plain = functional.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    torch.testing.assert_close(loss("cross_entropy", True)(logits, target), plain.mean())
    found = loss("cross_entropy", True, class_weights=WEIGHTS)(logits, target)
    each = plain.mean((0, 2, 3, 4))
    torch.testing.assert_close(found, sum(w * e for w, e in zip(WEIGHTS, each, strict=True)) / sum(WEIGHTS))


@pytest.mark.parametrize("size", [(40,), (17, 23), (9, 11, 8)])
@pytest.mark.parametrize("sigma_mm", [0.8, 5.0])
def test_the_border_map_is_that_of_brute_force(size: tuple[int, ...], sigma_mm: float) -> None:
    labels = speckles(size, share=0.5 if len(size) == 1 else 0.1)
    expected = brute_border_map(labels, sigma_mm, SPACING_MM)
    assert expected.max() > 0.1
    np.testing.assert_allclose(border_map(labels, sigma_mm, SPACING_MM), expected, rtol=1e-4, atol=1e-6)


def test_what_lies_far_away_is_left_out_and_does_not_show() -> None:
    labels = speckles((60, 90), share=0.005)
    expected = brute_border_map(labels, 1.5, (1.0, 1.0))
    np.testing.assert_allclose(border_map(labels, 1.5, (1.0, 1.0, 1.0)), expected, rtol=1e-4, atol=3e-8)


def test_a_hand_calculated_border_map() -> None:
    # Two cells five pixels apart: wherever between them a pixel lies, d1 + d2 is 5. Beyond, it grows by 2.
    row = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0])
    sums = np.array([7, 5, 5, 5, 5, 5, 5, 7, 9])
    np.testing.assert_allclose(border_map(row, 5.0, (1.0, 1.0, 1.0)), np.exp(-(sums**2) / 50), rtol=1e-6)


@pytest.mark.parametrize("cells", [0, 1])
def test_there_is_no_border_without_two_instances(cells: int) -> None:
    labels = np.zeros((6, 6), np.int64)
    labels[2:4, 2:4] = cells
    np.testing.assert_array_equal(border_map(labels, 5.0, (1.0, 1.0, 1.0)), 0)


def test_structures_that_touch_are_instances_of_their_own() -> None:
    apart = border_map(np.array([[1, 1, 2, 2]]), 5.0, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(apart[0], np.exp(-np.square([2, 1, 1, 2]) / 50), rtol=1e-6)
    np.testing.assert_array_equal(border_map(np.array([[1, 1, 1, 1]]), 5.0, (1.0, 1.0, 1.0)), 0)


def test_labels_weigh_by_class_and_border() -> None:
    logits, _ = case(False, size=(6, 7))
    target = torch.from_numpy(np.stack([speckles((6, 7)), speckles((7, 6)).T]))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)[target]
    for sample in range(2):
        weights[sample] += 10 * torch.from_numpy(brute_border_map(target[sample].numpy(), 2.0, SPACING_MM))
    entropy = functional.cross_entropy(logits, target, reduction="none")
    found = loss("cross_entropy", False, class_weights=WEIGHTS, w0=10.0, sigma_mm=2.0, spacing_mm=SPACING_MM)(
        logits, target
    )
    torch.testing.assert_close(found, (weights * entropy).sum() / weights.sum(), rtol=1e-5, atol=0)


def test_every_region_has_borders_of_its_own() -> None:
    logits, _ = case(True, size=(6, 7))
    target = torch.zeros(logits.shape)
    target[0, 0, 1, 1] = target[0, 0, 1, 4] = 1  # the only region with two instances
    target[0, 1, 3, 3] = target[1, 1, 3, 3] = 1
    weights = torch.ones(logits.shape, dtype=torch.float64)
    weights[0, 0] += 10 * torch.from_numpy(brute_border_map(target[0, 0].long().numpy(), 2.0, SPACING_MM))
    entropy = functional.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    found = loss("cross_entropy", True, w0=10.0, sigma_mm=2.0, spacing_mm=SPACING_MM)(logits, target)
    torch.testing.assert_close(found, (weights * entropy).sum() / weights.sum(), rtol=1e-5, atol=0)


def test_a_region_of_many_single_voxels_has_borders_too() -> None:
    # cc3d leaves too little room for the labels of such a mask, where it is of bools.
    target = torch.zeros(1, 1, 9, 9)
    target[..., ::2, ::2] = 1
    assert loss("cross_entropy", True, w0=10.0)(torch.zeros(target.shape), target).isfinite()


def test_a_wrong_voxel_costs_more_where_two_cells_nearly_touch() -> None:
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[0, 2:5, 2:10] = target[0, 6:9, 2:10] = 1
    function = loss("cross_entropy", False, w0=10.0)
    values = []
    for i, j in ((5, 5), (11, 11)):
        logits = functional.one_hot(target, 2).movedim(-1, 1).double() * 20
        logits[0, :, i, j] = logits[0, :, i, j].flip(0)
        values.append(float(function(logits, target)))
    assert values[0] > 3 * values[1]


@pytest.mark.parametrize(("name", "regions"), itertools.product(["cross_entropy", "focal"], [False, True]))
def test_class_weights_that_do_not_match_the_outputs_are_refused(name: str, regions: bool) -> None:
    with pytest.raises(ValueError, match="2 class weights do not fit 3 outputs"):
        loss(name, regions, class_weights=(1.0, 2.0))(*case(regions))
