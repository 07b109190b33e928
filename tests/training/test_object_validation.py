"""Objects choose the checkpoint, by average precision; a patch teaches those it holds enough of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import model_spec
from torch import Tensor, nn

from medseg.core.structures import from_labels
from medseg.instances.choice import Choice
from medseg.instances.detecting import Instance, Lesson
from medseg.instances.objects import coded, objects_of, sizes_of
from medseg.training.batch import TrainingCase
from medseg.training.object_validation import ObjectValidator

NAMES = from_labels({1: "lesion", 2: "cyst"})


class Seen(nn.Module):
    """Finds a cube of 4 voxels where the image is 2, a cyst where it is 3; the weight is the score."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(0.5))

    def taught(self, x: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def found(self, x: Tensor, choice: Choice) -> list[list[Instance]]:
        every = []
        for value in (2, 3):
            for at in torch.nonzero(x[0, 0] == value).tolist():
                box = torch.tensor([*at, *(n + 4 for n in at)], dtype=torch.float32)
                every.append(Instance(box, value - 2, float(self.score), torch.ones(4, 4, 4)))
        return [every]


def case(*objects: tuple[int, tuple[int, int, int]], seen: int = 9) -> TrainingCase:
    """Cubes of 4 voxels, of which the first few are shown to the network."""
    image, labels, numbers = np.zeros((3, 24, 24, 24), np.float32)
    for number, (value, at) in enumerate(objects, start=1):
        where = tuple(slice(n, n + 4) for n in at)
        labels[where], numbers[where] = value, number
        if number <= seen:
            image[at] = value + 1
    codes = coded(labels.astype(np.uint8), numbers.astype(np.int32))
    return TrainingCase("a", torch.from_numpy(image)[None], torch.from_numpy(codes))


def test_the_checkpoint_is_chosen_by_objects_that_are_found() -> None:
    spec = model_spec(structures=NAMES)
    spec = replace(spec, inference=replace(spec.inference, tile=(24, 24, 24)))
    places = ((1, (2, 2, 2)), (1, (6, 2, 2)), (1, (14, 14, 14)))
    found = ObjectValidator(Seen(), spec, [case(*places)])(Seen().state_dict())
    assert found["lesion"] == 1.0, "two that touch are two"
    assert math.isnan(found["cyst"])
    half = ObjectValidator(Seen(), spec, [case(*places[:2], seen=1)])(Seen().state_dict())
    assert half["lesion"] == pytest.approx(0.5)
    both = ObjectValidator(Seen(), spec, [case(places[0], (2, (14, 2, 2)))])(Seen().state_dict())
    assert both == {"lesion": 1.0, "cyst": 1.0}


def test_the_score_from_which_objects_are_taken_serves_the_selection_cases_best() -> None:
    spec = model_spec(structures=NAMES)
    spec = replace(spec, inference=replace(spec.inference, tile=(24, 24, 24)))
    places = ((1, (2, 2, 2)), (1, (14, 14, 14)))
    judge = ObjectValidator(Seen(), spec, [case(*places)])
    assert judge.least_score(Seen().state_dict()) == 0.25, "half-way from the lowest score to 0"
    assert ObjectValidator(Seen(), spec, []).least_score(Seen().state_dict()) == 0.5
    nothing = ObjectValidator(Seen(), spec, [case(*places, seen=0)])
    assert nothing.least_score(Seen().state_dict()) == 0.5


def test_an_object_of_which_a_patch_holds_less_than_half_teaches_nothing() -> None:
    whole = case((1, (2, 2, 2)), (1, (14, 14, 14)))
    assert sorted(whole.sizes.values()) == [64, 64]
    patch = whole.labels[3:, 3:, 3:]  # 27 of the 64 voxels of the first
    assert objects_of(patch, whole.sizes).whole.tolist() == [False, True]
    assert objects_of(whole.labels[4:], whole.sizes).whole.tolist() == [True, True]
    assert sizes_of(torch.ones(2, 2, dtype=torch.uint8)) == {}
