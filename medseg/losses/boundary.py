"""Boundary loss (Kervadec et al. 2019, arXiv:1812.07032)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.distances import Measuring, SpacingMm, signed_distances_mm
from medseg.losses.outputs import at_least_float32, check_labels, check_regions, masks_of, mean_of_kept


class BoundaryLoss(Measuring):
    """The mean of p times the signed distance to the reference, over structures and voxels, in mm.

    It has its minimum, below 0, for the reference itself. For a structure without a border in the patch, the
    loss and its gradient are 0. The paper adds it, with an increasing weight, to an overlap loss.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        include_background: whether softmax output 0 counts.
        spacing_mm: size of a voxel along each axis of a patch.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.

    >>> import torch
    >>> from medseg.losses import BoundaryLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(BoundaryLoss(spacing_mm=(1.0, 1.0, 3.0))(logits, labels)), 4)
    0.75
    """

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        include_background: bool = False,
        spacing_mm: SpacingMm = (1.0, 1.0, 1.0),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(spacing_mm, regions=regions, reduction=reduction)
        self.first = 0 if regions or include_background else 1

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        wide = at_least_float32(logits)
        if self.regions:
            check_regions(logits, target)
            inside = (target > 0) if kept is None else (target > 0) & kept.unsqueeze(1)
            return mean_of_kept(wide.sigmoid() * self._distances(inside).to(wide), kept)
        check_labels(logits, target)
        masks = masks_of(target, logits.shape[1], self.first)
        masks = masks if kept is None else masks & kept.unsqueeze(1)
        return mean_of_kept(wide.softmax(1)[:, self.first :] * self._distances(masks).to(wide), kept)

    def _distances(self, masks: Tensor) -> Tensor:
        maps = [signed_distances_mm(mask, self.spacing_mm) for mask in masks.flatten(0, 1).cpu().numpy()]
        return torch.from_numpy(np.stack(maps)).reshape(masks.shape)
