"""Masks for networks that find boxes alone: what the label map says within a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.instances.choice import Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.pooling import roi_align


class LabelMasks(nn.Module):
    """The probability of an object's structure within its box; nothing is learnt beside the label map.

    Args:
        bins: of a mask, along each axis.
    """

    numbers = 0

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, pyramid: list[Tensor]) -> None:
        """No further map is needed."""

    def teach(self, outputs: Outputs, shares: Tensor, learns: Sequence[Tensor], lesson: Lesson) -> Tensor:
        """Nothing: the label map has its own loss."""
        return outputs.semantic.new_zeros(())

    def instances(self, outputs: Outputs, n: int, found: Found) -> list[Instance]:
        """The objects of patch n with their masks."""
        sides = (self.bins,) * len(outputs.shape)
        known = torch.softmax(outputs.semantic[n], dim=0)
        rows = []
        for box, label, score in zip(found.boxes, found.classes.tolist(), found.scores.tolist(), strict=True):
            mask = roi_align(known[label + 1][None], box[None], sides)[0, 0]
            rows.append(Instance(box, label, score, mask))
        return rows
