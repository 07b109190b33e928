"""Dice with cross-entropy: the two parts, and the forms of BCE-Dice, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from loss_cases import case, loss
from torch import Tensor

from medseg.core.errors import UsageError

P = torch.tensor([0.8, 0.4], dtype=torch.float64)
"""Two voxels, of which the first is the structure."""


def bce_dice(**settings: Any) -> float:
    return float(
        loss("bce_dice", True, **settings)(torch.logit(P).reshape(1, 1, 2), torch.tensor([[[1, 0]]]))
    )


DICE = (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1)
ENTROPY = -(math.log(0.8) + math.log(1 - 0.4)) / 2


def test_hand_calculated_sums_of_dice_and_cross_entropy() -> None:
    assert bce_dice(dice_weight=3.0, ce_weight=0.5) == pytest.approx(3 * (1 - DICE) + 0.5 * ENTROPY)
    logits = torch.stack([(1 - P).log(), P.log()])[None]
    weighted = -(4 * math.log(0.8) + 1 * math.log(1 - 0.4)) / (4 + 1)
    found = loss("dice_ce", False, class_weights=(1.0, 4.0))(logits, torch.tensor([[1, 0]]))
    assert float(found) == pytest.approx(1 - DICE + weighted)


def test_the_logarithmic_form_by_hand() -> None:
    found = bce_dice(form="log", dice_weight=3.0, ce_weight=0.5)
    assert found == pytest.approx(0.5 * ENTROPY - 3 * math.log(DICE))


def test_the_form_of_unetpp_by_hand() -> None:
    # -(1/N) sum_b [1/2 Y ln P + 2 Y P / (Y + P)] + 1, the logarithms' mean taken over two voxels an image.
    p = torch.tensor([[0.8, 0.4], [0.5, 0.25]], dtype=torch.float64)
    first = (math.log(0.8) / 2) / 2 + 2 * 0.8 / (1 + 1.2)
    second = ((math.log(0.5) + math.log(0.25)) / 2) / 2 + 2 * 0.75 / (2 + 0.75)
    function = loss("bce_dice", True, form="unetpp", smooth=1e-300)
    found = function(torch.logit(p)[:, None], torch.tensor([[[1, 0]], [[1, 1]]]))
    assert float(found) == pytest.approx(1 - (first + second) / 2)


@pytest.mark.parametrize("form", ["linear", "log", "unetpp"])
def test_a_structure_missed_among_a_million_voxels_still_pulls(form: str) -> None:
    logits = torch.full((1, 1, 1_000_000), 8.0).requires_grad_()
    target = torch.zeros(logits.shape)
    target[..., 0] = 1
    value = loss("bce_dice", True, form=form)(logits, target)
    value.backward()
    assert logits.grad is not None
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[..., 0] < 0


@pytest.mark.parametrize(("name", "regions"), [("dice_ce", False), ("bce_dice", True)])
def test_class_weights_that_do_not_match_the_outputs_are_refused(name: str, regions: bool) -> None:
    with pytest.raises(UsageError, match="2 class weights do not fit 3 outputs"):
        loss(name, regions, class_weights=(1.0, 2.0))(*case(regions))


def test_a_batch_whose_labels_all_weigh_nothing_has_no_cross_entropy() -> None:
    logits, target = case(False)
    function = loss("dice_ce", False, class_weights=(0.0, 1.0, 1.0), dice_weight=0.0)
    assert float(function(logits, torch.zeros_like(target))) == 0


@pytest.mark.parametrize(
    ("logits", "target", "says"),
    [
        ((1, 1, 4), torch.zeros(1, 4, dtype=torch.int64), "needs at least two outputs"),
        ((1, 3, 4), torch.full((1, 4), 0.5), "must be whole numbers, but these torch.float32"),
        ((1, 3, 4), torch.tensor([[0, 1, 2, 3]]), "labels from 0 to 3 do not fit 3 outputs"),
        ((1, 3, 4), torch.tensor([[0, 1, -1, 2]]), "labels from -1 to 2 do not fit 3 outputs"),
    ],
)
def test_labels_that_are_no_outputs_are_refused(logits: tuple[int, ...], target: Tensor, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        loss("dice_ce", False)(torch.zeros(logits), target)
