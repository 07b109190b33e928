"""Which of many boxes that a network says are objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg import metrics
from medseg.instances.boxes import clipped
from medseg.model.spec import LEAST_SCORE


class Found(NamedTuple):
    """What one patch shows.

    Attributes:
        boxes: (N, 2n), in voxels of the patch.
        scores: (N,), in [0, 1].
        classes: (N,), from 0.
        more: further numbers (N, E) of the head.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    more: Tensor


@dataclass(frozen=True)
class Choice:
    """Which boxes are objects.

    Attributes:
        least: score below which a box is passed over.
        candidates: boxes with the highest scores that are looked at.
        most_iou: a box that overlaps a better one of its class by more is dropped.
        most: objects of a patch.
    """

    least: float = LEAST_SCORE
    candidates: int = 500
    most_iou: float = 0.5
    most: int = 100

    def surest(self, sure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of scores (P, K): the rows, classes and scores of the candidates, the highest score first."""
        scores, where = sure.flatten().topk(min(self.candidates, sure.numel()))
        enough = scores >= self.least
        where = where[enough]
        return where // sure.shape[1], where % sure.shape[1], scores[enough]

    def kept(self, found: Found, shape: Sequence[int]) -> Found:
        """Cut off at the edges of a patch, without boxes that overlap a better one of their class too much.

        Returns:
            The highest score first.
        """
        boxes = clipped(found.boxes, shape)
        low, high = boxes.chunk(2, dim=1)
        solid = (high > low).all(dim=1)
        found = Found(*(part[solid] for part in found._replace(boxes=boxes)))
        if not len(found.scores):
            return found
        boxes, scores, classes = (part.detach().cpu() for part in found[:3])
        kept = suppressed(boxes.numpy(), scores.numpy(), classes.numpy(), self.most_iou, self.most)
        at = torch.from_numpy(kept).to(found.boxes.device)
        return Found(*(part[at] for part in found))


def suppressed(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], most_iou: float, most: int | None = None
) -> NDArray[np.intp]:
    """Which boxes are left, the surest first; boxes of two classes never meet."""
    span = 1.0 + float(boxes.max()) - float(boxes.min())
    apart = boxes.astype(np.float64) + classes[:, None] * span
    return metrics.non_max_suppression(apart, scores.astype(np.float64), most_iou=most_iou, most=most)
