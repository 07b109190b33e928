"""What Faster R-CNN and Mask R-CNN say of a box: RoIAlign, full connections, and a small map for the mask.

He et al. 2017, arXiv:1703.06870, figure 4.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from medseg.instances.heads import BoxHead, MaskHead
from medseg.instances.regions import Patch, pooled
from medseg.model.spec import Norm
from medseg.networks.parts import Maps, Style

MASK_BINS = {2: 14, 3: 7}
"""Along each axis, of what is pooled for a mask; 14 cubed would cost as much as the rest together."""


class PooledRegions(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps.
        classes: K, structures.
        masked: whether masks are said of boxes; else they are the label map's.
        head_norm: of the heads.
        box_bins: of what is pooled for class and box, along each axis.
        mask_bins: of what is pooled for the mask, which has twice as many; 0 for 14 in images, 7 in volumes.
        hidden: channels of the full connections.
        convs: convolutions before the mask.
        box_convs: convolutions before the full connections.
    """

    rounds = 1

    def __init__(
        self,
        style: Style,
        pyramid: Maps,
        classes: int,
        *,
        masked: bool = True,
        head_norm: Norm = "none",
        box_bins: int = 7,
        mask_bins: int = 0,
        hidden: int = 1024,
        convs: int = 4,
        box_convs: int = 0,
    ) -> None:
        super().__init__()
        own = replace(style, norm=head_norm)
        self.masked = masked
        self.strides = pyramid.strides
        self.box_bins = style.sized(box_bins)
        self.mask_bins = style.sized(mask_bins or MASK_BINS[style.spatial_dims])
        width = pyramid.widths[0]
        self.box = BoxHead(own, width, self.box_bins, classes, hidden=hidden, convs=box_convs)
        self.mask = MaskHead(own, width, classes, convs=convs) if masked else nn.Identity()

    def begin(self) -> None:
        self.box.begin()

    def say(self, pyramid: list[Tensor]) -> None:
        """Boxes are cut from the pyramid itself."""

    def classify(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.box(pooled(patch, self.strides, boxes, self.box_bins))
        return found

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        return own_class(self.mask(pooled(patch, self.strides, boxes, self.mask_bins)), classes)


def own_class(masks: Tensor, classes: Tensor) -> Tensor:
    """Of masks (R, K, *bins) that of each box's class: (R, *bins)."""
    at = classes.reshape(-1, *(1,) * (masks.ndim - 1)).expand(-1, 1, *masks.shape[2:])
    return masks.gather(1, at)[:, 0]
