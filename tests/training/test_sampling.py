"""Patches: inside the volume, near foreground as often as asked, every structure in its turn."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Generator, Tensor

from medseg.augment import warp
from medseg.core.errors import UsageError
from medseg.core.structures import IGNORED
from medseg.training import sampling
from medseg.training.sampling import PatchSampler


def labels_with(*spots: tuple[int, tuple[slice, ...]], shape: tuple[int, ...] = (24, 20, 30)) -> Tensor:
    labels = torch.zeros(shape, dtype=torch.uint8)
    for value, box in spots:
        labels[box] = value
    return labels


LARGE = (1, (slice(2, 14), slice(2, 14), slice(2, 14)))
SMALL = (2, (slice(20, 21), slice(18, 19), slice(27, 29)))
TWO = labels_with(LARGE, SMALL)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def box_of(centre: tuple[float, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    """The voxels the augmenter cuts for a centre."""
    return tuple(slice(s, s + n) for s, n in zip(warp.patch_start(centre, patch), patch, strict=True))


def share_with_foreground(sampler: PatchSampler, labels: Tensor, draws: int = 1500) -> float:
    generator = seeded()
    hits = sum(
        bool(labels[box_of(sampler.draw(0, generator).centre, sampler.patch)].any()) for _ in range(draws)
    )
    return hits / draws


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("patch", [(8, 8, 8), (9, 20, 7), (1, 1, 1)])
def test_patches_lie_inside_the_volume(share: float, patch: tuple[int, int, int]) -> None:
    sampler, generator = PatchSampler([TWO], patch, share), seeded()
    for _ in range(300):
        for cut, size in zip(box_of(sampler.draw(0, generator).centre, patch), TWO.shape, strict=True):
            assert cut.start >= 0
            assert cut.stop <= size


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_patch_larger_than_the_volume_is_centred_on_it(share: float) -> None:
    patch = (31, 8, 40)
    sampler, generator = PatchSampler([TWO], patch, share), seeded()
    for _ in range(50):
        i, _, k = sampler.draw(0, generator).centre
        assert (i, k) == (11.5, 14.5)
        start = warp.patch_start((i, 0, k), patch)
        for s, p, n in zip((start[0], start[2]), (31, 40), (24, 30), strict=True):
            assert abs((-s) - (s + p - n)) <= 1  # as much is missing on either side


def test_a_foreground_patch_always_holds_foreground() -> None:
    for patch in ((6, 6, 6), (5, 7, 3), (1, 1, 1), (20, 20, 20)):
        assert share_with_foreground(PatchSampler([TWO], patch, 1.0), TWO, 400) == 1.0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_foreground_patches_is_kept(share: float) -> None:
    """A patch not drawn for its foreground may still hold some: b of them, found with a share of 0."""
    rare = labels_with(SMALL)
    by_chance = share_with_foreground(PatchSampler([rare], (5, 5, 5), 0.0), rare)
    found = share_with_foreground(PatchSampler([rare], (5, 5, 5), share), rare)
    assert found == pytest.approx(share + (1 - share) * by_chance, abs=4 * math.sqrt(0.25 / 1500))


def test_small_structures_get_as_many_patches_as_large_ones() -> None:
    sampler, generator = PatchSampler([TWO], (3, 3, 3), 1.0), seeded()
    held: Counter[int] = Counter()
    for _ in range(1000):
        held.update(torch.unique(TWO[box_of(sampler.draw(0, generator).centre, (3, 3, 3))]).tolist())
    assert held[1] == pytest.approx(500, abs=65)
    assert held[2] == pytest.approx(500, abs=65)
    assert held[1] + held[2] == 1000


def test_every_voxel_of_a_structure_can_be_drawn() -> None:
    line = labels_with((1, (slice(10, 11), slice(10, 11), slice(5, 25))))
    sampler, generator = PatchSampler([line], (1, 1, 1), 1.0), seeded()
    drawn = {round(sampler.draw(0, generator).centre[2]) for _ in range(600)}
    assert drawn == set(range(5, 25))


def test_a_structure_of_many_voxels_is_thinned_over_its_whole_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_POSITIONS", 10)
    sampler = PatchSampler([labels_with((1, (slice(5, 6), slice(5, 6), slice(2, 27))))], (1, 1, 1), 1.0)
    (kept,) = sampler.positions[0]
    assert len(kept) <= 10
    assert kept[:, 2].min() == 2
    assert kept[:, 2].max() >= 23


def test_a_case_without_foreground_is_cut_anywhere() -> None:
    empty = labels_with()
    sampler, generator = PatchSampler([empty], (4, 4, 4), 1.0), seeded()
    centres = torch.tensor([sampler.draw(0, generator).centre for _ in range(400)])
    # The first and the last place along every axis come up, and so do those between.
    for axis, size in enumerate(empty.shape):
        assert centres[:, axis].min() == pytest.approx(1.5)
        assert centres[:, axis].max() == pytest.approx(size - 2.5)
        assert len(torch.unique(centres[:, axis].round())) > size // 2


def test_no_case_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="without a case"):
        PatchSampler([], (4, 4, 4), 0.5)


@pytest.mark.parametrize("count", [1, 5, 12, 23])
def test_every_case_comes_once_before_any_comes_twice(count: int) -> None:
    sampler = PatchSampler([TWO] * 5, (4, 4, 4), 0.5)
    order = sampler.order(count, seeded())
    assert len(order) == count
    for start in range(0, count, 5):
        part = order[start : start + 5]
        assert len(set(part)) == len(part)
    if count >= 5:
        assert set(order[:5]) == set(range(5))


def test_orders_differ_from_round_to_round() -> None:
    order = PatchSampler([TWO] * 8, (4, 4, 4), 0.5).order(32, seeded())
    assert len({tuple(order[n : n + 8]) for n in range(0, 32, 8)}) > 1


def test_the_generators_state_decides_everything() -> None:
    sampler = PatchSampler([TWO, TWO], (6, 6, 6), 0.5)
    first, again, other = (
        [sampler.draw(1, generator) for _ in range(20)] for generator in (seeded(3), seeded(3), seeded(4))
    )
    assert first == again
    assert first != other
    assert {patch.case for patch in first} == {1}


def test_drawing_takes_as_many_numbers_whatever_comes_of_it() -> None:
    """Foreground or not, the generator is left in the same state, so cases do not disturb each other."""
    states = []
    for labels, share in ((TWO, 1.0), (TWO, 0.0), (labels_with(), 1.0)):
        generator = seeded()
        PatchSampler([labels], (4, 4, 4), share).draw(0, generator)
        states.append(generator.get_state())
    assert all(torch.equal(states[0], other) for other in states[1:])


@pytest.mark.fault("reports 28")
def test_of_a_case_labelled_in_part_every_patch_is_cut_near_a_labelled_voxel() -> None:
    labels = torch.full((40, 40, 40), IGNORED, dtype=torch.uint8)
    labels[30, 8:12, 20] = 0
    labels[5, 5, 5] = 1
    sampler = PatchSampler([labels], (8, 8, 8), foreground_share=0.5)
    generator = Generator().manual_seed(0)
    known = torch.nonzero(labels != IGNORED).float()
    near = []
    for _ in range(200):
        centre = torch.tensor(sampler.draw(0, generator).centre)
        distances = (known - centre).abs().amax(1)
        assert distances.min() <= 2
        near.append(int(distances.argmin()))
    assert set(near) == {0, 1, 2, 3, 4}
    assert near.count(0) > 100, "the one of a structure oftener than each of the background"


@pytest.mark.fault("reports 28")
def test_a_case_of_which_nothing_is_labelled_has_no_patch() -> None:
    with pytest.raises(UsageError, match="without a labelled voxel"):
        PatchSampler([torch.full((8, 8, 8), IGNORED, dtype=torch.uint8)], (4, 4, 4), 0.5)
