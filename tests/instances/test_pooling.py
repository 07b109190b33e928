"""What a map has within boxes: against sampling point by point, and against torchvision."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional

from medseg.instances.pooling import position_sensitive, roi_align, roi_pool


def drawn(seed: int, channels: int, shape: tuple[int, ...], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    low = draw.uniform(-3, np.array(shape), (count, len(shape)))
    boxes = np.concatenate((low, low + draw.uniform(0.2, 8, low.shape)), axis=1)
    return torch.tensor(draw.normal(size=(channels, *shape))), torch.tensor(boxes)


def point_by_point(
    maps: torch.Tensor, box: torch.Tensor, bins: tuple[int, ...], samples: int
) -> torch.Tensor:
    """The mean over samples of each bin, each interpolated by `grid_sample` on its own."""
    axes, shape = maps.ndim - 1, torch.tensor(maps.shape[1:])
    low, high = box[:axes], box[axes:]
    out = torch.zeros(maps.shape[0], *bins, dtype=maps.dtype)
    for cell in product(*map(range, bins)):
        total = torch.zeros(maps.shape[0], dtype=maps.dtype)
        for step in product(range(samples), repeat=axes):
            share = (torch.tensor(cell) + (torch.tensor(step).double() + 0.5) / samples) / torch.tensor(bins)
            at = low + (high - low) * share - 0.5
            if ((at < -1) | (at > shape)).any():
                continue
            at = torch.minimum(at.clamp(min=0), shape - 1)
            grid = (2 * at / (shape - 1).clamp(min=1) - 1).flip(0).reshape(1, *(1,) * axes, axes)
            total += functional.grid_sample(maps[None], grid, align_corners=True).flatten()
        out[(slice(None), *cell)] = total / samples**axes
    return out


@pytest.mark.parametrize(("shape", "bins"), [((9, 7), (3, 2)), ((6, 8, 5), (2, 3, 2))])
def test_roi_align_is_the_mean_of_samples(shape: tuple[int, ...], bins: tuple[int, ...]) -> None:
    maps, boxes = drawn(0, 3, shape, 12)
    expected = torch.stack([point_by_point(maps, box, bins, 2) for box in boxes])
    torch.testing.assert_close(roi_align(maps, boxes, bins), expected, atol=1e-12, rtol=1e-12)


def test_roi_align_of_a_slope_is_the_slope_at_the_middle_of_bins() -> None:
    line = torch.arange(12.0)[:, None, None].expand(12, 10, 8)[None]
    found = roi_align(line, torch.tensor([[2.0, 2.0, 2.0, 8.0, 6.0, 6.0]]), (3, 2, 2))
    assert found[0, 0, :, 0, 0].tolist() == [2.5, 4.5, 6.5]
    assert torch.equal(found, found[:, :, :, :1, :1].expand_as(found))


def test_pooling_has_gradients_for_maps_and_boxes() -> None:
    maps, boxes = drawn(1, 2, (6, 6, 6), 3)
    maps.requires_grad_(True)
    inner = torch.tensor([[1.2, 1.1, 1.3, 4.4, 4.7, 4.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, b: roi_align(m, b, (2, 2, 2)), (maps, inner))
    roi_pool(maps, boxes, (2, 2, 2)).sum().backward()
    assert maps.grad is not None


@pytest.mark.parametrize("shape", [(9, 8), (7, 6, 5)])
def test_position_sensitive_pooling_takes_each_bin_from_its_own_channels(shape: tuple[int, ...]) -> None:
    axes, channels = len(shape), 2
    maps, boxes = drawn(2, 2**axes * channels, shape, 5)
    found = position_sensitive(maps, boxes, 2)
    for n, cell in enumerate(product(range(2), repeat=axes)):
        every = roi_align(maps[n * channels : (n + 1) * channels], boxes, (2,) * axes)
        at = (slice(None), slice(None), *cell)
        torch.testing.assert_close(found[at], every[at])


def test_roi_pool_is_the_largest_of_rounded_cells() -> None:
    maps = torch.arange(36.0).reshape(1, 6, 6)
    found = roi_pool(maps, torch.tensor([[0.4, 1.0, 3.6, 5.0], [8.0, 8.0, 9.0, 9.0]]), (2, 2))
    assert found[0, 0].tolist() == [[8, 10], [20, 22]]
    assert not found[1].any()


def test_pooling_equals_torchvision() -> None:
    try:
        from torchvision import ops
    except (ImportError, RuntimeError):  # not installed, or without its compiled part
        pytest.skip("torchvision has no operators here")
    maps, boxes = drawn(3, 4, (16, 12), 30)
    boxes = boxes.abs()
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:]) + 0.1
    boxes = torch.cat((low, high), dim=1)
    theirs = boxes[:, [1, 0, 3, 2]]
    aligned = ops.roi_align(maps[None], [theirs], (3, 3), sampling_ratio=2, aligned=True)
    torch.testing.assert_close(roi_align(maps, boxes, (3, 3)), aligned)
    rounded = boxes.round()
    rounded[:, 2:] = torch.maximum(rounded[:, 2:], rounded[:, :2] + 1)
    closed = rounded[:, [1, 0, 3, 2]] - torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(roi_pool(maps, rounded, (3, 3)), ops.roi_pool(maps[None], [closed], (3, 3)))
    groups, _ = drawn(4, 9 * 4, (16, 12), 1)
    channels_first = groups.reshape(9, 4, 16, 12).transpose(0, 1).reshape(1, 36, 16, 12)
    sensitive = ops.ps_roi_align(channels_first, [theirs], 3, sampling_ratio=2)
    torch.testing.assert_close(position_sensitive(groups, boxes, 3), sensitive)
