"""Cross-entropy: plain, by class weights, or with U-Net's border map (arXiv:1505.04597, equations 1, 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medseg.core.keywords import hinted
from medseg.losses.base import Reduction
from medseg.losses.distances import Measuring, SpacingMm, border_map
from medseg.losses.outputs import (
    at_least_float32,
    check_labels,
    check_regions,
    kept_weights,
    log_at,
    log_softmax,
    per_region,
    weighted_mean,
    weights_like,
    weights_tensor,
)


def voxel_entropies(
    logits: Tensor, target: Tensor, class_weights: Tensor | None, *, regions: bool
) -> tuple[Tensor, Tensor | None]:
    """-ln p of each voxel (and region), p of its true class, and the class weight of each; None without any.

    Raises:
        UsageError: logits, target and weights do not belong together.
    """
    if regions:
        check_regions(logits, target)
        wide = at_least_float32(logits)
        truth = target.to(wide.dtype)
        entropy = functional.binary_cross_entropy_with_logits(wide, truth, reduction="none")
        per = per_region(class_weights, wide)
        return entropy, None if per is None else per.expand_as(entropy)
    check_labels(logits, target)
    log_p = log_softmax(logits)
    labels = target.long()
    per = weights_like(class_weights, log_p.movedim(-1, 1))
    return -log_at(log_p, labels), None if per is None else per[labels]


class CrossEntropyLoss(Measuring):
    """sum(-w ln p) / sum(w) over voxels (and regions), p of the true class; w = w_c + w0 border map.

    w_c is the class weight of the voxel's label, or of the region. The paper's sum is not divided. The map of
    labels is that of all their instances; each region has its own.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        class_weights: one per output; () for 1 each.
        w0: 0 for no map.
        sigma_mm: the map's width.
        spacing_mm: size of a voxel along each axis of a patch.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.

    >>> import torch
    >>> from medseg.losses import CrossEntropyLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> round(float(CrossEntropyLoss(class_weights=(0.2, 1.0))(logits, labels)), 4)
    0.6931
    """

    class_weights: Tensor | None

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        class_weights: Sequence[float] = (),
        w0: float = 0.0,
        sigma_mm: float = 5.0,
        spacing_mm: SpacingMm = (1.0, 1.0, 1.0),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(spacing_mm, regions=regions, reduction=reduction)
        self.w0 = w0
        self.sigma_mm = sigma_mm
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        entropy, weights = voxel_entropies(logits, target, self.class_weights, regions=self.regions)
        if self.w0:
            known = target if kept is None else target * (kept.unsqueeze(1) if self.regions else kept)
            weights = (1 if weights is None else weights) + self.w0 * self._borders(known).to(entropy)
        return weighted_mean(entropy, kept_weights(weights, kept, entropy))

    def _borders(self, target: Tensor) -> Tensor:
        images = target.flatten(0, 1) if self.regions else target
        whole = ((images > 0).byte() if self.regions else images).cpu().numpy()
        maps = [border_map(image, self.sigma_mm, self.spacing_mm) for image in whole]
        return torch.from_numpy(np.stack(maps)).reshape(target.shape)
