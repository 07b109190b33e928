"""Residual U-Net (Zhang, Liu, Wang 2018, "Road Extraction by Deep Residual U-Net", arXiv:1711.10684).

Deviations: maps are enlarged by copying, for the paper does not say how; where a pair changes channels or
resolution, a convolution of 1 brings its input along; widths, kernels, strides, norm and activation can be
chosen, and three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    ACTIVATION,
    CONV,
    NORM,
    Enlarge,
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

PAPER_WIDTHS = (64, 128, 256, 512)
INPLACE = (nn.ReLU, nn.LeakyReLU, nn.ELU)


class ResUNet(Segmenter):
    """A residual pair of convolutions per level and path, the first of a level strided: table 1 of the paper.

    Norm and activation precede each convolution except the first.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first.
        norm: before each activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        bias: the convolutions' bias; the 1x1 convolutions beside a pair have none.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import ResUNet
    >>> ResUNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
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
        norm: Norm = "batch",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(level_widths(widths))
        size = level_kernels(kernels, levels, spatial_dims)
        steps = level_strides(strides, levels - 1, spatial_dims)
        pair = partial(ResidualPair, spatial_dims, norm=norm, activation=activation, bias=bias)
        one = (1,) * spatial_dims
        inputs = (in_channels, *widths)
        self.gate = gate_of(in_channels, steps)
        self.encoder = nn.ModuleList(
            pair(inputs[n], widths[n], kernel=size[n], stride=s, first=n == 0)
            for n, s in enumerate((one, *steps))
        )
        self.up = nn.ModuleList(Enlarge(s, "nearest") for s in steps)
        self.decoder = nn.ModuleList(
            pair(widths[n] + widths[n + 1], widths[n], kernel=size[n], stride=one) for n in range(levels - 1)
        )
        self.head = CONV[spatial_dims](widths[0], out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.gate(x)
        skips: list[Tensor] = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat((self.up[level](x), skips.pop()), dim=1))
        return cast(Tensor, self.head(x))


class ResidualPair(nn.Module):
    """Norm, activation, convolution, twice, added to the input: identity mappings (arXiv:1603.05027).

    (B, C, *S) -> (B, C', *S / stride). The first pair of a network has neither norm nor activation before
    its first convolution.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        channels: int,
        *,
        kernel: PerAxis,
        stride: PerAxis,
        norm: Norm,
        activation: str,
        bias: bool,
        first: bool = False,
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        unit = partial(PreUnit, spatial_dims, kernel=kernel, norm=norm, activation=activation, bias=bias)
        pad = tuple(k // 2 for k in kernel)
        begin = partial(conv, kernel_size=kernel, padding=pad, bias=bias) if first else unit
        self.body = nn.Sequential(begin(in_channels, channels, stride=stride), unit(channels, channels))
        same = in_channels == channels and max(stride) == 1
        self.shortcut = nn.Identity() if same else conv(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.body(x) + self.shortcut(x))


class PreUnit(nn.Module):
    """Normalisation, activation, convolution; (B, C, *S) -> (B, C', *S / stride)."""

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        kernel: PerAxis,
        norm: Norm,
        activation: str,
        bias: bool,
        stride: int | PerAxis = 1,
    ) -> None:
        super().__init__()
        self.norm = choose(NORM, norm, "normalisation")(spatial_dims, in_channels)
        self.activation = choose(ACTIVATION, activation, "activation")(in_channels)
        if isinstance(self.activation, INPLACE):  # without a norm, it is given the map the shortcut adds
            self.activation.inplace = False
        pad = tuple(k // 2 for k in kernel)
        self.conv = CONV[spatial_dims](
            in_channels, out_channels, kernel, stride=stride, padding=pad, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(self.activation(self.norm(x))))
