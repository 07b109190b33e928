"""What a map has within boxes, on a small grid of bins: RoIAlign, RoIPool and position-sensitive pooling.

Boxes lie along the axes, so that each of these is one matrix an axis, applied one after the other: exact,
with gradients, and nothing but products, which every engine runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLES = 2
"""Of a bin along each axis."""


def roi_align(maps: Tensor, boxes: Tensor, bins: Sequence[int], samples: int = SAMPLES) -> Tensor:
    """The mean of a map, interpolated linearly, over each bin of each box.

    Args:
        maps: (C, *S), the map of one image.
        boxes: (R, 2n), in voxels of the map.
        bins: along each of the n axes.
        samples: of a bin along each axis.

    Returns:
        (R, C, *bins). He et al. 2017, arXiv:1703.06870, section 3: no end of a box or bin is rounded, and a
        voxel's value stands at its middle. What lies more than a voxel outside counts as 0.

    >>> roi_align(torch.arange(12.0)[None], torch.tensor([[2.0, 8.0]]), (3,)).tolist()
    [[[2.5, 4.5, 6.5]]]
    """
    first, *rest = axis_weights(boxes, maps.shape[1:], bins, samples)
    found: Tensor = torch.tensordot(first, maps, dims=([2], [1]))  # without a copy of the map a box
    found = found.movedim(1, 2)
    for axis, weight in enumerate(rest, start=1):
        found = _applied(found, weight, axis + 2)
    return found


def roi_pool(maps: Tensor, boxes: Tensor, bins: Sequence[int]) -> Tensor:
    """The largest value of each bin of each box, whose ends are rounded to voxels.

    Args:
        maps: (C, *S).
        boxes: (R, 2n), in voxels of the map.
        bins: along each of the n axes.

    Returns:
        (R, C, *bins); 0 in a bin without a voxel. Girshick 2015, arXiv:1504.08083, section 2.1.
    """
    found = maps[None].expand(len(boxes), *maps.shape)
    empty = torch.zeros((), dtype=torch.bool)
    for axis, (low, high) in enumerate(_ends(boxes.round())):
        inside = _cells(low, high, maps.shape[axis + 1], bins[axis])
        found = _largest(found, inside, axis + 2)
        none = ~inside.any(dim=2)
        empty = empty.unsqueeze(-1) | none.reshape(len(boxes), *(1,) * axis, bins[axis])
    return found.masked_fill(empty.unsqueeze(1), 0.0)


def position_sensitive(
    maps: Tensor, boxes: Tensor, cells: int, finer: int = 1, samples: int = SAMPLES
) -> Tensor:
    """RoIAlign in which every cell of a box has a group of channels of its own.

    Args:
        maps: (cells^n C, *S), the C channels of the first cell first, the last axis of cells running fastest.
        boxes: (R, 2n), in voxels of the map.
        cells: along every axis.
        finer: bins of a cell along every axis.
        samples: of a bin along each axis.

    Returns:
        (R, C, cells finer, ...). Dai et al. 2016, arXiv:1605.06409, equation 1; Li et al. 2017,
        arXiv:1611.07709, section 3.1.
    """
    axes = maps.ndim - 1
    bins = (cells * finer,) * axes
    weights = axis_weights(boxes, maps.shape[1:], bins, samples)
    groups = maps.reshape(*(cells,) * axes, -1, *maps.shape[1:])
    spatial, places, within = "ijk"[:axes], "abd"[:axes], "xyz"[:axes]
    factors = ",".join(f"r{a}{x}{i}" for a, x, i in zip(places, within, spatial, strict=True))
    found = "".join(a + x for a, x in zip(places, within, strict=True))
    split = [weight.reshape(len(boxes), cells, finer, weight.shape[2]) for weight in weights]
    out = torch.einsum(f"{places}c{spatial},{factors}->rc{found}", groups, *split)
    return out.reshape(len(boxes), groups.shape[axes], *bins)


def paste(masks: Tensor, boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps whose boxes hold masks, interpolated linearly between the middles of bins; 0 outside.

    Args:
        masks: (R, *bins).
        boxes: (R, 2n), in voxels of the maps.
        shape: of the maps.

    Returns:
        (R, *shape): a voxel is inside a box if its middle is.
    """
    found = masks.unsqueeze(1)
    ends = zip(_ends(boxes), shape, masks.shape[1:], strict=True)
    for axis, ((low, high), size, bins) in enumerate(ends, start=2):
        middles = torch.arange(size, dtype=low.dtype, device=low.device) + 0.5
        share = (middles - low[:, None]) / (high - low)[:, None]
        at = (share * bins - 0.5).clamp(0, bins - 1)
        columns = torch.arange(bins, dtype=low.dtype, device=low.device)
        tents = (1 - (at[..., None] - columns).abs()).clamp(min=0)
        inside = (share >= 0) & (share < 1)
        found = _applied(found, (tents * inside[..., None]).to(found.dtype), axis)
    return found[:, 0]


