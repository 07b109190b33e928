"""Which anchors and points learn which object: hand cases, and MONAI's matchers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher
from monai.data.box_utils import box_iou
from monai.utils.misc import set_determinism

from medseg.instances.anchors import (
    LEFT_OUT,
    NOTHING,
    adaptive,
    anchor_sizes,
    anchors,
    by_centre,
    by_iou,
    centreness,
    hardest,
    points,
    sampled,
)


def objects(seed: int, count: int, side: float) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, side - 12, (count, 3))
    return torch.tensor(np.concatenate((low, low + draw.uniform(4, 12, (count, 3))), axis=1)).float()


def pyramid(side: int) -> list[torch.Tensor]:
    """Two levels of cubes over an image."""
    return [
        anchors(points((side // stride,) * 3, (stride,) * 3), [[size] * 3])
        for stride, size in ((4, 6.0), (8, 12.0))
    ]


def test_anchors_lie_around_the_middle_of_cells() -> None:
    found = anchors(points((2, 1), (4, 2)), [[2.0, 2.0], [4.0, 1.0]])
    assert found.tolist() == [[1, 0, 3, 2], [0, 0.5, 4, 1.5], [5, 0, 7, 2], [4, 0.5, 8, 1.5]]
    monai = AnchorGeneratorWithAnchorShape(feature_map_scales=(1,), base_anchor_shapes=((2.0, 2.0, 4.0),))
    theirs = monai(torch.zeros(1, 1, 8, 8, 8), [torch.zeros(1, 1, 2, 2, 2)])[0]
    ours = anchors(points((2, 2, 2), (4, 4, 4)), [[2.0, 2.0, 4.0]])
    torch.testing.assert_close(ours, theirs)


def test_sizes_of_anchors_keep_their_volume() -> None:
    found = anchor_sizes(8.0, [1.0, 2 ** (1 / 3)], [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    assert [math.prod(size) for size in found] == pytest.approx([512, 512, 1024, 1024])
    assert found[1][2] == pytest.approx(2 * found[1][0])


def test_an_anchor_learns_what_it_overlaps_most() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [10.0, 10.0, 14.0, 14.0]])
    given = torch.tensor([
        [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 7.0], [1.0, 1.0, 9.0, 9.0], [12.0, 12.0, 18.0, 18.0],
        [20.0, 20.0, 22.0, 22.0],
    ])  # fmt: skip
    assert by_iou(given, boxes, 0.4, 0.7, keep_best=False).tolist() == [
        0,
        LEFT_OUT,
        NOTHING,
        NOTHING,
        NOTHING,
    ]
    assert by_iou(given, boxes, 0.4, 0.7).tolist() == [0, LEFT_OUT, NOTHING, 1, NOTHING]
    assert by_iou(given, boxes[:0], 0.4, 0.7).tolist() == [NOTHING] * 5


@pytest.mark.parametrize("seed", range(5))
def test_the_adaptive_choice_is_that_of_monai(seed: int) -> None:
    set_determinism(0)
    boxes, levels = objects(seed, 6, 48), pyramid(48)
    matcher = ATSSMatcher(num_candidates=4, similarity_fn=box_iou, center_in_gt=True)
    counts = [len(level) for level in levels]
    _, theirs = matcher.compute_matches(boxes, torch.cat(levels), counts, 1)
    assert adaptive(levels, boxes, nearest=4).tolist() == theirs.tolist()


def test_the_adaptive_choice_of_nothing_is_nothing() -> None:
    assert (adaptive(pyramid(16), torch.zeros(0, 6)) == NOTHING).all()


def test_points_learn_the_smallest_object_they_lie_in_the_middle_of() -> None:
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [4.0, 4.0, 12.0, 12.0]])
    levels = [points((8, 8), (2, 2)), points((4, 4), (4, 4))]
    found = by_centre(levels, [2.0, 4.0], boxes, [(0.0, 8.0), (8.0, math.inf)], radius=1.5)
    first, second = found[:64].reshape(8, 8), found[64:].reshape(4, 4)
    assert first[3, 3] == 1
    assert first[2, 3] == 1
    assert first[1, 3] == NOTHING  # inside the small one, but not in its middle
    assert second[1, 1] == 0
    assert second[0, 0] == 0
    narrow = by_centre(levels, [2.0, 4.0], boxes, [(0.0, 8.0), (8.0, math.inf)], radius=1.0)
    assert narrow[64:].reshape(4, 4)[0, 0] == NOTHING
    assert (by_centre(levels, [2.0, 4.0], boxes[:0], [(0.0, 8.0), (8.0, 16.0)]) == NOTHING).all()


def test_a_sample_holds_no_more_objects_than_its_share() -> None:
    learns = torch.tensor([0] * 10 + [NOTHING] * 100 + [LEFT_OUT] * 100)
    found = sampled(learns, 16, 0.5, torch.Generator().manual_seed(0))
    assert len(found) == len(set(found.tolist())) == 16
    assert (learns[found] >= 0).sum() == 8
    assert (learns[found] != LEFT_OUT).all()
    few = sampled(learns[8:], 16, 0.5)
    assert ((learns[8:][few] >= 0).sum(), len(few)) == (2, 16)


def test_the_middle_has_centreness_one() -> None:
    assert centreness(torch.tensor([[2.0, 3.0, 4.0, 2.0, 3.0, 4.0]])).item() == 1
    assert centreness(torch.tensor([[0.0, 3.0, 4.0, 3.0]])).item() == 0


def test_the_boxes_of_the_highest_loss_learn_but_for_those_left_out() -> None:
    learns = torch.tensor([NOTHING, 0, LEFT_OUT, NOTHING, 1])
    losses = torch.tensor([0.5, 0.1, 9.0, 3.0, 2.0])
    assert hardest(losses, learns, 3).tolist() == [3, 4, 0]
    assert sorted(hardest(losses, learns, 64).tolist()) == [0, 1, 3, 4]
