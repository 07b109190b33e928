"""Where on the maps of a pyramid an object is looked for: points and anchors, and which of them learn it.

References:
    Lin et al. 2017, arXiv:1708.02002 (RetinaNet), section 4; Zhang et al. 2020, arXiv:1912.02424 (ATSS),
    algorithm 1; Tian et al. 2019, arXiv:1904.01355 (FCOS), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from medseg.instances.boxes import pairwise_iou
from medseg.networks.parts import Maps

NOTHING, LEFT_OUT = -1, -2
"""In the place of an object's number: what is background, and what learns neither."""


def looked_at(pyramid: Maps, levels: int) -> tuple[int, ...]:
    """The levels of a pyramid on which objects are looked for: the coarsest ones."""
    return tuple(range(len(pyramid.widths)))[-levels:]


def points(shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """The middle of each cell of a map, in voxels of the image.

    Args:
        shape: of the map.
        stride: voxels of the image from a cell to the next, along each axis.

    Returns:
        (cells, n), the last axis running fastest.

    >>> points((2, 1), (4, 2)).tolist()
    [[2.0, 1.0], [6.0, 1.0]]
    """
    sides = zip(shape, stride, strict=True)
    axes = [(torch.arange(n, dtype=torch.float32) + 0.5) * step for n, step in sides]
    return torch.stack([axis.reshape(-1) for axis in torch.meshgrid(*axes, indexing="ij")], dim=1)


def anchors(places: Tensor, sizes: Sequence[Sequence[float]]) -> Tensor:
    """A box of each size around each point.

    Args:
        places: (P, n).
        sizes: of the boxes, S of them, in voxels of the image.

    Returns:
        (P S, 2n): the boxes of the first point first.
    """
    half = torch.tensor(sizes, dtype=places.dtype) / 2
    middle = places[:, None]
    return torch.cat((middle - half, middle + half), dim=2).reshape(-1, 2 * places.shape[1])


def anchor_sizes(
    longest: float, relative: Sequence[float], aspects: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Sizes of anchors of one level: each aspect, scaled to a volume, at each relative size.

    Args:
        longest: side of a cube, in voxels of the image, along the axes of which the aspects are.
        relative: sizes over it, such as 1, 2^(1/3) and 2^(2/3).
        aspects: n numbers each, of which the product is made 1.

    >>> anchor_sizes(8.0, [1.0], [[1.0, 4.0]])
    [[4.0, 16.0]]
    """
    found = []
    for size, aspect in product(relative, aspects):
        volume = 1.0
        for side in aspect:
            volume *= side
        found.append([longest * size * side / volume ** (1 / len(aspect)) for side in aspect])
    return found


def by_iou(given: Tensor, boxes: Tensor, low: float, high: float, *, keep_best: bool = True) -> Tensor:
    """The object that each anchor learns: that which it overlaps most, if far enough.

    Args:
        given: anchors (A, 2n).
        boxes: of the objects, (B, 2n).
        low: IoU below which an anchor learns background.
        high: IoU from which it learns the object; in between it is left out.
        keep_best: the anchors that overlap an object most learn it, however little that is.

    Returns:
        Numbers (A,) of objects, `NOTHING` or `LEFT_OUT`.
    """
    if not len(boxes):
        return torch.full((len(given),), NOTHING)
    overlap = pairwise_iou(given, boxes)
    most, found = overlap.max(dim=1)
    found = torch.where(most >= high, found, torch.where(most < low, NOTHING, LEFT_OUT))
    if keep_best:
        best = overlap.amax(dim=0)
        at, of = torch.nonzero((overlap == best) & (best > 0), as_tuple=True)
        order = torch.argsort(overlap[at, of], stable=True)
        found[at[order]] = of[order]
    return found


def adaptive(levels: Sequence[Tensor], boxes: Tensor, nearest: int = 9) -> Tensor:
    """The object that each anchor learns, by adaptive training sample selection (ATSS).

    Of each level, the anchors with the nearest middles are candidates; those learn an object whose IoU with
    it is at least the mean of the candidates' plus their standard deviation, and whose middle lies within. Of
    several objects an anchor learns that which it overlaps most.

    Args:
        levels: anchors (A_l, 2n) of each level.
        boxes: of the objects, (B, 2n).
        nearest: candidates of a level; 9 in images, 4 in volumes (Baumgartner et al. 2021, arXiv:2106.00817).

    Returns:
        Numbers (A,) of objects, or `NOTHING`, of all levels in order.
    """
    given = torch.cat(list(levels))
    if not len(boxes):
        return torch.full((len(given),), NOTHING)
    overlap, middles = pairwise_iou(given, boxes), _middles(given)
    distance = torch.cdist(middles, _middles(boxes))
    candidate = torch.zeros_like(overlap, dtype=torch.bool)
    start = 0
    for level in levels:
        near = distance[start : start + len(level)].topk(min(nearest, len(level)), dim=0, largest=False)
        candidate[start + near.indices, torch.arange(len(boxes))] = True
        start += len(level)
    count = candidate.sum(dim=0)
    mean = (overlap * candidate).sum(dim=0) / count
    spread = (((overlap - mean) ** 2 * candidate).sum(dim=0) / (count - 1).clamp(min=1)).sqrt()
    low, high = boxes.chunk(2, dim=1)
    within = ((middles[:, None] > low) & (middles[:, None] < high)).all(dim=2)
    taken = torch.where(candidate & within & (overlap >= mean + spread), overlap, -1.0)
    most, found = taken.max(dim=1)
    return torch.where(most >= 0, found, NOTHING)


def by_centre(
    levels: Sequence[Tensor],
    strides: Sequence[float],
    boxes: Tensor,
    ranges: Sequence[tuple[float, float]],
    radius: float = 1.5,
) -> Tensor:
    """The object that each point learns, as FCOS has it: near its middle, on the level of its size.

    Args:
        levels: points (P_l, n) of each level.
        strides: voxels of the image from a point of a level to the next.
        boxes: of the objects, (B, 2n).
        ranges: of each level, from which up to which largest distance to a face it learns.
        radius: in strides, around the middle of a box, in which its points lie.

    Returns:
        Numbers (P,) of objects, or `NOTHING`; of several objects that of the smallest box.
    """
    if not len(boxes):
        return torch.full((sum(map(len, levels)),), NOTHING)
    low, high = boxes.chunk(2, dim=1)
    volumes, middles = (high - low).prod(dim=1), _middles(boxes)
    found = []
    for places, stride, (least, most) in zip(levels, strides, ranges, strict=True):
        faces = torch.cat((places[:, None] - low, high - places[:, None]), dim=2)
        largest = faces.amax(dim=2)
        near = ((places[:, None] - middles).abs() <= radius * stride).all(dim=2)
        fits = (faces.amin(dim=2) > 0) & near & (largest >= least) & (largest < most)
        costs = torch.where(fits, volumes, torch.inf)
        smallest, of = costs.min(dim=1)
        found.append(torch.where(torch.isfinite(smallest), of, NOTHING))
    return torch.cat(found)


def sampled(learns: Tensor, count: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Numbers of anchors of which a loss is the mean: a share of objects at most, the rest background.

    Args:
        learns: (A,), as a matching gives it.
        count: how many at most.
        share: of them that learn objects, at most.
        generator: of the choice.

    Ren et al. 2015, arXiv:1506.01497, section 3.1.3: 256 of an image, half of them objects.
    """
    objects, rest = torch.nonzero(learns >= 0).flatten(), torch.nonzero(learns == NOTHING).flatten()
    kept = objects[torch.randperm(len(objects), generator=generator)[: int(count * share)]]
    others = rest[torch.randperm(len(rest), generator=generator)[: count - len(kept)]]
    return torch.cat((kept, others))


def hardest(losses: Tensor, learns: Tensor, count: int) -> Tensor:
    """Numbers of the boxes (A,) of the highest losses (A,), `count` at most, without those left out.

    Shrivastava et al. 2016, arXiv:1604.03540, section 4.
    """
    usable = torch.nonzero(learns != LEFT_OUT).flatten()
    return usable[losses[usable].topk(min(count, len(usable))).indices]


def centreness(distances: Tensor) -> Tensor:
    """How near a point lies to the middle of its box, in [0, 1], from its distances (N, 2n) to the faces.

    Tian et al. 2019, equation 3, with a product over all axes and the square root as there.

    >>> round(float(centreness(torch.tensor([[1.0, 2.0, 3.0, 2.0]]))), 4)
    0.5774
    """
    low, high = distances.chunk(2, dim=1)
    return (torch.minimum(low, high) / torch.maximum(low, high)).prod(dim=1).sqrt()


def _middles(boxes: Tensor) -> Tensor:
    low, high = boxes.chunk(2, dim=1)
    return (low + high) / 2
