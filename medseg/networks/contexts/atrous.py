"""Dilated convolutions: DeepLab v1 (arXiv:1412.7062), v2 (arXiv:1606.00915) and v3 (arXiv:1706.05587)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.contexts.pooled import GlobalMean, Spread
from medseg.networks.layers import dropping
from medseg.networks.parts import Maps, Style, summed


class LargeFieldOfView(nn.Module):
    """One dilated convolution, and one of a single voxel, each with dropout: v1, section 3.

    Args:
        fc: channels.
        rate: dilation; 0 for 12 in two dimensions, 4 in three.
        dropout: behind each.
    """

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        fc: int = 1024,
        rate: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, fitting = maps.widths[-1], 12 if style.spatial_dims == 2 else 4
        self.body = nn.Sequential(
            style.unit(channels, fc, dilation=rate or fitting, bias=True, dropout=dropout),
            style.unit(fc, fc, 1, bias=True, dropout=dropout),
        )
        self.channels = fc

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class AtrousSum(nn.Module):
    """The sum of the scores of dilated convolutions: v2, section 3.2 and figure 7. Its map is the logits.

    Args:
        rates: dilation of each; () for 6, 12, 18, 24 in two dimensions, a third of these in three.
    """

    def __init__(self, style: Style, maps: Maps, out_channels: int, *, rates: tuple[int, ...] = ()) -> None:
        super().__init__()
        channels, step = maps.widths[-1], 6 if style.spatial_dims == 2 else 2
        rates = rates or tuple(step * n for n in range(1, 5))
        self.branches = nn.ModuleList(style.conv(channels, out_channels, 3, dilation=rate) for rate in rates)
        self.channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return summed([branch(x) for branch in self.branches])


class AtrousPyramid(nn.Module):
    """Dilated convolutions and the mean of the map, concatenated and mixed: v3, section 3.3 and figure 5.

    Args:
        width: channels of each branch, and of the map.
        rates: dilation of each convolution of 3; () for 6, 12, 18 at an output stride of 16 and twice these
            at 8 in two dimensions, a sixth of them in three, whose maps are that much smaller.
        dropout: behind the mixture.
    """

    norms_one_voxel = True

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        width: int = 256,
        rates: tuple[int, ...] = (),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, step = maps.widths[-1], 6 if style.spatial_dims == 2 else 1
        step = max(step * 16 // max(maps.strides[-1]), 1)
        rates = rates or (step, 2 * step, 3 * step)
        self.point = style.unit(channels, width, 1)
        self.branches = nn.ModuleList(style.unit(channels, width, dilation=rate) for rate in rates)
        self.mean = nn.Sequential(GlobalMean(), style.of_one_voxel().unit(channels, width, 1))
        self.spread = Spread()
        self.mix = nn.Sequential(style.unit((len(rates) + 2) * width, width, 1), dropping(dropout))
        self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        local = [self.point(x), *(branch(x) for branch in self.branches)]
        out: Tensor = self.mix(torch.cat((*local, self.spread(self.mean(x), x)), dim=1))
        return out
