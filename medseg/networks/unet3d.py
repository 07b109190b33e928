"""3D U-Net (Cicek et al. 2016, arXiv:1606.06650).

Deviations: `padding=True`, the default, keeps the size by zero padding and needs no crop, where the
paper's convolutions are valid; batch norm uses running statistics in eval mode, where the paper uses
those of the current batch; widths, kernels, strides, norm and activation can be chosen, and two axes.
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
    TRANSPOSED,
    ConvUnit,
    Segmenter,
    Shrinkage,
    SpatialDims,
    chain,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
)

PAPER_WIDTHS = (64, 128, 256, 512)


class UNet3D(Segmenter):
    """Analysis path, synthesis path, a shortcut at each resolution.

    Level n convolves to w/2 and then w channels, so that channels double before the pooling; the
    up-convolution keeps them, and two convolutions bring the concatenation to the width of the level.
    With the defaults, 3 -> 3 channels has the paper's 19,069,955 parameters, and 4,672 of batch norm,
    which the paper does not count.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels at the end of each level, finest first; even.
        norm: between convolution and activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: pooling between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        padding: False for the paper's valid convolutions: the default network then maps n = 28 + 8m
            to n - 88 voxels.
        bias: the convolutions' bias. The paper counts it; before a normalisation it has
            no effect, and False saves its time.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import UNet3D
    >>> UNet3D(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
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
        padding: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(widths)
        if levels < 2 or any(w < 2 or w % 2 for w in widths):
            raise UsageError(f"widths must be two or more even numbers, not {tuple(widths)}")
        size = level_kernels(kernels, levels, spatial_dims)
        pool = level_strides(strides, levels - 1, spatial_dims)

        unit = partial(ConvUnit, spatial_dims, norm=norm, activation=activation, padding=padding, bias=bias)

        def stage(level: int, first: int, middle: int) -> nn.Sequential:
            return chain((first, middle, widths[level]), partial(unit, kernel=size[level]))

        shrink = Shrinkage(size, pool) if not padding else None
        self.gate = gate_of(in_channels, pool, shrink)
        inputs = (in_channels, *widths)
        self.encoder = nn.ModuleList(stage(n, inputs[n], widths[n] // 2) for n in range(levels))
        self.pool = nn.ModuleList(MAX_POOL[spatial_dims](s) for s in pool)
        self.up = nn.ModuleList(
            TRANSPOSED[spatial_dims](w, w, s, stride=s, bias=False)
            for w, s in zip(widths[1:], pool, strict=True)
        )
        self.crop = nn.ModuleList(shrink.crop(n) if shrink else nn.Identity() for n in range(levels - 1))
        self.decoder = nn.ModuleList(
            stage(n, widths[n] + widths[n + 1], widths[n]) for n in range(levels - 1)
        )
        self.head = CONV[spatial_dims](widths[0], out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.gate(x)
        skips: list[Tensor] = []
        for encode, pool in zip(self.encoder, self.pool, strict=False):
            skips.append(encode(x))
            x = pool(skips[-1])
        x = self.encoder[-1](x)
        for level in reversed(range(len(self.decoder))):
            x = torch.cat((self.crop[level](skips.pop()), self.up[level](x)), dim=1)
            x = self.decoder[level](x)
        return cast(Tensor, self.head(x))
