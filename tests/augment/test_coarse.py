"""Changes of what a coarse stage found, in patches of a fine stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.augment import coarse
from medseg.augment.coarse import CoarseParams
from medseg.augment.compose import Augmenter
from medseg.augment.spec import AugmentSpec, CoarseSpec, ContrastSpec, FlipSpec, LinearSpec
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels

STRUCTURES = from_labels({1: "left eye", 2: "right eye", 3: "nose"})
SHAPE = (6, 5, 4)
QUIET = CoarseSpec(moved=0.0, missed=0.0)


def volume() -> tuple[torch.Tensor, torch.Tensor]:
    """An image, three channels of probabilities, and labels where each is above a half."""
    generator = torch.Generator().manual_seed(0)
    found = torch.rand((3, *SHAPE), generator=generator).softmax(0)
    labels = (found.argmax(0) + 1).to(torch.uint8)
    return torch.cat([torch.randn((1, *SHAPE), generator=generator), found]), labels


def test_intensities_change_in_images_only() -> None:
    spec = AugmentSpec(contrast=ContrastSpec(linear=LinearSpec(1.0, (2.0, 2.0), (1.0, 1.0))))
    image, labels = volume()
    augmenter = Augmenter(spec, STRUCTURES, (1.0, 1.0, 1.0), QUIET)
    patch, _ = augmenter.draw(torch.Generator().manual_seed(0), image, labels, (2.5, 2.0, 1.5), SHAPE)
    assert not torch.equal(patch[0], image[0])
    assert torch.equal(patch[1:], image[1:])


def test_a_left_right_flip_exchanges_the_channels_of_twins() -> None:
    spec = AugmentSpec(flip=FlipSpec((0,), probability=1.0))
    image, labels = volume()
    augmenter = Augmenter(spec, STRUCTURES, (1.0, 1.0, 1.0), QUIET)
    patch, cut = augmenter.draw(torch.Generator().manual_seed(0), image, labels, (2.5, 2.0, 1.5), SHAPE)
    for channel, twin in ((1, 2), (2, 1), (3, 3)):
        assert torch.equal(patch[channel], image[twin].flip(0))
    np.testing.assert_array_equal(patch[1:].argmax(0) + 1, cut)  # channels and labels still say the same


def test_a_flip_of_another_axis_leaves_twins_where_they_are() -> None:
    spec = AugmentSpec(flip=FlipSpec((1,), probability=1.0))
    image, labels = volume()
    augmenter = Augmenter(spec, STRUCTURES, (1.0, 1.0, 1.0), QUIET)
    patch, _ = augmenter.draw(torch.Generator().manual_seed(0), image, labels, (2.5, 2.0, 1.5), SHAPE)
    assert torch.equal(patch, image.flip(2))


def test_a_power_moves_borders_and_nothing_that_is_certain() -> None:
    found = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 4, 1, 1)
    grown = coarse.apply(CoarseParams((0.5,)), found).flatten()
    assert grown.tolist() == pytest.approx([0.0, 0.5, 0.5**0.5, 1.0])


def test_a_missed_structure_has_no_probability_and_the_case_keeps_its_own() -> None:
    found = volume()[0][1:]
    before = found.clone()
    changed = coarse.apply(CoarseParams(missed=1), found)
    assert not changed[1].any()
    assert torch.equal(changed[[0, 2]], found[[0, 2]])
    assert torch.equal(found, before)


def test_changes_are_as_frequent_as_they_should_be() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [coarse.sample(CoarseSpec(), generator, 3) for _ in range(2000)]
    assert np.mean([bool(p.exponents) for p in drawn]) == pytest.approx(0.4, abs=0.05)
    missed = [p.missed for p in drawn if p.missed is not None]
    assert len(missed) / 2000 == pytest.approx(0.2, abs=0.04)
    assert set(missed) == {0, 1, 2}
    exponents = [e for p in drawn for e in p.exponents]
    assert 0.25 <= min(exponents) < 0.3
    assert 3.4 < max(exponents) <= 4.0


@pytest.mark.parametrize("wrong", [{"moved": 1.5}, {"missed": -0.1}, {"exponent": (0.0, 2.0)}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CoarseSpec(**wrong)  # type: ignore[arg-type]
