"""Sums of losses, their weights and schedules."""

from __future__ import annotations

import pytest
import torch
from loss_cases import TERMS, case, loss

from medseg.core.errors import UsageError
from medseg.losses.distances import measure_at
from medseg.losses.scheduled import Scheduled
from medseg.losses.spec import LossTerm


@pytest.mark.parametrize(("progress", "entropy"), [(0.0, 2.0), (0.25, 1.5), (1.0, 0.0)])
@pytest.mark.parametrize("regions", [False, True])
def test_the_weights_go_linearly_from_first_to_last(regions: bool, progress: float, entropy: float) -> None:
    logits, target = case(regions)
    both = loss("sum", regions, terms=TERMS)
    assert isinstance(both, Scheduled)
    both.progress = progress
    terms = [
        0.5 * loss("tversky", regions)(logits, target),
        entropy * loss("cross_entropy", regions, w0=10.0)(logits, target),
        loss("lovasz", regions)(logits, target),
    ]
    torch.testing.assert_close(both(logits, target), sum(terms))


def test_a_training_begins_with_the_first_weights() -> None:
    logits, target = case(False)
    grows = loss("sum", False, terms=(LossTerm("dice", weight=0.25, weight_end=1.0),))
    torch.testing.assert_close(grows(logits, target), 0.25 * loss("dice", False)(logits, target))


def test_the_terms_measure_by_the_spacing() -> None:
    logits, target = case(False)
    found = loss("sum", False, terms=(LossTerm("boundary"),), spacing_mm=(2.0, 3.0, 4.0))(logits, target)
    torch.testing.assert_close(found, loss("boundary", False, spacing_mm=(2.0, 3.0, 4.0))(logits, target))


@pytest.mark.parametrize("regions", [False, True])
def test_of_every_nth_voxel_the_terms_measure_by_the_spacing_of_those(regions: bool) -> None:
    logits, target = case(regions)
    terms = (LossTerm("boundary"), LossTerm("cross_entropy", w0=10.0, sigma_mm=2.0), LossTerm("dice"))
    told, fine = (loss("sum", regions, terms=terms, spacing_mm=(1.0, 0.5, 2.0)) for _ in range(2))
    coarse = loss("sum", regions, terms=terms, spacing_mm=(2.0, 1.5, 2.0))
    measure_at(told, (2, 3))
    torch.testing.assert_close(told(logits, target), coarse(logits, target))
    measure_at(told, (1, 1, 1))
    assert torch.equal(told(logits, target), fine(logits, target))
    assert not torch.allclose(fine(logits, target), coarse(logits, target))


def test_a_loss_without_a_schedule_need_not_be_told() -> None:
    assert not isinstance(loss("dice", False), Scheduled)


def test_dice_and_cross_entropy_are_the_sum_of_their_terms() -> None:
    logits, target = case(False)
    terms = (LossTerm("dice", weight=0.3), LossTerm("cross_entropy", class_weights=(1, 2, 3), weight=2.0))
    pair = loss("dice_ce", False, dice_weight=0.3, ce_weight=2.0, class_weights=(1, 2, 3))
    torch.testing.assert_close(loss("sum", False, terms=terms)(logits, target), pair(logits, target))


def test_a_term_that_does_not_take_the_outputs_is_refused() -> None:
    with pytest.raises(UsageError, match="the loss 'bce_dice' does not take labels"):
        loss("sum", False, terms=(LossTerm("dice"), LossTerm("bce_dice")))
