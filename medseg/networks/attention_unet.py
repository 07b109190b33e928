"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999).

Deviations: no deep supervision; maps are enlarged by the up-convolutions of the U-Net; widths, kernels,
strides, norm and activation can be chosen, and two axes.
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
    CONV,
    MAX_POOL,
    TRANSPOSED,
    ConvUnit,
    Enlarge,
    PerAxis,
    Segmenter,
    SpatialDims,
    chain,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)

PAPER_WIDTHS = (16, 32, 64, 128, 256)

OPEN = 3.0
"""Bias of a gate's sigmoid before training: it passes 95 %, for the paper's gates begin open."""


class AttentionUNet(Segmenter):
    """A U-Net with gates on its shortcuts, controlled by the next coarser map of the decoder: figure 1.

    The finest shortcut has no gate, because its map contains too little information (section 2).

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first.
        norm: between convolution and activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: pooling between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        bias: the convolutions' bias; up-convolutions, gates and head keep theirs.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import AttentionUNet
    >>> AttentionUNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
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
        pool = level_strides(strides, levels - 1, spatial_dims)
        unit = partial(ConvUnit, spatial_dims, norm=norm, activation=activation, bias=bias)

        def stage(level: int, first: int) -> nn.Sequential:
            return chain((first, widths[level], widths[level]), partial(unit, kernel=size[level]))

        self.gate = gate_of(in_channels, pool)
        self.encoder = nn.ModuleList(stage(n, c) for n, c in enumerate((in_channels, *widths[:-1])))
        self.pool = nn.ModuleList(MAX_POOL[spatial_dims](s) for s in pool)
        self.attention = nn.ModuleList(
            AttentionGate(spatial_dims, widths[n], widths[n + 1], pool[n]) for n in range(1, levels - 1)
        )
        self.up = nn.ModuleList(
            TRANSPOSED[spatial_dims](widths[n + 1], widths[n], s, stride=s) for n, s in enumerate(pool)
        )
        self.decoder = nn.ModuleList(stage(n, 2 * w) for n, w in enumerate(widths[:-1]))
        self.head = CONV[spatial_dims](widths[0], out_channels, 1)
        he_init(self)
        for gate in self.attention:
            cast(AttentionGate, gate).open()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.encoder[0](self.gate(x))
        skips: list[Tensor] = []
        for level, pool in enumerate(self.pool, start=1):
            skips.append(x)
            x = self.encoder[level](pool(x))
        for level in reversed(range(len(self.decoder))):
            skip = skips.pop()
            if level:
                skip = self.attention[level - 1](skip, x)
            x = self.decoder[level](torch.cat((skip, self.up[level](x)), dim=1))
        return cast(Tensor, self.head(x))


class AttentionGate(nn.Module):
    """x * a, a = sigmoid(psi(relu(W_x x + W_g g))): equations 1 and 2, figure 2.

    a is found on the grid of g and interpolated linearly to that of x.

    Args:
        spatial_dims: 2 or 3.
        channels: of the shortcut x, and between.
        gating_channels: of the coarser map g.
        stride: voxels of x per voxel of g, per axis.
    """

    def __init__(
        self, spatial_dims: SpatialDims, channels: int, gating_channels: int, stride: PerAxis
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.shortcut = conv(channels, channels, stride, stride=stride, bias=False)
        self.gating = conv(gating_channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.psi = cast(nn.Conv3d, conv(channels, 1, 1))
        self.sigmoid = nn.Sigmoid()
        self.enlarge = Enlarge(stride, "linear")

    def open(self) -> None:
        """Let nearly everything pass."""
        if self.psi.bias is not None:
            nn.init.constant_(self.psi.bias, OPEN)

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        joined = self.relu(self.shortcut(x) + self.gating(gating))
        return cast(Tensor, x * self.enlarge(self.sigmoid(self.psi(joined))))