def axis_weights(
    boxes: Tensor, shape: Sequence[int], bins: Sequence[int], samples: int = SAMPLES
) -> tuple[Tensor, ...]:
    """For each axis the share (R, bins, size) that a voxel has in a bin's mean."""
    ends = _ends(boxes)
    return tuple(
        _weights(low, high, size, count, samples)
        for (low, high), size, count in zip(ends, shape, bins, strict=True)
    )


def _weights(low: Tensor, high: Tensor, size: int, bins: int, samples: int) -> Tensor:
    """Rows of tent weights, the mean over the samples of a bin."""
    count = bins * samples
    steps = (torch.arange(count, dtype=low.dtype, device=low.device) + 0.5) / count
    at = low[:, None] + (high - low)[:, None] * steps - 0.5
    known = (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)
    voxels = torch.arange(size, dtype=low.dtype, device=low.device)
    tents = (1 - (at[..., None] - voxels).abs()).clamp(min=0) * known[..., None]
    return tents.reshape(len(low), bins, samples, size).mean(dim=2)


def _applied(found: Tensor, weight: Tensor, axis: int) -> Tensor:
    """A matrix (R, bins, size) along one axis of (R, C, ...)."""
    moved = found.movedim(axis, -1)
    flat = moved.reshape(len(found), math.prod(moved.shape[1:-1]), moved.shape[-1])
    product = torch.bmm(flat, weight.transpose(1, 2))
    return product.reshape(*moved.shape[:-1], weight.shape[1]).movedim(-1, axis)


def _ends(boxes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Lower and upper ends along each axis."""
    low, high = boxes.chunk(2, dim=1)
    return list(zip(low.unbind(1), high.unbind(1), strict=True))


def _cells(low: Tensor, high: Tensor, size: int, bins: int) -> Tensor:
    """Whether a voxel lies in a bin, (R, bins, size): bins overlap where a box has no multiple of voxels."""
    length = (high - low).clamp(min=1) / bins
    number = torch.arange(bins, dtype=low.dtype, device=low.device)
    first = low[:, None] + (number * length[:, None]).floor()
    last = low[:, None] + ((number + 1) * length[:, None]).ceil()
    voxels = torch.arange(size, dtype=low.dtype, device=low.device)
    return (voxels >= first[..., None]) & (voxels < last[..., None])


def _largest(found: Tensor, inside: Tensor, axis: int) -> Tensor:
    """The largest value along one axis of (R, C, ...) within each bin of (R, bins, size)."""
    moved = found.movedim(axis, -1)
    shape = (len(inside), *(1,) * (moved.ndim - 2), *inside.shape[1:])
    kept = moved.unsqueeze(-2).masked_fill(~inside.reshape(shape), -torch.inf)
    return kept.amax(dim=-1).movedim(-1, axis)
