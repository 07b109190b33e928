"""Jaccard, Tversky and focal Tversky against each other, hand calculations and MONAI."""

from __future__ import annotations

import pytest
import torch
from loss_cases import case, certain, loss

SHARED = {"softmax": True, "to_onehot_y": True}


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("batch", [True, False])
def test_tversky_with_halves_is_dice_and_with_ones_jaccard(regions: bool, batch: bool) -> None:
    logits, target = case(regions)
    halves = loss("tversky", regions, alpha=0.5, beta=0.5, smooth=0.25, batch=batch)
    dice = loss("dice", regions, smooth=0.5, batch=batch)
    torch.testing.assert_close(halves(logits, target), dice(logits, target))
    ones = loss("tversky", regions, alpha=1, beta=1, batch=batch)
    jaccard = loss("jaccard", regions, batch=batch)
    torch.testing.assert_close(ones(logits, target), jaccard(logits, target))


def test_of_one_structure_jaccard_is_dice_over_two_minus_dice() -> None:
    logits, target = (x[:, :1] for x in case(True))
    d = 1 - loss("dice", True, smooth=1e-300)(logits, target)
    j = 1 - loss("jaccard", True, smooth=1e-300)(logits, target)
    torch.testing.assert_close(j, d / (2 - d))


@pytest.mark.parametrize("denominator", ["linear", "squared"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_jaccard_equals_monais(background: bool, batch: bool, denominator: str) -> None:
    import monai.losses

    logits, target = case(False)
    settings = {"batch": batch, "include_background": background}
    squared = denominator == "squared"
    theirs = monai.losses.DiceLoss(
        jaccard=True, squared_pred=squared, smooth_nr=0.5, smooth_dr=0.5, **SHARED, **settings
    )
    ours = loss("jaccard", False, denominator=denominator, smooth=0.25, **settings)  # theirs is 2I / 2U
    torch.testing.assert_close(ours(logits, target), theirs(logits, target[:, None]))


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_tversky_equals_monais(background: bool, batch: bool) -> None:
    import monai.losses

    logits, target = case(False)
    settings = {"batch": batch, "include_background": background, "alpha": 0.2, "beta": 0.6}
    theirs = monai.losses.TverskyLoss(smooth_nr=0.5, smooth_dr=0.5, **SHARED, **settings)  # type: ignore[arg-type]
    ours = loss("tversky", False, smooth=0.5, **settings)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target[:, None]))


def test_alpha_is_of_false_positives_and_beta_of_false_negatives() -> None:
    target = torch.tensor([[[1, 1, 1, 0, 0, 0]]])
    found = certain(True, torch.tensor([[[1, 1, 0, 1, 1, 1]]]))  # 2 right, 3 too many, 1 too few
    function = loss("tversky", True, smooth=1e-300)  # the paper's 0.3 and 0.7
    assert float(function(found, target)) == pytest.approx(1 - 2 / (2 + 0.3 * 3 + 0.7 * 1))
    focal = loss("focal_tversky", True, smooth=1e-300)
    assert float(focal(found, target)) == pytest.approx((1 - 2 / (2 + 0.3 * 3 + 0.7 * 1)) ** 0.75)


def test_focal_tversky_with_gamma_1_is_tversky() -> None:
    logits, target = case(False)
    focal = loss("focal_tversky", False, gamma=1, alpha=0.4, beta=0.9)
    torch.testing.assert_close(
        focal(logits, target), loss("tversky", False, alpha=0.4, beta=0.9)(logits, target)
    )


def test_the_focus_is_on_each_structure() -> None:
    logits, target = case(True)
    each = [loss("tversky", True)(logits[:, k : k + 1], target[:, k : k + 1]) for k in range(3)]
    expected = sum(value ** (1 / 2) for value in each) / 3
    torch.testing.assert_close(loss("focal_tversky", True, gamma=2)(logits, target), expected)


@pytest.mark.parametrize("gamma", [0.75, 4 / 3, 3])
def test_near_perfection_focal_tversky_keeps_a_finite_slope(gamma: float) -> None:
    _, target = case(False)
    for doubt in (400, 100, 20, 10):
        logits = (certain(False, target) * (doubt / 400)).float().requires_grad_()
        loss("focal_tversky", False, gamma=gamma)(logits, target).backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
