"""The plain U-Net that nnU-Net configures (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

Deviations: widths, kernels and strides are given, where nnU-Net finds them from the data and the memory;
weights are drawn by He's rule; norm and activation can be chosen.
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
    TRANSPOSED,
    ConvUnit,
    Segmenter,
    SpatialDims,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)

PAPER_WIDTHS = (32, 64, 128, 256, 320, 320)


class PlainUNet(Segmenter):
    """Two convolutions per level and path, the first of a level strided; a head on each level but the lowest.

    The heads below the first are for deep supervision: those of all levels of the decoder but the coarsest,
    with weights that halve from level to level. The weights contain them whether or not they are trained.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first. nnU-Net's in three dimensions stop at 320.
        norm: between convolution and activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        bias: the bias of convolutions and up-convolutions; heads keep theirs. Without it, 1 -> 2 channels
            in three dimensions has 31,189,410 parameters without the further heads.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import PlainUNet
    >>> PlainUNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
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
        norm: Norm = "instance",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "leaky_relu",
        bias: bool = True,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(level_widths(widths))
        size = level_kernels(kernels, levels, spatial_dims)
        steps = level_strides(strides, levels - 1, spatial_dims)
        unit = partial(ConvUnit, spatial_dims, norm=norm, activation=activation, bias=bias)

        def stage(level: int, first: int, stride: int | Sequence[int] = 1) -> nn.Sequential:
            own = partial(unit, kernel=size[level])
            return nn.Sequential(own(first, widths[level], stride=stride), own(widths[level], widths[level]))

        self.gate = gate_of(in_channels, steps)
        first = stage(0, in_channels)
        self.encoder = nn.ModuleList((first, *(stage(n + 1, widths[n], s) for n, s in enumerate(steps))))
        self.up = nn.ModuleList(
            TRANSPOSED[spatial_dims](widths[n + 1], widths[n], s, stride=s, bias=bias)
            for n, s in enumerate(steps)
        )
        self.decoder = nn.ModuleList(stage(n, 2 * w) for n, w in enumerate(widths[:-1]))
        supervised = max(levels - 2, 1)
        self.head = nn.ModuleList(CONV[spatial_dims](w, out_channels, 1) for w in widths[:supervised])
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        return cast(Tensor, self.head[0](self.features(x)[0]))

    @property
    def head_weights(self) -> tuple[float, ...]:
        """1, 1/2, 1/4 ... of their sum, finest first."""
        shares = [0.5**level for level in range(len(self.head))]
        return tuple(share / sum(shares) for share in shares)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head, finest first; those of level n are as coarse as its map."""
        return [head(map_) for head, map_ in zip(self.head, self.features(x), strict=False)]

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of the decoder's levels, finest first."""
        x = self.gate(x)
        skips: list[Tensor] = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = skips.pop()
        maps: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat((self.up[level](x), skips.pop()), dim=1))
            maps.append(x)
        return maps[::-1]
