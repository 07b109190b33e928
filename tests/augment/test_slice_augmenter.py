"""Slices for a 2D network: what a training cuts is what a prediction sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.augment.compose import Augmenter
from medseg.augment.slices import SliceAugmenter
from medseg.augment.spec import AffineSpec, AugmentSpec, ElasticSpec
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels
from medseg.inference.slices import turned, with_neighbours
from medseg.model.spec import SliceSpec

SHAPE = (7, 8, 9)


def maker(spec: SliceSpec, augment: AugmentSpec | None = None) -> SliceAugmenter:
    return SliceAugmenter(
        Augmenter(augment or AugmentSpec(), from_labels({1: "core"}), (1.0, 2.0, 3.0)), spec
    )


def volume(channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(channels, *SHAPE)).astype(np.float32))
    return image, torch.from_numpy(rng.integers(0, 2, SHAPE).astype(np.uint8))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("context", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 3, "last"])
def test_a_training_cuts_the_slice_that_a_prediction_sees(axis: int, context: int, at: int | str) -> None:
    image, labels = volume()
    slice_at = SHAPE[axis] - 1 if at == "last" else int(at)
    seen = with_neighbours(turned(image.numpy(), axis), context)[..., slice_at]
    centre = [(n - 1) / 2 for n in SHAPE]
    centre[axis] = slice_at
    patch, cut = maker(SliceSpec((axis,), context)).draw(
        torch.Generator(), image, labels, centre, (*seen.shape[1:], 1)
    )
    np.testing.assert_array_equal(patch.numpy(), seen)
    np.testing.assert_array_equal(cut.numpy(), np.swapaxes(labels.numpy(), axis, 2)[..., slice_at])


def test_slices_of_every_axis_come() -> None:
    image, _ = volume()
    generator = torch.Generator().manual_seed(0)
    cut = maker(SliceSpec((0, 1, 2)))
    counts = set()
    marked = torch.zeros(SHAPE, dtype=torch.uint8)
    marked[3, 4, :] = 1  # a line upwards: one voxel of an axial slice, many of the others
    for _ in range(30):
        _, found = cut.draw(generator, image, marked, (3.0, 4.0, 4.0), (5, 5, 1))
        counts.add(int(found.sum()))
    assert counts == {1, 5}
    assert cut.source_shape((5, 6, 1)) == (1, 1, 1)
    assert maker(SliceSpec((0,))).source_shape((5, 6, 1)) == (1, 6, 5)


def test_a_slice_bends_together_with_its_labels_and_neighbours() -> None:
    image = torch.arange(9.0).expand(1, *SHAPE).contiguous()  # each axial slice has one brightness
    labels = torch.ones(SHAPE, dtype=torch.uint8)
    spec = AugmentSpec(ElasticSpec(1.0, 4.0, (1.0, 1.0)), AffineSpec(1.0))
    generator = torch.Generator().manual_seed(3)
    patch, cut = maker(SliceSpec((2,), 1), spec).draw(generator, image, labels, (3.0, 3.5, 4.0), (4, 4, 1))
    assert patch.shape == (3, 4, 4)
    assert cut.shape == (4, 4)
    assert (patch[0] < patch[1]).all()
    assert (patch[1] < patch[2]).all()
    assert patch[1].std() > 0


@pytest.mark.parametrize("settings", [{"axes": ()}, {"axes": (3,)}, {"axes": (1, 1)}, {"context": -1}])
def test_slices_of_no_axis_are_refused(settings: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError):
        SliceSpec(**settings)  # type: ignore[arg-type]
