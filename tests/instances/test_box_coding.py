"""Boxes of a network: coded and back, and as far apart as the measures of `medseg.metrics` say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import box_utils

from medseg import metrics
from medseg.instances import boxes as own


def drawn(seed: int, count: int, axes: int) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 20, (count, axes))
    return torch.tensor(np.concatenate((low, low + draw.uniform(0.5, 12, (count, axes))), axis=1))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_what_is_coded_is_decoded(axes: int) -> None:
    boxes, anchors = drawn(0, 40, axes), drawn(1, 40, axes)
    torch.testing.assert_close(own.decode(own.encode(boxes, anchors), anchors), boxes)
    assert not own.encode(anchors, anchors).any()


def test_growth_is_bounded() -> None:
    huge = own.decode(torch.tensor([[0.0, 500.0]]), torch.tensor([[0.0, 2.0]]))
    assert torch.isfinite(huge).all()
    assert float(huge[0, 1] - huge[0, 0]) == pytest.approx(2 * 1000 / 16)


@pytest.mark.parametrize("axes", [2, 3])
def test_overlaps_are_those_of_the_measures_and_of_monai(axes: int) -> None:
    first, second = drawn(2, 30, axes), drawn(3, 20, axes)
    found = own.pairwise_iou(first, second)
    np.testing.assert_allclose(found, metrics.box_iou(first, second), atol=1e-12)
    torch.testing.assert_close(found, box_utils.box_iou(first, second), atol=1e-5, rtol=1e-5)
    generalised = own.giou(first[:, None], second[None])
    np.testing.assert_allclose(generalised, metrics.box_giou(first, second), atol=1e-12)
    torch.testing.assert_close(generalised, box_utils.box_giou(first, second), atol=1e-5, rtol=1e-5)


def test_overlaps_have_gradients_where_boxes_are_apart() -> None:
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]], requires_grad=True)
    own.giou(box, torch.tensor([[5.0, 0.0, 7.0, 2.0]])).sum().backward()
    assert box.grad is not None
    assert box.grad.abs().sum() > 0
    flat = torch.zeros(1, 4)
    assert own.iou(flat, flat).item() == 0


def test_boxes_are_cut_off_at_the_edges() -> None:
    assert own.clipped(torch.tensor([[-1.0, 2.0, 3.0, 9.0]]), (2, 6)).tolist() == [[0, 2, 2, 6]]


def test_boxes_around_points_have_their_distances() -> None:
    found = own.around_points(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[5.0, 5.0]]))
    assert found.tolist() == [[4, 3, 8, 9]]
