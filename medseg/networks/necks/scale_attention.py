"""Attention over the channels of each scale, in the style of MSSA (Sagar and Soundrapandiyan 2020,
arXiv:2007.12685).

The paper's versions contradict each other and give no exact network: this is its idea, not its build.
"""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.contexts.pooled import GlobalMean
from medseg.networks.parts import Maps, Style

LEVELS = 4


class ScaleAttention(nn.Module):
    """weights(x) x + x for the last map of each of the four coarsest strides, of `width` channels each.

    Args:
        width: channels of every map.
        reduction: of the channels between, where the weights are found.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, width: int = 256, reduction: int = 4
    ) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[-LEVELS:]
        own = maps.taken(self.taken)
        between = max(width // reduction, 1)
        self.reduce = nn.ModuleList(style.unit(w, width, 1) for w in own.widths)
        self.weights = nn.ModuleList(
            nn.Sequential(
                GlobalMean(),
                style.conv(width, between),
                nn.ReLU(inplace=True),
                style.conv(between, width),
                nn.Sigmoid(),
            )
            for _ in own.widths
        )
        self.maps = own.of_width(width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        found = [reduce(maps[n]) for reduce, n in zip(self.reduce, self.taken, strict=True)]
        return [weights(x) * x + x for weights, x in zip(self.weights, found, strict=True)]
