"""Soft Dice against hand calculations and MONAI."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from loss_cases import case, loss

DENOMINATORS = ("linear", "squared")


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("background", [True, False])
def test_label_losses_equal_monais(background: bool, denominator: str, batch: bool) -> None:
    import monai.losses

    logits, target = case(False)
    settings = {"batch": batch, "include_background": background}
    theirs: dict[str, Any] = {
        "softmax": True,
        "to_onehot_y": True,
        "squared_pred": denominator == "squared",
        "smooth_nr": 0.5,
        "smooth_dr": 0.5,
        **settings,
    }
    ours: dict[str, Any] = {"denominator": denominator, "smooth": 0.5, **settings}
    expected = monai.losses.DiceLoss(**theirs)(logits, target[:, None])
    torch.testing.assert_close(loss("dice", False, **ours)(logits, target), expected)
    both = monai.losses.DiceCELoss(**theirs, lambda_dice=0.3, lambda_ce=2.0)(logits, target[:, None])
    found = loss("dice_ce", False, **ours, dice_weight=0.3, ce_weight=2.0)(logits, target)
    torch.testing.assert_close(found, both)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_region_losses_equal_monais(denominator: str, batch: bool) -> None:
    import monai.losses

    logits, target = case(True)
    squared = denominator == "squared"
    theirs = monai.losses.DiceLoss(
        sigmoid=True, squared_pred=squared, batch=batch, smooth_nr=1.0, smooth_dr=1.0
    )
    found = loss("dice", True, denominator=denominator, batch=batch)(logits, target)
    torch.testing.assert_close(found, theirs(logits, target.double()))


@pytest.mark.parametrize(("denominator", "predicted"), [("linear", 0.8 + 0.4), ("squared", 0.64 + 0.16)])
def test_a_hand_calculated_dice(denominator: str, predicted: float) -> None:
    # Two voxels: the first is the structure and has p = 0.8, the second is not and has p = 0.4.
    p = torch.tensor([0.8, 0.4], dtype=torch.float64)
    expected = 1 - (2 * 0.8 + 1) / (predicted + 1 + 1)
    regions = loss("dice", True, denominator=denominator)
    found = regions(torch.logit(p).reshape(1, 1, 2), torch.tensor([[[1, 0]]]))
    assert float(found) == pytest.approx(expected)
    labels = loss("dice", False, denominator=denominator)
    found = labels(torch.stack([(1 - p).log(), p.log()])[None], torch.tensor([[1, 0]]))
    assert float(found) == pytest.approx(expected)


def test_the_squared_gradient_is_vnets() -> None:
    # dD/dp_j = 2 [g_j (sum p^2 + sum g^2) - 2 p_j sum p g] / (sum p^2 + sum g^2)^2, without smoothing.
    generator = torch.Generator().manual_seed(2)
    p = torch.rand(50, generator=generator, dtype=torch.float64).requires_grad_()
    g = (torch.rand(50, generator=generator) > 0.6).double()
    function = loss("dice", True, denominator="squared", smooth=1e-300)
    function.of_regions(p.reshape(1, 1, -1), g.reshape(1, 1, -1)).backward()  # type: ignore[operator]
    below = p.square().sum() + g.square().sum()
    expected = 2 * (g * below - 2 * p * (p * g).sum()) / below.square()
    torch.testing.assert_close(p.grad, -expected.detach())


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "generalised_dice"])
def test_an_absent_structure_costs_by_its_false_positives(name: str) -> None:
    function = loss(name, True)
    weight = {"tversky": 0.3}.get(name, 1)  # of a false positive
    target = torch.zeros(1, 1, 1000)
    sizes = [0, 1, 10, 1000]
    values = []
    for size in sizes:
        logits = torch.full((1, 1, 1000), -200.0)
        logits[..., :size] = 200.0
        values.append(float(function(logits, target)))
    assert values == pytest.approx([1 - 1 / (weight * size + 1) for size in sizes])
    assert all(a < b for a, b in itertools.pairwise(values))


def test_an_absent_structure_never_pulls_harder_than_one_over_smooth() -> None:
    function = loss("dice", True, smooth=0.5)
    p = torch.full((1, 1, 10), 1e-9, dtype=torch.float64).requires_grad_()
    function.of_regions(p, torch.zeros(1, 1, 10)).backward()  # type: ignore[operator]
    assert p.grad is not None
    assert float(p.grad.max()) == pytest.approx(1 / 0.5)


def test_pooling_the_batch_weighs_voxels_and_not_samples() -> None:
    target = torch.zeros(2, 1, 100, dtype=torch.float64)
    target[0] = 1
    target[1, :, 0] = 1
    logits = torch.where(target > 0, 200.0, -200.0).double()
    logits[1] = -200.0  # the one voxel of the second sample is missed
    pooled = float(loss("dice", True, batch=True)(logits, target))
    each = float(loss("dice", True, batch=False)(logits, target))
    assert pooled == pytest.approx(1 - 201 / 202)
    assert each == pytest.approx((0 + 1 - 1 / 2) / 2)


def test_a_million_voxels_are_counted_to_the_last_digits() -> None:
    logits, target = case(False, batch=1, size=(64, 128, 128), dtype=torch.float32)
    logits = logits * 0.01
    logits[:, 1] += 6  # probabilities just below 1, which a running float32 sum would round up
    target = torch.ones_like(target)
    wide = float(loss("dice", False)(logits.double(), target))
    assert float(loss("dice", False)(logits, target)) == pytest.approx(wide, abs=2e-7)
