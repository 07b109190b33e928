"""Joint pyramid upsampling (FastFCN: Wu et al. 2019, arXiv:1903.11816), section 3.3 and figure 5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style

LEVELS, RATES = 3, (1, 2, 4, 8)


class JointPyramid(nn.Module):
    """One map at the finest of the three coarsest strides, in place of an encoder with dilation.

    Args:
        width: channels of each branch; the map has four times as many.
    """

    def __init__(self, style: Style, maps: Maps, out_channels: int, *, width: int = 512) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[-LEVELS:]
        own = maps.taken(self.taken)
        self.convs = nn.ModuleList(style.unit(w, width) for w in own.widths)
        self.enlarge = nn.ModuleList(Enlarge(own.factor(n, 0), "linear") for n in range(1, len(self.taken)))
        self.branches = nn.ModuleList(
            style.separable(width * len(self.taken), width, dilation=rate) for rate in RATES
        )
        self.maps = Maps((width * len(RATES),), own.strides[:1])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        first, *rest = (conv(maps[n]) for conv, n in zip(self.convs, self.taken, strict=True))
        grown = [enlarge(x) for enlarge, x in zip(self.enlarge, rest, strict=True)]
        joined = torch.cat((first, *grown), dim=1)
        return [torch.cat([branch(joined) for branch in self.branches], dim=1)]
