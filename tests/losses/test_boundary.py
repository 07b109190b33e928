"""Boundary loss against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_cases import case, certain, loss
from numpy.typing import NDArray

from medseg.losses.distances import signed_distances_mm

SPACING_MM = (1.0, 0.5, 2.0)


def brute_distances(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Every voxel's distance to every voxel of the other side."""
    spacing = np.array(spacing_mm[: mask.ndim])
    places = np.indices(mask.shape).reshape(mask.ndim, -1).T * spacing
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    flat = mask.ravel()
    outside = apart[:, flat].min(1)
    inside = apart[:, ~flat].min(1)
    return np.where(flat, spacing.min() - inside, outside).reshape(mask.shape)


@pytest.mark.parametrize("size", [(30,), (13, 17), (8, 9, 7)])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_the_signed_distances_are_those_of_brute_force(size: tuple[int, ...], share: float) -> None:
    mask = np.random.default_rng(3).random(size) < share
    mask.flat[0], mask.flat[-1] = True, False
    expected = brute_distances(mask, SPACING_MM)
    np.testing.assert_allclose(signed_distances_mm(mask, SPACING_MM), expected, rtol=1e-5, atol=1e-6)


def test_distances_by_hand() -> None:
    row = np.array([0, 0, 1, 1, 1, 0], bool)
    np.testing.assert_allclose(signed_distances_mm(row, (1.0, 1.0, 1.0)), [2, 1, 0, -1, 0, 1])
    np.testing.assert_allclose(signed_distances_mm(row, (0.5, 1.0, 1.0)), [1, 0.5, 0, -0.5, 0, 0.5])


@pytest.mark.parametrize("full", [False, True])
def test_there_are_no_distances_without_a_border(full: bool) -> None:
    np.testing.assert_array_equal(signed_distances_mm(np.full((3, 4), full), SPACING_MM), 0)


def test_of_labels_it_is_the_mean_over_structures_and_voxels() -> None:
    logits, target = case(False)
    p = logits.softmax(1)[:, 1:]
    maps = [[brute_distances(sample.numpy() == label, SPACING_MM) for label in (1, 2)] for sample in target]
    found = loss("boundary", False, spacing_mm=SPACING_MM)(logits, target)
    torch.testing.assert_close(found, (p * torch.from_numpy(np.array(maps))).mean(), rtol=1e-5, atol=1e-7)


def test_of_regions_it_is_too() -> None:
    logits, target = case(True)
    maps = [[brute_distances(mask.numpy() > 0, SPACING_MM) for mask in sample] for sample in target]
    found = loss("boundary", True, spacing_mm=SPACING_MM)(logits, target)
    expected = (logits.sigmoid() * torch.from_numpy(np.array(maps))).mean()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_a_probability_is_its_distance() -> None:
    _, target = case(True, batch=1, size=(4, 5))
    logits = torch.zeros(target.shape, dtype=torch.float64, requires_grad=True)  # dp/dz = 1/4
    loss("boundary", True)(logits, target).backward()
    maps = np.array([brute_distances(mask.numpy() > 0, (1, 1)) for mask in target[0]])
    expected = torch.from_numpy(maps)[None] / 4 / target.numel()
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=0)


def test_twice_the_spacing_is_twice_the_loss() -> None:
    logits, target = case(False)
    once = loss("boundary", False, spacing_mm=SPACING_MM)(logits, target)
    twice = loss("boundary", False, spacing_mm=(2.0, 1.0, 4.0))(logits, target)
    torch.testing.assert_close(twice, 2 * once)


def test_what_is_farther_from_the_structure_costs_more() -> None:
    target = torch.zeros(1, 20, dtype=torch.int64)
    target[0, 3:6] = 1
    values = []
    for place in (6, 10, 19):
        answer = target.clone()
        answer[0, place] = 1
        values.append(float(loss("boundary", False)(certain(False, answer)[:, :2], target)))
    assert values == sorted(set(values))
