"""Generalised Dice against hand calculations and MONAI."""

from __future__ import annotations

import pytest
import torch
from loss_cases import case, loss


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_it_equals_monais_where_all_structures_are_present(background: bool, batch: bool) -> None:
    import monai.losses

    logits, target = case(False)
    settings = {"include_background": background, "batch": batch}
    theirs = monai.losses.GeneralizedDiceLoss(
        softmax=True, to_onehot_y=True, smooth_nr=0, smooth_dr=0, **settings
    )
    ours = loss("generalised_dice", False, smooth=1e-300, **settings)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target[:, None]))


def test_a_hand_calculated_generalised_dice() -> None:
    # Region 0 has 1 voxel, found with p = 0.5; region 1 has 2, found with p = 0.8 each, and p = 0.25 beyond.
    p = torch.tensor([[0.5, 0.0, 0.0], [0.8, 0.8, 0.25]], dtype=torch.float64)
    target = torch.tensor([[1, 0, 0], [1, 1, 0]])
    overlap = 1 * 0.5 + 1.6 / 4
    total = 1 * (0.5 + 1) + (1.85 + 2) / 4
    found = loss("generalised_dice", True)(torch.logit(p)[None].clamp(-700, 700), target[None])
    assert float(found) == pytest.approx(1 - (2 * overlap + 1) / (total + 1))


def test_of_one_structure_it_is_the_dice() -> None:
    logits, target = (x[:, :1] for x in case(True))
    torch.testing.assert_close(
        loss("generalised_dice", True)(logits, target), loss("dice", True)(logits, target)
    )


def test_an_absent_structure_weighs_as_much_as_the_smallest() -> None:
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]], dtype=torch.float64)
    target = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    overlap = 0 + 1 + 4 / 4
    total = 1 + (2 + 2) + (4 + 4) / 4
    found = loss("generalised_dice", True)(torch.logit(p)[None].clamp(-700, 700), target[None])
    assert float(found) == pytest.approx(1 - (2 * overlap + 1) / (total + 1))


def test_small_and_large_structures_pull_alike() -> None:
    # Half of each is found; what is missed of either changes the loss by the same relative amount.
    target = torch.zeros(1, 2, 1100, dtype=torch.float64)
    target[0, 0, :100] = 1
    target[0, 1, 100:] = 1
    missing = []
    for region in range(2):
        logits = torch.where(target > 0, 200.0, -200.0).double()
        logits[0, region, : 50 if region == 0 else 600] = -200
        missing.append(float(loss("generalised_dice", True, smooth=1e-300)(logits, target)))
    small = 1 - 2 * (50 / 100**2 + 1 / 1000) / (150 / 100**2 + 2 / 1000)
    large = 1 - 2 * (1 / 100 + 500 / 1000**2) / (2 / 100 + 1500 / 1000**2)
    assert missing == pytest.approx([small, large])
