"""Objects in two stages: boxes are proposed, and what lies in each says its class, its box and its mask.

Girshick 2015, arXiv:1504.08083 (Fast R-CNN); Ren et al. 2015, arXiv:1506.01497 (Faster R-CNN); He et al.
2017, arXiv:1703.06870 (Mask R-CNN). What differs between the networks of this family is a `Regions`: what is
said of a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.instances.anchored import Matching
from medseg.instances.anchors import LEFT_OUT, NOTHING, by_iou, hardest, sampled
from medseg.instances.boxes import clipped, decode, encode
from medseg.instances.choice import Choice, Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.heads import Dense
from medseg.instances.label_masks import LabelMasks
from medseg.instances.losses import mask_loss, smooth_l1
from medseg.instances.objects import Objects, shares_of
from medseg.instances.pooling import roi_align
from medseg.instances.proposals import Proposals
from medseg.model.spec import Norm
from medseg.networks.layers import PerAxis
from medseg.networks.parts import Maps, Style

TAUGHT, SHARE = 64, 0.25
"""Boxes of a patch that learn at a step, and the share of objects among them (Fast R-CNN, section 2.3)."""
LEAST_IOU = {2: 0.5, 3: 0.3}
"""With an object, from which a box learns it; less in volumes, where an overlap is the product of three."""
SHIFT_WEIGHT, GROWTH_WEIGHT = 10.0, 5.0
"""Offsets are learnt times these, so that they vary as much as scores do (Fast R-CNN's code)."""
FINEST_SIDE = 14.0
"""Strides of the finest level from which twice an object is looked at on the next: 224 pixels at a stride of
16 in the paper (FPN, equation 1)."""


class Patch(NamedTuple):
    """What one patch of a batch has that boxes are cut from.

    Attributes:
        pyramid: maps (W, *S / stride).
        more: the further map (M, *S / stride) of a `Regions`; of no channels without.
    """

    pyramid: list[Tensor]
    more: Tensor


class Regions(Protocol):
    """What is said of boxes (R, 2n) of a patch."""

    masked: bool
    """Whether it says masks."""
    rounds: int
    """How often boxes are placed anew by what was said of them."""

    def begin(self) -> None:
        """Weights before anything is learnt, where they are not those of other layers."""

    def say(self, pyramid: list[Tensor]) -> Tensor | None:
        """The further map of a batch."""

    def classify(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1), the background first, and offsets (R, K + 1, 2n)."""

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        """Logits (R, *bins) of the masks of the boxes' classes (R,), from 0."""


class RegionFinder(nn.Module):
    """Proposals, and what is said of each; see the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        regions: what is said of boxes.
        levels: of the pyramid on which boxes are proposed, the coarsest ones.
        depth: convolutions of the proposals' head.
        head_norm: of the proposals' head.
        matching: how anchors are chosen: "adaptive", "iou", or "" by the number of axes.
        proposed: boxes of a patch.
        hardest: whether the boxes of the highest loss learn, and not such as are drawn (Shrivastava et al.
            2016, arXiv:1604.03540).
        bins: of a mask that is taken from the label map, along each axis.
    """

    def __init__(
        self,
        style: Style,
        pyramid: Maps,
        classes: int,
        regions: Regions,
        *,
        levels: int = 3,
        depth: int = 1,
        head_norm: Norm = "none",
        matching: Matching = "",
        proposed: int = 100,
        hardest: bool = False,
        bins: int = 12,
    ) -> None:
        super().__init__()
        self.proposals = Proposals(
            style, pyramid, levels=levels, depth=depth, head_norm=head_norm, matching=matching
        )
        self.regions = regions
        self.axes = style.spatial_dims
        self.proposed = proposed
        self.hardest = hardest
        self.labels = LabelMasks(bins)

    def begin(self) -> None:
        self.proposals.begin()
        self.regions.begin()

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        return self.proposals(pyramid), self.regions.say(pyramid)

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """The losses of both stages."""
        boxes = self.proposals.propose(outputs.dense, outputs.shape, self.proposed)
        taught = [
            self._taught(patch_of(outputs, n), boxes[n], lesson.codes[n], objects)
            for n, objects in enumerate(lesson.objects)
        ]
        scores, placed, masks = (torch.cat(part) for part in zip(*taught, strict=True))
        first = self.proposals.teach(outputs.dense, lesson.objects)
        second = (scores.sum() + placed.sum()) / max(1, len(scores))
        return first + second + (masks.mean() if len(masks) else masks.sum())

    def _taught(
        self, patch: Patch, proposed: Tensor, codes: Tensor, objects: Objects
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one patch: losses of each box's class, of each box's place, and of each mask."""
        boxes = torch.cat((proposed, objects.boxes.to(proposed.device)))
        learns = learnt_by(boxes, objects, LEAST_IOU[self.axes])
        kept = self._chosen(patch, boxes, learns, objects)
        boxes, learns = boxes[kept], learns[kept]
        scores, placed = self._losses(patch, boxes, learns, objects)
        own = torch.nonzero(learns >= 0).flatten()
        masks = placed.new_zeros(0)
        if self.regions.masked and len(own):
            at = learns[own]
            said = self.regions.masks(patch, boxes[own], objects.classes.to(at.device)[at])
            known = [int(objects.codes[n]) for n in at.tolist()]
            masks = mask_loss(said, shares_of(codes, known, boxes[own], said.shape[-1]))
        return scores, placed, masks

    def _chosen(self, patch: Patch, boxes: Tensor, learns: Tensor, objects: Objects) -> Tensor:
        """The numbers of the boxes that learn."""
        if not self.hardest:
            return sampled(learns, TAUGHT, SHARE)
        with torch.no_grad():
            scores, placed = self._losses(patch, boxes, learns, objects)
        return hardest(scores + placed, learns, TAUGHT)

    def _losses(self, patch: Patch, boxes: Tensor, learns: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
        """Of each box: the cross-entropy of its class, and the loss of its place, 0 for background."""
        own = torch.nonzero(learns >= 0).flatten()
        at = learns[own]
        classes = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        classes[own] = objects.classes.to(at.device)[at] + 1
        scores, offsets = self.regions.classify(patch, boxes)
        wanted = encode(objects.boxes.to(at.device)[at], boxes[own]) * _weights(boxes)
        placed = smooth_l1(offsets[own, classes[own]], wanted)
        entropy = functional.cross_entropy(scores, classes, reduction="none")
        return entropy, torch.zeros_like(entropy).index_put((own,), placed)

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        boxes = self.proposals.propose(outputs.dense, outputs.shape, self.proposed)
        return [self._found(outputs, n, one, choice) for n, one in enumerate(boxes)]

    def _found(self, outputs: Outputs, n: int, boxes: Tensor, choice: Choice) -> list[Instance]:
        """The objects of patch n, of the boxes proposed there."""
        if not len(boxes):
            return []
        patch = patch_of(outputs, n)
        scores, offsets = self.regions.classify(patch, boxes)
        for _ in range(self.regions.rounds - 1):
            best = scores[:, 1:].argmax(dim=1) + 1
            moved = decode(offsets[torch.arange(len(best)), best] / _weights(boxes), boxes)
            boxes = clipped(moved, outputs.shape)
            scores, offsets = self.regions.classify(patch, boxes)
        at, classes, sure = choice.surest(torch.softmax(scores, dim=1)[:, 1:])
        placed = decode(offsets[at, classes + 1] / _weights(boxes), boxes[at])
        found = choice.kept(Found(placed, sure, classes, sure.new_zeros(len(sure), 0)), outputs.shape)
        return self.masked(outputs, n, found)

    def masked(self, outputs: Outputs, n: int, found: Found) -> list[Instance]:
        """The objects of patch n with their masks."""
        if not self.regions.masked or not len(found.scores):
            return self.labels.instances(outputs, n, found)
        masks = torch.sigmoid(self.regions.masks(patch_of(outputs, n), found.boxes, found.classes))
        rows = zip(found.boxes, found.classes.tolist(), found.scores.tolist(), masks, strict=True)
        return [Instance(*row) for row in rows]


def patch_of(outputs: Outputs, n: int) -> Patch:
    """Patch n of a batch."""
    return Patch([x[n] for x in outputs.pyramid], outputs.more[n])


def learnt_by(boxes: Tensor, objects: Objects, least: float) -> Tensor:
    """The object (R,) that each box learns: `NOTHING` for background, `LEFT_OUT` for one that was cut."""
    found = by_iou(boxes, objects.boxes.to(boxes.device), least, least, keep_best=False)
    cut = torch.nonzero(~objects.whole).flatten().to(found.device)
    return torch.where(torch.isin(found, cut), LEFT_OUT, found) if len(objects) else found.fill_(NOTHING)


def pooled(patch: Patch, strides: Sequence[PerAxis], boxes: Tensor, bins: Sequence[int]) -> Tensor:
    """RoIAlign (R, W, *bins) of boxes, each on the level of its size (FPN, equation 1).

    Args:
        patch: whose pyramid is cut.
        strides: of the levels, per axis.
        boxes: (R, 2n), in voxels of the patch.
        bins: along each axis.
    """
    level = level_of(boxes, strides)
    parts, order = [], []
    for n, stride in enumerate(strides):
        rows = torch.nonzero(level == n).flatten()
        parts.append(roi_align(patch.pyramid[n], on_map(boxes[rows], stride), bins))
        order.append(rows)
    return torch.cat(parts)[torch.argsort(torch.cat(order))]


def level_of(boxes: Tensor, strides: Sequence[PerAxis]) -> Tensor:
    """The level (R,) on which boxes (R, 2n) are looked at, from 0, the finest."""
    low, high = boxes.chunk(2, dim=1)
    side = (high - low).clamp(min=1e-3).log().mean(dim=1).exp()
    finest = math.prod(strides[0]) ** (1 / len(strides[0]))
    level = torch.log2(side / (FINEST_SIDE * finest)).floor()
    return level.clamp(0, len(strides) - 1).long()


def on_map(boxes: Tensor, stride: Sequence[int]) -> Tensor:
    """Boxes (R, 2n) of a patch in voxels of a map of it."""
    return boxes / torch.tensor([*stride, *stride], dtype=boxes.dtype, device=boxes.device)


def _weights(boxes: Tensor) -> Tensor:
    axes = boxes.shape[1] // 2
    return boxes.new_tensor([SHIFT_WEIGHT] * axes + [GROWTH_WEIGHT] * axes)
