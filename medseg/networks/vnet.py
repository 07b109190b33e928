"""V-Net (Milletari et al. 2016, arXiv:1606.04797).

Deviations: an image of several channels is tiled to the first width in turn, where the paper has one
channel; weights are drawn by He's rule; a norm may stand after each convolution (a residual is added
after it); widths, kernels, strides and the number of convolutions can be chosen, and two axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    ACTIVATION,
    CONV,
    NORM,
    TRANSPOSED,
    Build,
    ConvUnit,
    PerAxis,
    Segmenter,
    SpatialDims,
    choose,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)
from medseg.networks.reach import Reach

PAPER_WIDTHS = (16, 32, 64, 128, 256)


class VNet(Segmenter):
    """Residual stages at five resolutions, strided convolutions down, transposed ones up, a shortcut each.

    Level n has min(n + 1, 3) convolutions; in the decoder it works on the concatenation, of twice its
    width. With the defaults, 1 -> 2 channels has 65,175,314 parameters, 3,456 of them PReLU slopes, and a
    theoretical receptive field of 551 voxels, as in table 1 of the paper.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first.
        norm: after each convolution; the paper has none.
        kernels: odd kernel of each level per axis, () for 5 everywhere.
        strides: between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        bias: the convolutions' bias.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import VNet
    >>> VNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 2, 16, 16, 16])
    """

    @hinted
    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = PAPER_WIDTHS,
        norm: Norm = "none",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "prelu",
        bias: bool = True,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(level_widths(widths))
        size = level_kernels(kernels, levels, spatial_dims, default=5)
        step = level_strides(strides, levels - 1, spatial_dims)

        def stage(level: int, channels: int, first: int) -> ResidualStage:
            return ResidualStage(
                spatial_dims, first, channels, depth=min(level + 1, 3), kernel=size[level], norm=norm,
                activation=activation, bias=bias,
            )  # fmt: skip

        def change(table: Build, a: int, b: int, stride: PerAxis) -> Resampling:
            return Resampling(
                table, spatial_dims, a, b, stride=stride, norm=norm, activation=activation, bias=bias
            )

        self.gate = gate_of(in_channels, step)
        above = [2 * w for w in widths[1:-1]] + [widths[-1]]
        self.encoder = nn.ModuleList(stage(n, w, w if n else in_channels) for n, w in enumerate(widths))
        self.down = nn.ModuleList(
            change(CONV[spatial_dims], widths[n], widths[n + 1], s) for n, s in enumerate(step)
        )
        self.up = nn.ModuleList(
            change(TRANSPOSED[spatial_dims], above[n], widths[n], s) for n, s in enumerate(step)
        )
        self.decoder = nn.ModuleList(stage(n, 2 * w, 2 * w) for n, w in enumerate(widths[:-1]))
        self.head = CONV[spatial_dims](2 * widths[0], out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.encoder[0](self.gate(x))
        skips: list[Tensor] = []
        for level, down in enumerate(self.down, start=1):
            skips.append(x)
            x = self.encoder[level](down(x))
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat((skips.pop(), self.up[level](x)), dim=1))
        return cast(Tensor, self.head(x))


class ResidualStage(nn.Module):
    """`depth` convolutions; the stage's input joins the last before its activation.

    (B, C, *S) -> (B, C', *S); an input of other than C' channels is tiled to them.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        channels: int,
        *,
        depth: int,
        kernel: PerAxis,
        norm: Norm,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        inputs = (in_channels, *(channels,) * (depth - 1))
        self.body = nn.Sequential(
            *(
                ConvUnit(
                    spatial_dims, c, channels, kernel=kernel, norm=norm, activation=activation, bias=bias
                )
                for c in inputs
            )
        )
        last = cast(ConvUnit, self.body[-1])
        self.activation, last.activation = last.activation, nn.Identity()
        self.shortcut = nn.Identity() if in_channels == channels else TileChannels(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.body(x) + self.shortcut(x)))


class TileChannels(nn.Module):
    """Repeats the channels in turn; (B, `in_channels`, *S) -> (B, `channels`, *S)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.times = math.ceil(channels / in_channels)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x,) * self.times, dim=1)[:, : self.channels]

    def reach(self, before: Reach) -> Reach:
        return before


class Resampling(nn.Module):
    """Convolution whose kernel is its stride, normalisation, activation."""

    def __init__(
        self,
        conv: Build,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        stride: PerAxis,
        norm: Norm,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, stride, stride=stride, bias=bias)
        self.norm = choose(NORM, norm, "normalisation")(spatial_dims, out_channels)
        self.activation = choose(ACTIVATION, activation, "activation")(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.norm(self.conv(x))))
