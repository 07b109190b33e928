"""Lovasz losses against the set function they extend."""

from __future__ import annotations

import pytest
import torch
from loss_cases import OUTPUTS, case, certain, loss
from torch import Tensor

from medseg.losses.lovasz import lovasz_extension


def jaccard_loss(truth: Tensor, wrong: Tensor) -> float:
    """1 - IoU of masks (V,), the prediction being the truth but for the voxels that are wrong."""
    found = truth ^ wrong
    union = (truth | found).sum()
    return 0.0 if union == 0 else 1 - int((truth & found).sum()) / int(union)


def by_definition(errors: Tensor, truth: Tensor) -> float:
    """sum_i m_i (J_i - J_{i-1}), every J counted anew."""
    value, before = 0.0, 0.0
    wrong = torch.zeros_like(truth)
    for voxel in errors.argsort(descending=True):
        wrong[voxel] = True
        now = jaccard_loss(truth, wrong)
        value += float(errors[voxel]) * (now - before)
        before = now
    return value


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_extension_is_that_of_the_definition(share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    errors = torch.rand(40, generator=generator, dtype=torch.float64)
    truth = torch.rand(40, generator=generator) < share
    assert float(lovasz_extension(errors, truth)) == pytest.approx(by_definition(errors, truth), abs=1e-12)


@pytest.mark.parametrize("batch", [True, False])
def test_of_a_hard_answer_it_is_exactly_one_minus_iou(batch: bool) -> None:
    _, target = case(False)
    answer = case(False, batch=4)[1][2:]
    found = loss("lovasz", False, batch=batch)(certain(False, answer), target)
    pools = [(target, answer)] if batch else list(zip(target, answer, strict=True))
    expected = [
        jaccard_loss(t.flatten() == c, (t.flatten() == c) ^ (a.flatten() == c))
        for t, a in pools
        for c in range(1, OUTPUTS)
    ]
    assert float(found) == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def test_softmax_averages_over_the_structures_present() -> None:
    logits, target = case(False)
    target = target.clamp(max=1)  # structure 2 is absent
    p = logits.softmax(1)
    each = [
        by_definition((p[:, c] - (target == c).double()).abs().flatten(), (target == c).flatten())
        for c in range(2)
    ]
    assert float(loss("lovasz", False)(logits, target)) == pytest.approx(each[1])
    both = loss("lovasz", False, include_background=True)(logits, target)
    assert float(both) == pytest.approx(sum(each) / 2)


def test_without_any_structure_softmax_costs_nothing_and_pulls_at_nothing() -> None:
    logits, target = case(False)
    value = loss("lovasz", False)(logits.requires_grad_(), torch.zeros_like(target))
    value.backward()
    assert float(value.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("batch", [True, False])
def test_hinge_is_the_extension_of_the_margins(batch: bool) -> None:
    logits, target = case(True)
    errors = (1 - logits * (2 * target - 1)).clamp(min=0)
    pools = [[0, 1]] if batch else [[0], [1]]
    expected = [
        by_definition(errors[pool, c].flatten(), target[pool, c].flatten() > 0)
        for pool in pools
        for c in range(OUTPUTS)
    ]
    found = loss("lovasz", True, batch=batch)(logits, target)
    assert float(found) == pytest.approx(sum(expected) / len(expected))


def test_of_an_empty_region_hinge_is_the_largest_error() -> None:
    logits, target = case(True)
    found = loss("lovasz", True)(logits, torch.zeros_like(target))
    expected = (1 + logits).clamp(min=0).amax((0, 2, 3, 4)).mean()
    torch.testing.assert_close(found, expected)


def test_a_million_voxels_are_counted_to_the_last_digits() -> None:
    generator = torch.Generator().manual_seed(1)
    errors = torch.rand(1_000_000, generator=generator)
    truth = torch.rand(1_000_000, generator=generator) < 0.1
    wide = float(lovasz_extension(errors.double(), truth))
    assert float(lovasz_extension(errors, truth)) == pytest.approx(wide, rel=2e-6)
