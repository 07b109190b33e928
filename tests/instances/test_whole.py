"""Objects of whole volumes: painted by score, and taken from the patch whose core they lie in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.instances.choice import Choice
from medseg.instances.detecting import Instance, Lesson
from medseg.instances.painting import Located, outlined, painted
from medseg.instances.whole import joined, objects_in

FULL = np.ones((4, 4, 4), np.float32)


def box(*ends: float) -> np.ndarray:
    return np.array(ends, np.float64)


def test_objects_are_painted_the_surest_first() -> None:
    first = Located(box(0, 0, 0, 4, 4, 4), 0, 0.9, FULL)
    half = Located(box(2, 0, 0, 6.5, 4, 4), 1, 0.8, FULL)
    covered = Located(box(0, 0, 0, 4, 4, 5), 1, 0.7, FULL)
    numbers, kept = painted([covered, half, first], (8, 4, 6))
    assert kept == [first, half]
    assert np.bincount(numbers.ravel()).tolist() == [8 * 4 * 6 - 64 - 32, 64, 32]


def test_a_mask_is_interpolated_to_the_voxels_of_its_box() -> None:
    """A ball in bins of a box twice as long along one axis becomes an ellipsoid of that shape."""
    at = (np.indices((16, 16, 16)) + 0.5) / 16 - 0.5
    ball = ((at**2).sum(0) < 0.25).astype(np.float32)
    numbers, _ = painted([Located(box(4, 4, 4, 44, 24, 24), 0, 1.0, ball)], (48, 30, 30))
    points = np.indices((48, 30, 30)) + 0.5
    middle, radii = np.array([24, 14, 14]), np.array([20, 10, 10])
    true = (((points - middle[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0) < 1
    both = (true & (numbers > 0)).sum()
    assert 2 * both / (true.sum() + (numbers > 0).sum()) > 0.96


def test_a_box_between_voxels_is_painted_where_their_middles_lie() -> None:
    numbers, _ = painted([Located(box(0.6, 0, 0, 2.4, 4, 4), 0, 1.0, FULL)], (4, 4, 4))
    assert numbers[:, 0, 0].tolist() == [0, 1, 0, 0]
    assert painted([Located(box(0.6, 0, 0, 1.4, 4, 4), 0, 1.0, FULL)], (4, 4, 4))[1] == []


class Bright(nn.Module):
    """Finds every voxel above 1 as an object of 5 voxels a side, cut off at its patch's edges."""

    def taught(self, x: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def found(self, x: Tensor, choice: Choice) -> list[list[Instance]]:
        found = []
        for at in torch.nonzero(x[0, 0] > 1).tolist():
            low = [max(0.0, n - 2.0) for n in at]
            high = [min(float(m), n + 3.0) for n, m in zip(at, x.shape[2:], strict=True)]
            found.append(Instance(torch.tensor([*low, *high]), 0, 0.5, torch.ones(4, 4, 4)))
        return [found]


@pytest.mark.parametrize("patch", [(24, 20, 16), (12, 12, 12), (10, 20, 8)])
def test_every_object_is_found_once_and_whole(patch: tuple[int, int, int]) -> None:
    image = np.zeros((1, 24, 20, 16), np.float32)
    places = [(2, 2, 2), (11, 9, 8), (12, 17, 3), (21, 3, 13), (6, 14, 9)]
    for at in places:
        image[(0, *at)] = 2
    found = objects_in(Bright().eval(), image, patch)
    ends = sorted(tuple(one.box.tolist()) for one in found)
    assert ends == sorted((*(n - 2.0 for n in at), *(n + 3.0 for n in at)) for at in places)


def test_objects_of_several_models_are_joined() -> None:
    first = [Located(box(0, 0, 0, 4, 4, 4), 0, 0.8, FULL), Located(box(9, 9, 9, 12, 12, 12), 1, 0.6, FULL)]
    second = [Located(box(0, 0, 0, 4, 4, 4), 0, 0.4, 0 * FULL), Located(box(0, 0, 0, 4, 4, 4), 1, 0.9, FULL)]
    found = joined([first, second])
    told = [(one.label, round(one.score, 3)) for one in found]
    assert told == [(0, 0.6), (1, 0.45), (1, 0.3)]
    assert np.allclose(found[0].mask, 2 / 3)
    assert joined([first]) == first


def test_objects_take_the_outlines_of_the_label_map() -> None:
    """Two objects of one structure and one of another, painted bluntly, over their true label map."""
    labels = np.zeros((20, 12, 4), np.uint8)
    labels[2:8, 2:10], labels[8:14, 2:10], labels[15:18, 2:10] = 1, 1, 2
    numbers = np.zeros(labels.shape, np.uint32)
    numbers[1:8, 2:9], numbers[8:13, 2:9], numbers[16:19, 3:10] = 1, 2, 3
    found = outlined(numbers, [1, 1, 2], labels)
    np.testing.assert_array_equal(found == 3, labels == 2)
    np.testing.assert_array_equal((found == 1) | (found == 2), labels == 1)
    assert (found[2:8, 2:10] == 1).all()
    assert (found[8:14, 2:10] == 2).all()
    assert (numbers[1] == 1).any(), "what was painted is not changed"


def test_an_object_that_the_label_map_denies_keeps_its_mask() -> None:
    """The label map of a small network misses lesions that its boxes find."""
    labels = np.zeros((12, 12, 4), np.uint8)
    labels[2:4, 2:4] = 1
    numbers = np.zeros(labels.shape, np.uint32)
    numbers[2:6, 2:6], numbers[8:10, 8:10] = 1, 2
    np.testing.assert_array_equal(outlined(numbers, [1, 1], labels), numbers)
    far = np.zeros_like(labels)
    far[0, 11], far[11, 0] = 1, 2
    np.testing.assert_array_equal(outlined(numbers, [1, 1], far), numbers)
