"""DeepLab v3+'s decoder (Chen et al. 2018, arXiv:1802.02611), section 3.1 and figure 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style


class LowLevel(nn.Module):
    """The deepest map, enlarged, beside few channels of the map of the second finest stride.

    Args:
        width: channels of the two convolutions.
        low: channels taken of the fine map.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, width: int = 256, low: int = 48
    ) -> None:
        super().__init__()
        fine = maps.last_of_each_stride()
        self.taken = fine[min(1, len(fine) - 1)]
        last = len(maps.widths) - 1
        self.enlarge = Enlarge(maps.factor(last, self.taken), "linear")
        self.reduce = style.unit(maps.widths[self.taken], low, 1)
        self.mix = nn.Sequential(
            style.unit(maps.widths[last] + low, width, dropout=0.5),
            style.unit(width, width, dropout=0.1),
            style.conv(width, out_channels),
        )
        self.stride = maps.strides[self.taken]

    def forward(self, maps: list[Tensor]) -> Tensor:
        joined = torch.cat((self.enlarge(maps[-1]), self.reduce(maps[self.taken])), dim=1)
        out: Tensor = self.mix(joined)
        return out
