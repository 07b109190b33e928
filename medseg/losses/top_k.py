"""Cross-entropy of the hardest voxels alone: top-k, or online hard example mining (OHEM).

Shrivastava et al. 2016, arXiv:1604.03540, of boxes; of pixels Wu et al. 2016, arXiv:1605.06457, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.losses.base import Loss, Reduction
from medseg.losses.cross_entropy import voxel_entropies
from medseg.losses.outputs import weights_tensor


class TopKLoss(Loss):
    """The mean of -w ln p over the share of the voxels (and regions) in which it is largest.

    p is of the true class, w its class weight. A batch is taken together, and at least one voxel counts.

    Args:
        regions: overlapping sigmoid outputs, rather than exclusive softmax outputs.
        share: of the voxels, above 0; 1 is cross-entropy.
        class_weights: one per output; () for 1 each. The loss is not divided by their sum.
        reduction: "mean", "sum" or "none", see `losses.base.Loss`.

    Raises:
        UsageError: the share is not above 0 and at most 1.

    >>> import torch
    >>> from medseg.losses import TopKLoss
    >>> labels = (torch.arange(64).reshape(1, 1, 4, 4, 4) > 47)
    >>> logits = torch.zeros(1, 2, 4, 4, 4)
    >>> logits[:, 0, :2] = 9.0  # half of the voxels are easy
    >>> round(float(TopKLoss(share=0.25)(logits, labels)), 4)
    0.6931
    """

    class_weights: Tensor | None

    @hinted
    def __init__(
        self,
        *,
        regions: bool = False,
        share: float = 0.1,
        class_weights: Sequence[float] = (),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(regions=regions, reduction=reduction)
        if not 0 < share <= 1:
            raise UsageError(f"share must be above 0 and at most 1, not {share}")
        self.share = share
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def of(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        """The loss, a scalar, of logits (B, K, *S) against labels (B, *S) or regions (B, K, *S)."""
        entropy, weights = voxel_entropies(logits, target, self.class_weights, regions=self.regions)
        losses = entropy if weights is None else entropy * weights
        if kept is not None:
            losses = (losses.movedim(1, -1) if self.regions else losses)[kept]
        count = min(losses.numel(), max(1, round(self.share * losses.numel())))
        hardest = losses.flatten().topk(count, sorted=False).values
        return hardest.sum() / max(1, count)
