"""Top-k loss against hand calculations, cross-entropy and its own gradient."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import WEIGHTS, case, loss
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.losses import TopKLoss

P = torch.tensor([0.9, 0.2, 0.6, 0.4], dtype=torch.float64)
LABELS = torch.tensor([[1, 1, 0, 0]])
COSTS = [-math.log(p) for p in (0.9, 0.2, 0.4, 0.6)]
"""Of P against LABELS: the second voxel is the hardest, then the third."""


def test_a_hand_calculated_loss_of_labels_and_of_regions() -> None:
    logits = torch.stack([(1 - P).log(), P.log()])[None]
    for share, hardest in ((0.25, COSTS[1:2]), (0.5, COSTS[1:3]), (1.0, COSTS)):
        wanted = sum(hardest) / len(hardest)
        assert float(loss("top_k", False, share=share)(logits, LABELS)) == pytest.approx(wanted)
        found = loss("top_k", True, share=share)(torch.logit(P)[None, None], LABELS[None])
        assert float(found) == pytest.approx(wanted)


def test_class_weights_make_voxels_harder() -> None:
    logits = torch.stack([(1 - P).log(), P.log()])[None]
    found = loss("top_k", False, share=0.25, class_weights=(4.0, 1.0))(logits, LABELS)
    assert float(found) == pytest.approx(4 * COSTS[2])


def test_the_gradient_is_that_of_the_hardest_voxels_alone() -> None:
    logits = torch.logit(P)[None, None].requires_grad_()
    loss("top_k", True, share=0.5)(logits, LABELS[None]).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([0, (0.2 - 1) / 2, 0.6 / 2, 0])


def test_the_share_is_of_the_voxels_that_count() -> None:
    kept = torch.tensor([[True, False, True, True]])
    logits = torch.stack([(1 - P).log(), P.log()])[None]
    found = loss("top_k", False, share=2 / 3)(logits, LABELS, kept)
    assert float(found) == pytest.approx((COSTS[2] + COSTS[3]) / 2)
    assert float(loss("top_k", False, share=0.01)(logits, LABELS)) == pytest.approx(COSTS[1]), "at least one"


def test_all_voxels_are_cross_entropy() -> None:
    logits, target = case(False)
    found = TopKLoss(share=1.0)(logits, target)
    torch.testing.assert_close(found, functional.cross_entropy(logits, target))
    logits, target = case(True)
    found = TopKLoss(regions=True, share=1.0, class_weights=WEIGHTS)(logits, target)
    weights = torch.tensor(WEIGHTS).reshape(-1, 1, 1, 1)
    expected = functional.binary_cross_entropy_with_logits(logits, target.double(), weight=weights)
    torch.testing.assert_close(found, expected)


def test_a_share_that_is_none_is_refused() -> None:
    for share in (0.0, 1.01, math.nan):
        with pytest.raises(UsageError, match="share must be above 0 and at most 1, not"):
            TopKLoss(share=share)
