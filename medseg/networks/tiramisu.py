"""Tiramisu, the FC-DenseNet (Jégou et al. 2017, arXiv:1611.09326).

Deviations: weights are drawn by He's rule from a normal distribution; depth, growth, kernels, strides and
norm can be chosen, and three axes.
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
    ACTIVATION,
    CONV,
    MAX_POOL,
    NORM,
    PerAxis,
    Segmenter,
    SpatialDims,
    choose,
    dropping,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
)
from medseg.networks.parts import Style, Transposed

DEPTHS = {56: ((4, 4, 4, 4, 4, 4), 12), 67: ((5, 5, 5, 5, 5, 5), 16), 103: ((4, 5, 7, 10, 12, 15), 16)}
"""Layers of the dense blocks, finest first and the bottom last, and what each layer adds: tables 1 and 2."""


class Tiramisu(Segmenter):
    """Dense blocks down and up, whose layers see all earlier ones of their block: figure 1.

    On the way up a block hands on only what its own layers added. A full-resolution map is kept for each
    layer of the finest blocks, so that it takes many times the memory of a U-Net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        depth: 56, 67 or 103, the number of layers.
        layers: of each dense block, finest first and the bottom last; () for those of `depth`.
        growth: channels that each layer adds; 0 for that of `depth`.
        first: channels of the first convolution.
        norm: before each activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        dropout: behind each convolution of a block.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import create
    >>> create("tiramisu", layers=(1, 1), growth=4, first=8)(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 2, 16, 16, 16])
    """

    @hinted
    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        depth: int = 103,
        layers: tuple[int, ...] = (),
        growth: int = 0,
        first: int = 48,
        norm: Norm = "batch",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        dropout: float = 0.2,
    ) -> None:
        super().__init__(spatial_dims)
        if (
            depth not in DEPTHS
            or (layers and (len(layers) < 2 or min(layers) < 1))
            or min(growth, first - 1) < 0
        ):
            raise UsageError(
                f"a Tiramisu has a depth of {', '.join(map(str, DEPTHS))}, two or more blocks of layers and "
                f"positive channels, not {depth}, {layers}, {growth} and {first}"
            )
        counts, added = layers or DEPTHS[depth][0], growth or DEPTHS[depth][1]
        levels = len(counts)
        size = level_kernels(kernels, levels, spatial_dims)
        pool = level_strides(strides, levels - 1, spatial_dims)

        unit = partial(_unit, spatial_dims, norm, activation, dropout)

        def block(channels: int, level: int) -> DenseBlock:
            units = [unit(channels + n * added, added, size[level]) for n in range(counts[level])]
            return DenseBlock(units)

        one = (1,) * spatial_dims
        self.gate = gate_of(in_channels, pool)
        self.start = CONV[spatial_dims](in_channels, first, size[0], padding=tuple(k // 2 for k in size[0]))
        widths = [first]
        for count in counts[:-1]:
            widths.append(widths[-1] + count * added)
        self.encoder = nn.ModuleList(block(widths[n], n) for n in range(levels))
        self.down = nn.ModuleList(
            nn.Sequential(unit(widths[n + 1], widths[n + 1], one), MAX_POOL[spatial_dims](pool[n]))
            for n in range(levels - 1)
        )
        style = Style(spatial_dims, "none")
        self.up = nn.ModuleList(
            Transposed(style, added * counts[n + 1], added * counts[n + 1], stride=pool[n], activation="none")
            for n in range(levels - 1)
        )
        joined = [widths[n + 1] + added * counts[n + 1] for n in range(levels - 1)]
        self.decoder = nn.ModuleList(block(joined[n], n) for n in range(levels - 1))
        self.head = CONV[spatial_dims](joined[0] + added * counts[0], out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.start(self.gate(x))
        skips: list[Tensor] = []
        for encode, down in zip(self.encoder, self.down, strict=False):
            skips.append(torch.cat((x, encode(x)), dim=1))
            x = down(skips[-1])
        x = self.encoder[-1](x)
        for level in reversed(range(len(self.decoder))):
            joined = torch.cat((self.up[level](x), skips.pop()), dim=1)
            x = self.decoder[level](joined)
        return cast(Tensor, self.head(torch.cat((joined, x), dim=1)))


class DenseBlock(nn.Module):
    """Layers that see the block's input and all layers before; (B, C, *S) -> (B, layers * growth, *S)."""

    def __init__(self, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(self, x: Tensor) -> Tensor:
        added: list[Tensor] = []
        for unit in self.units:
            added.append(unit(torch.cat((x, *added), dim=1) if added else x))
        return torch.cat(added, dim=1) if len(added) > 1 else added[0]


def _unit(
    dims: SpatialDims, norm: Norm, activation: str, dropout: float, channels: int, width: int, kernel: PerAxis
) -> nn.Sequential:
    """Norm, activation, convolution, dropout: table 1."""
    return nn.Sequential(
        choose(NORM, norm, "normalisation")(dims, channels),
        choose(ACTIVATION, activation, "activation")(channels),
        CONV[dims](channels, width, kernel, padding=tuple(k // 2 for k in kernel)),
        dropping(dropout),
    )
