"""Focal loss against hand calculations, MONAI and cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import OUTPUTS, WEIGHTS, case, loss
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.losses.focal import FocalLoss


def test_a_hand_calculated_focal_loss() -> None:
    p = torch.tensor([0.8, 0.4], dtype=torch.float64)  # the first voxel is the structure
    inside, outside = -(0.2**2) * math.log(0.8), -(0.4**2) * math.log(0.6)
    found = loss("focal", True)(torch.logit(p).reshape(1, 1, 2), torch.tensor([[[1, 0]]]))
    assert float(found) == pytest.approx((0.25 * inside + 0.75 * outside) / 2)
    logits = torch.stack([(1 - p).log(), p.log()])[None]
    found = loss("focal", False, class_weights=(1.0, 3.0))(logits, torch.tensor([[1, 0]]))
    assert float(found) == pytest.approx((3 * inside + outside) / 2)


def test_it_equals_monais() -> None:
    import monai.losses

    logits, target = case(False)
    theirs = monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=1.5)
    found = loss("focal", False, gamma=1.5)(logits, target)
    expected = theirs(logits, target[:, None]).double() * OUTPUTS  # their mean is over outputs too
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    logits, target = case(True)
    found = loss("focal", True, gamma=3, alpha=0.4)(logits, target)
    expected = monai.losses.FocalLoss(gamma=3, alpha=0.4)(logits, target.double()).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_without_focus_it_is_cross_entropy() -> None:
    logits, target = case(False)
    torch.testing.assert_close(FocalLoss(gamma=0)(logits, target), functional.cross_entropy(logits, target))
    logits, target = case(True)
    found = FocalLoss(regions=True, gamma=0, alpha=0.5, class_weights=WEIGHTS)(logits, target)
    weights = torch.tensor(WEIGHTS).reshape(-1, 1, 1, 1)
    expected = functional.binary_cross_entropy_with_logits(logits, target.double(), weight=weights)
    torch.testing.assert_close(2 * found, expected)


def test_alpha_is_of_regions() -> None:
    with pytest.raises(
        UsageError, match="alpha of the focal loss applies only to regions; use class_weights for labels"
    ):
        loss("focal", False, alpha=0.25)
