"""Pyramid pooling (PSPNet: Zhao et al. 2017, arXiv:1612.01105), section 3.2, and the mean of a whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.networks.parts import GlobalContext, Maps, Style, required


class GlobalMean(GlobalContext):
    """The mean of each channel over the tile: (B, C, *S) -> (B, C, 1 ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


class Spread(GlobalContext):
    """A map of the whole tile, interpolated linearly to the grid of another."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        mode = "trilinear" if x.ndim == 5 else "bilinear"
        return functional.interpolate(x, size=like.shape[2:], mode=mode, align_corners=False)


class Bins(GlobalContext):
    """Means over `count` parts of the tile an axis."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        pool = functional.adaptive_avg_pool3d if x.ndim == 5 else functional.adaptive_avg_pool2d
        return pool(x, self.count)


class PyramidPooling(nn.Module):
    """The map beside its means over coarse grids: figure 3 (c).

    Args:
        bins: parts an axis of each grid; at most the map's size, and their number must divide its channels.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, bins: tuple[int, ...] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        channels = maps.widths[-1]
        required(
            len(bins) > 0 and channels % len(bins) == 0,
            f"pyramid pooling of {channels} channels cannot share them among {len(bins)} bins",
        )
        share = channels // len(bins)
        self.branches = nn.ModuleList(nn.Sequential(Bins(n), style.unit(channels, share, 1)) for n in bins)
        self.spread = Spread()
        self.channels = 2 * channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(self.spread(branch(x), x) for branch in self.branches)], dim=1)
