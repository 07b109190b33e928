"""SharpMask's refinement (Pinheiro et al. 2016, arXiv:1603.08695), section 3 and the authors' code."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style


class Refinement(nn.Module):
    """relu(horizontal(finer map) + vertical(mask)), half the channels at each step: figure 2 (d).

    Args:
        width: channels of the coarsest mask.
        lateral: channels of the first convolution of each finer map.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, width: int = 32, lateral: int = 64
    ) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[:-1]
        last = len(maps.widths) - 1
        own = maps.taken((*self.taken, last))
        places = list(reversed(range(len(self.taken))))
        widths = [max(width >> n, 2) for n in range(len(places) + 1)]
        self.start = style.conv(own.widths[-1], width, 3)
        self.enlarge = nn.ModuleList(Enlarge(own.factor(n + 1, n), "nearest") for n in places)
        self.vertical = nn.ModuleList(
            nn.Sequential(style.conv(a, a, 3), nn.ReLU(inplace=True), style.conv(a, b, 3))
            for a, b in pairwise(widths)
        )
        self.horizontal = nn.ModuleList(
            nn.Sequential(
                style.conv(own.widths[n], lateral, 3),
                nn.ReLU(inplace=True),
                style.conv(lateral, a, 3),
                nn.ReLU(inplace=True),
                style.conv(a, b, 3),
            )
            for n, a, b in zip(places, widths, widths[1:], strict=False)
        )
        self.activation = nn.ReLU(inplace=True)
        self.end = style.conv(widths[-1], out_channels, 3)
        self.stride = own.strides[0]

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.start(maps[-1])
        parts = zip(self.enlarge, self.vertical, self.horizontal, reversed(self.taken), strict=True)
        for enlarge, vertical, horizontal, n in parts:
            x = self.activation(horizontal(maps[n]) + vertical(enlarge(x)))
        out: Tensor = self.end(x)
        return out
