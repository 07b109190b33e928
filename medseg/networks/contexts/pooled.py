"""Pyramid pooling (PSPNet: Zhao et al. 2017, arXiv:1612.01105), section 3.2, and the mean of a whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.networks.parts import GlobalContext, Maps, Style, along, required


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
    """Means over `count` parts of the tile an axis: adaptive pooling, by a matrix an axis.

    A size that `count` does not divide is pooled too, where exported graphs have no adaptive pooling.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return along(x, [self._shares(size).to(x) for size in x.shape[2:]])

    def _shares(self, size: int) -> Tensor:
        """What each voxel gives each part, (size, count): parts overlap where the size is no multiple."""
        parts, voxels = torch.arange(self.count), torch.arange(size)[:, None]
        inside = (voxels >= parts * size // self.count) & (voxels * self.count < (parts + 1) * size)
        return inside / inside.sum(dim=0)


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
        styles = [style.of_one_voxel() if n == 1 else style for n in bins]
        self.branches = nn.ModuleList(
            nn.Sequential(Bins(n), own.unit(channels, share, 1)) for n, own in zip(bins, styles, strict=True)
        )
        self.norms_one_voxel = 1 in bins
        self.spread = Spread()
        self.channels = 2 * channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(self.spread(branch(x), x) for branch in self.branches)], dim=1)
