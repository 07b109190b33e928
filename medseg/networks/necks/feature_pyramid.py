"""Feature pyramid (Lin et al. 2017, arXiv:1612.03144), section 3; PANet's path (arXiv:1803.01534)."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style

LEVELS = 4


class FeaturePyramid(nn.Module):
    """The last map of each of the four coarsest strides, with what all coarser ones know added.

    Args:
        width: channels of every map.
        bottom_up: a second path back to the coarsest map (PANet, section 3.1).
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, width: int = 256, bottom_up: bool = False
    ) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[-LEVELS:]
        own = maps.taken(self.taken)
        steps = range(len(self.taken) - 1)
        self.lateral = nn.ModuleList(style.conv(w, width) for w in own.widths)
        self.enlarge = nn.ModuleList(Enlarge(own.factor(n + 1, n), "nearest") for n in steps)
        self.smooth = nn.ModuleList(style.conv(width, width, 3) for _ in self.taken)
        self.down = nn.ModuleList(
            style.conv(width, width, 3, stride=own.factor(n + 1, n)) for n in steps if bottom_up
        )
        self.join = nn.ModuleList(style.conv(width, width, 3) for _ in self.down)
        self.maps = own.of_width(width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        found = [lateral(maps[n]) for lateral, n in zip(self.lateral, self.taken, strict=True)]
        for n in reversed(range(len(self.enlarge))):
            found[n] = found[n] + self.enlarge[n](found[n + 1])
        found = [smooth(x) for smooth, x in zip(self.smooth, found, strict=True)]
        for n, (down, join) in enumerate(zip(self.down, self.join, strict=True)):
            found[n + 1] = join(down(found[n]) + found[n + 1])
        return found
