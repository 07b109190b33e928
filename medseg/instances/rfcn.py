"""R-FCN: every part of a box is scored by a map of its own, and the parts vote.

Dai et al. 2016, arXiv:1605.06409, section 2.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from medseg.instances.pooling import position_sensitive
from medseg.instances.regions import Patch, on_map
from medseg.networks.parts import Maps, Style

CELLS = {2: 7, 3: 3}
"""Parts of a box along each axis; 7 cubed are too many maps."""


class VotingRegions(nn.Module):
    """See the module.

    Args:
        style: of the pyramid.
        pyramid: its maps, of which the finest that boxes are proposed on has the scores.
        classes: K, structures.
        levels: of the pyramid on which boxes are proposed, the coarsest ones.
        cells: parts of a box along each axis; 0 for 7 in images, 3 in volumes.
    """

    masked: bool = False
    rounds: int = 1
    of_a_class: ClassVar[int] = 1
    """Maps of each class and part."""

    def __init__(self, style: Style, pyramid: Maps, classes: int, *, levels: int = 3, cells: int = 0) -> None:
        super().__init__()
        self.level = len(pyramid.widths[-levels:])
        self.stride = pyramid.strides[-self.level]
        self.cells = cells or CELLS[style.spatial_dims]
        parts = self.cells**style.spatial_dims
        self.scores = parts * self.of_a_class * (classes + 1)
        self.map = style.conv(pyramid.widths[-self.level], self.scores + parts * 2 * style.spatial_dims)

    def begin(self) -> None:
        """As other layers."""

    def say(self, pyramid: list[Tensor]) -> Tensor:
        """The scores of every class by every part, then the offsets of any class by every part."""
        out: Tensor = self.map(pyramid[-self.level])
        return out

    def classify(self, patch: Patch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scored(patch, boxes).flatten(2).mean(2)
        own = on_map(boxes, self.stride)
        offsets = position_sensitive(patch.more[self.scores :], own, self.cells).flatten(2).mean(2)
        return scores, offsets[:, None].expand(-1, scores.shape[1], -1)

    def scored(self, patch: Patch, boxes: Tensor) -> Tensor:
        """What each part of a box says of each class (R, K + 1, *bins)."""
        return position_sensitive(patch.more[: self.scores], on_map(boxes, self.stride), self.cells)

    def masks(self, patch: Patch, boxes: Tensor, classes: Tensor) -> Tensor:
        raise TypeError("masks are the label map's")
