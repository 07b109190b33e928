"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597).

Deviations: `padding=True`, the default, keeps the size by zero padding and needs no crop, where the
paper's convolutions are valid; a norm may stand after each convolution; widths, kernels, strides, norm
and activation can be chosen, and three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    CONV,
    MAX_POOL,
    ConvUnit,
    Segmenter,
    Shrinkage,
    SpatialDims,
    chain,
    dropping,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)
from medseg.networks.parts import Style, Unpooled, Up, enlarging

PAPER_WIDTHS = (64, 128, 256, 512, 1024)
DROPPED_LEVELS = 2


class UNet(Segmenter):
    """Contracting path, expanding path, a shortcut at each resolution: figure 1 of the paper.

    Each level has two convolutions a path; the up-convolution halves the channels, and the shortcut
    doubles them again. With the defaults, 1 -> 2 channels has 31,030,658 parameters in two dimensions
    and 90,292,738 in three.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first.
        norm: between convolution and activation; the paper has none.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: pooling between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        padding: False for the paper's valid convolutions: the default network then maps n = 60 + 16m
            to n - 184 voxels, 572 to 388.
        bias: the convolutions' bias; up-convolutions and head keep theirs.
        up: how maps are enlarged: "transposed" convolutions, the paper's; "nearest", "linear" or "nails", see
            `layers.Enlarge`, with a convolution of the level's kernel behind; or "unpool", by the maxima of
            the shortcut, with a convolution of a single voxel before.
        dropout: share of the values dropped in training at the end of the contracting path, which is
            taken to be its last two levels. The paper gives no share.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import UNet
    >>> UNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
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
        activation: str = "relu",
        padding: bool = True,
        bias: bool = True,
        up: Up = "transposed",
        dropout: float = 0.5,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(level_widths(widths))
        size = level_kernels(kernels, levels, spatial_dims)
        pool = level_strides(strides, levels - 1, spatial_dims)
        if up == "unpool" and not padding:
            raise UsageError("a U-Net that unpools needs padding: cropped shortcuts lack the maxima")
        unit = partial(ConvUnit, spatial_dims, norm=norm, activation=activation, padding=padding, bias=bias)

        def stage(level: int, first: int) -> nn.Sequential:
            return chain((first, widths[level], widths[level]), partial(unit, kernel=size[level]))

        shrink = Shrinkage(size, pool) if not padding else None
        self.gate = gate_of(in_channels, pool, shrink)
        self.encoder = nn.ModuleList(stage(n, c) for n, c in enumerate((in_channels, *widths[:-1])))
        self.dropout = nn.ModuleList(
            dropping(dropout if n >= levels - DROPPED_LEVELS else 0.0) for n in range(levels)
        )
        self.pool = nn.ModuleList(MAX_POOL[spatial_dims](s) for s in pool)
        plain = Style(spatial_dims, "none")
        self.up = nn.ModuleList(
            enlarging(up, plain, widths[n + 1], widths[n], s, size[n]) for n, s in enumerate(pool)
        )
        self.crop = nn.ModuleList(shrink.crop(n) if shrink else nn.Identity() for n in range(levels - 1))
        self.decoder = nn.ModuleList(stage(n, 2 * w) for n, w in enumerate(widths[:-1]))
        self.head = CONV[spatial_dims](widths[0], out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.dropout[0](self.encoder[0](self.gate(x)))
        skips: list[Tensor] = []
        for level, pool in enumerate(self.pool, start=1):
            skips.append(x)
            x = self.dropout[level](self.encoder[level](pool(x)))
        for level in reversed(range(len(self.decoder))):
            skip, up = self.crop[level](skips.pop()), self.up[level]
            x = self.decoder[level](
                torch.cat((skip, up(x, skip) if isinstance(up, Unpooled) else up(x)), dim=1)
            )
        return cast(Tensor, self.head(x))
