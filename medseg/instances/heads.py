"""Heads of networks that find objects: at every point of a pyramid, and of what lies within a box.

References:
    Lin et al. 2017, arXiv:1708.02002 (RetinaNet), figure 3; Tian et al. 2019, arXiv:1904.01355 (FCOS),
    figure 2; He et al. 2017, arXiv:1703.06870 (Mask R-CNN), figure 4; Chen et al. 2020, arXiv:2001.00309
    (BlendMask), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medseg.networks.layers import TRANSPOSED, Enlarge, PerAxis
from medseg.networks.parts import Maps, Style, halved, summed

PRIOR = -math.log(99.0)
"""Logit of 0.01, the share of points that show an object before anything is learnt (RetinaNet, 4.1)."""


class Dense(NamedTuple):
    """What a head says at every point of a level, or of every anchor there.

    Attributes:
        scores: logits (B, A K, *S), the classes of an anchor behind one another.
        boxes: (B, A 2n, *S).
        centre: logit (B, A, *S) of how near the point lies to the middle of its box; None without.
        more: further numbers (B, E, *S); None without.
    """

    scores: Tensor
    boxes: Tensor
    centre: Tensor | None = None
    more: Tensor | None = None

    def float(self) -> Dense:
        """The same numbers as float32."""
        centre, more = (part if part is None else part.float() for part in (self.centre, self.more))
        return Dense(self.scores.float(), self.boxes.float(), centre, more)


class DenseHead(nn.Module):
    """Scores and boxes at every point, by the same convolutions on each level.

    Args:
        style: of the convolutions; their norm is that of the style.
        width: channels of the maps.
        classes: K.
        anchors: A, boxes at each point.
        depth: convolutions before the last, of scores and of boxes each.
        centre: whether the branch of boxes says how near the middle a point lies.
        more: further numbers of the branch of boxes.
        shared: whether boxes are said of the same convolutions as scores, by layers of one voxel, as those
            of proposals are.
    """

    def __init__(
        self,
        style: Style,
        width: int,
        classes: int,
        *,
        anchors: int = 1,
        depth: int = 4,
        centre: bool = False,
        more: int = 0,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.classify = nn.Sequential(*(style.unit(width, width, bias=True) for _ in range(depth)))
        units = (style.unit(width, width, bias=True) for _ in range(depth))
        self.place = None if shared else nn.Sequential(*units)
        kernel = 1 if shared else 3
        self.scores = style.conv(width, anchors * classes, kernel)
        self.boxes = style.conv(width, anchors * 2 * style.spatial_dims, kernel)
        self.centre = style.conv(width, anchors, 3) if centre else None
        self.more = style.conv(width, more, 3) if more else None
        self.begin()

    def begin(self, prior: float = PRIOR) -> None:
        """Weights of the last layers so small that every point begins with the prior.

        Args:
            prior: logit of every score; 0 where scores are not each by itself.
        """
        for last in (self.scores, self.boxes, self.centre, self.more):
            if last is not None:
                nn.init.normal_(last.weight, std=0.01)  # type: ignore[arg-type]
        nn.init.constant_(self.scores.bias, prior)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Dense]:
        return [self.level(x) for x in maps]

    def level(self, x: Tensor) -> Dense:
        seen = self.classify(x)
        place = seen if self.place is None else self.place(x)
        further = (None if head is None else head(place) for head in (self.centre, self.more))
        return Dense(self.scores(seen), self.boxes(place), *further)


class Bases(nn.Module):
    """A few maps of the whole image, of which every object's mask is a mixture (BlendMask, section 3.2).

    They have twice the resolution of the pyramid's finest map, where that has a stride of 4 or more.

    Args:
        style: of the convolutions.
        maps: of a pyramid; all are brought to the finest and added.
        count: of the maps.
        head: channels in between.
    """

    def __init__(self, style: Style, maps: Maps, *, count: int = 4, head: int = 128) -> None:
        super().__init__()
        self.refine = nn.ModuleList(style.unit(w, head) for w in maps.widths)
        self.enlarge = nn.ModuleList(
            nn.Sequential(*(Enlarge(step, "linear") for step in halved(maps.factor(n, 0))))
            for n in range(len(maps.widths))
        )
        finest = maps.strides[0]
        twice: PerAxis = tuple(2 if s % 4 == 0 else 1 for s in finest)
        self.tower = nn.Sequential(
            *(style.unit(head, head) for _ in range(3)),
            Enlarge(twice, "linear"),
            style.unit(head, head),
            style.conv(head, count),
        )
        self.stride: PerAxis = tuple(s // t for s, t in zip(finest, twice, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The maps (B, count, *S / stride)."""
        steps = zip(self.refine, self.enlarge, maps, strict=True)
        out: Tensor = self.tower(summed(enlarge(refine(x)) for refine, enlarge, x in steps))
        return out


class BoxHead(nn.Module):
    """Class and box of what lies in a box (Mask R-CNN, figure 4).

    Args:
        style: of the convolutions.
        width: channels of what was pooled.
        bins: of each axis.
        classes: K; the background is a further one.
        hidden: channels of the full connections.
        convs: convolutions before.
        full: full connections; 0 for two, or for one after convolutions.
    """

    def __init__(
        self,
        style: Style,
        width: int,
        bins: PerAxis,
        classes: int,
        *,
        hidden: int = 1024,
        convs: int = 0,
        full: int = 0,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(style.unit(width, width) for _ in range(convs)))
        sizes = [width * math.prod(bins), *[hidden] * (full or (1 if convs else 2))]
        linear = (nn.Linear(a, b) for a, b in pairwise(sizes))
        self.full = nn.Sequential(*(part for one in linear for part in (one, nn.ReLU())))
        self.scores = nn.Linear(hidden, classes + 1)
        self.boxes = nn.Linear(hidden, (classes + 1) * 2 * style.spatial_dims)

    def begin(self) -> None:
        """Weights of the last layers so small that no class leads and no box moves (Fast R-CNN, 3.1)."""
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.boxes.weight, std=0.001)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1), the background first, and offsets (R, K + 1, 2n), of what was pooled."""
        x = self.full(self.convs(pooled).flatten(1))
        scores = self.scores(x)
        return scores, self.boxes(x).reshape(*scores.shape, -1)


class MaskHead(nn.Module):
    """A mask for each class of what lies in a box, at twice the bins (Mask R-CNN, figure 4).

    Args:
        style: of the convolutions.
        width: channels of what was pooled.
        classes: of the masks.
        convs: convolutions before the enlargement.
    """

    def __init__(self, style: Style, width: int, classes: int, *, convs: int = 4) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(style.unit(width, width) for _ in range(convs)))
        self.enlarge = TRANSPOSED[style.spatial_dims](width, width, 2, stride=2)
        self.score = style.conv(width, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits (R, classes, *2 bins) of (R, width, *bins)."""
        out: Tensor = self.score(torch.relu(self.enlarge(self.convs(pooled))))
        return out


def flat(maps: Tensor, numbers: int) -> Tensor:
    """What a head says at every point: (B, A C, *S) as (B, S A, C), the last axis of S running fastest.

    Args:
        maps: of one level.
        numbers: C, of each anchor.
    """
    of_each = maps.reshape(len(maps), maps.shape[1] // numbers, numbers, -1)
    return of_each.permute(0, 3, 1, 2).flatten(1, 2)
