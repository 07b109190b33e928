"""Objects of points: what codes teach, what a head says, which boxes are left, and masks as mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medseg.instances.anchors import LEFT_OUT, NOTHING
from medseg.instances.blendmask import Mixture
from medseg.instances.boxes import around_points
from medseg.instances.choice import Choice, Found
from medseg.instances.fcos import PointRule, Said, find, teach
from medseg.instances.heads import Dense, flat
from medseg.instances.losses import focal, giou_loss, mask_loss, smooth_l1
from medseg.instances.objects import Objects, coded, indices_of, objects_of, shares_of

RULE = PointRule(((2, 2), (4, 4)))


def two_objects() -> torch.Tensor:
    """Codes of a patch of 16 x 16: a small object of structure 2 and a large one of structure 1."""
    indices, numbers = np.zeros((2, 16, 16), np.uint8)
    indices[2:6, 2:6], numbers[2:6, 2:6] = 2, 5
    indices[6:16, 6:16], numbers[6:16, 6:16] = 1, 1
    indices[0, 15] = 1  # of no object
    return torch.from_numpy(coded(indices, numbers))


def test_codes_say_structure_and_object() -> None:
    codes = two_objects()
    assert indices_of(codes)[3, 3] == 2
    assert indices_of(codes)[0, 15] == 1
    found = objects_of(codes, {})
    assert found.boxes.tolist() == [[6, 6, 16, 16], [2, 2, 6, 6]]
    assert found.classes.tolist() == [0, 1]
    assert found.whole.tolist() == [True, True]
    cut = objects_of(codes, {int(found.codes[0]): 201, int(found.codes[1]): 32})
    assert cut.whole.tolist() == [False, True]
    assert len(objects_of(torch.zeros(4, 4, dtype=torch.int32), {})) == 0


def test_points_of_an_object_that_was_cut_are_left_out() -> None:
    objects = objects_of(two_objects(), {})
    places = RULE.places([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)])
    learns = RULE.learnt(places, objects)
    assert set(learns.tolist()) == {NOTHING, 0, 1}
    cut = Objects(objects.codes, objects.boxes, objects.classes, torch.tensor([True, False]))
    assert torch.equal(RULE.learnt(places, cut) == LEFT_OUT, learns == 1)


def said_of(codes: torch.Tensor, *, sure: float = 6.0) -> Said:
    """What a perfect head says: each point its object's class and faces."""
    objects = objects_of(codes, {})
    sizes = [(8, 8), (4, 4)]
    places = RULE.places([torch.zeros(1, 1, *size) for size in sizes])
    learns = RULE.learnt(places, objects)
    every = torch.cat(places)
    low, high = objects.boxes[learns.clamp(min=0)].chunk(2, dim=1)
    faces = torch.cat((every - low, high - every), dim=1).clamp(min=0.1)
    lengths = torch.cat([torch.full((len(p), 1), s) for p, s in zip(places, RULE.lengths, strict=True)])
    scores = torch.full((len(every), 2), -sure)
    scores[learns >= 0, objects.classes[learns[learns >= 0]]] = sure
    levels = []
    start = 0
    for size in sizes:
        stop = start + math.prod(size)
        maps = (part[start:stop].T.reshape(1, -1, *size) for part in (scores, torch.log(faces / lengths)))
        levels.append(Dense(*maps))
        start = stop
    return Said.of(levels, RULE, 2)


def test_what_a_perfect_head_says_is_found() -> None:
    codes = two_objects()
    said = said_of(codes)
    (found,) = find(said, (16, 16), Choice())
    assert sorted(found.classes.tolist()) == [0, 1]
    for box, label in zip(found.boxes.round().tolist(), found.classes.tolist(), strict=True):
        assert box == {0: [6, 6, 16, 16], 1: [2, 2, 6, 6]}[label]
    loss, _ = teach(said, [objects_of(codes, {})], RULE)
    worse, _ = teach(said_of(codes, sure=0.0), [objects_of(codes, {})], RULE)
    assert float(loss) < 0.01 < float(worse)


def test_a_patch_without_objects_teaches_background_alone() -> None:
    said = said_of(two_objects())
    loss, learns = teach(said, [objects_of(torch.zeros(16, 16, dtype=torch.int32), {})], RULE)
    assert torch.isfinite(loss)
    assert (learns[0] == NOTHING).all()


def test_boxes_of_two_classes_do_not_suppress_each_other() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 3)
    found = Found(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), torch.zeros(3, 0))
    assert Choice().kept(found, (8, 8)).scores.tolist() == pytest.approx([0.9, 0.8])
    assert Choice(most=1).kept(found, (8, 8)).scores.tolist() == pytest.approx([0.9])


def test_maps_of_anchors_become_rows_point_by_point() -> None:
    maps = torch.arange(2 * 3 * 2 * 2).reshape(1, 6, 2, 2)  # two anchors of three numbers
    rows = flat(maps, 3)
    assert rows.shape == (1, 8, 3)
    assert rows[0, :2].tolist() == [[0, 4, 8], [12, 16, 20]]
    assert rows[0, 2].tolist() == [1, 5, 9]


def test_masks_mix_the_maps_by_their_shares() -> None:
    mixture = Mixture(count=2, stride=(1, 1), bins=4, attention=2)
    bases = torch.stack((torch.full((8, 8), 3.0), torch.full((8, 8), -1.0)))
    box = torch.tensor([[1.0, 1.0, 7.0, 7.0]])
    even = mixture.masks(bases, box, torch.zeros(1, mixture.numbers))
    torch.testing.assert_close(even, torch.ones(1, 4, 4))
    first = torch.zeros(1, mixture.numbers)
    first[:, :4] = 50.0
    torch.testing.assert_close(mixture.masks(bases, box, first), torch.full((1, 4, 4), 3.0))


def test_the_mask_that_is_wanted_is_the_object_within_its_box() -> None:
    codes = two_objects()
    codes[6:11, 6:11] = 0
    objects = objects_of(codes, {})
    wanted = shares_of(codes, objects.codes.tolist(), objects.boxes, 10)
    assert wanted[1].min() > 0.45  # a bin at the border reaches beyond it
    inner = wanted[0] > 0.45
    assert inner.sum() == 75
    assert not inner[:5, :5].any()


def test_losses_by_hand() -> None:
    even, one, nothing = torch.zeros(1), torch.ones(1), torch.zeros(1)
    assert focal(even, one).item() == pytest.approx(0.25 * 0.25 * math.log(2))
    assert focal(even, nothing).item() == pytest.approx(0.75 * 0.25 * math.log(2))
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert giou_loss(box, box).item() == pytest.approx(0)
    assert giou_loss(box, box + 2).item() == pytest.approx(1 + 8 / 16)
    assert smooth_l1(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2)).item() == pytest.approx(0.125 + 2.5)
    sure = torch.full((1, 4, 4), 20.0)
    assert mask_loss(sure, torch.ones(1, 4, 4)).item() == pytest.approx(0, abs=1e-6)
    assert mask_loss(sure, torch.zeros(1, 4, 4)).item() > 20


def test_points_and_faces_make_boxes_of_voxels() -> None:
    said = said_of(two_objects())
    boxes = around_points(said.distances[0], torch.cat(said.places))
    assert boxes.shape == (8 * 8 + 4 * 4, 4)
