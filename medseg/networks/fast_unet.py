"""A 3D U-Net for processors: few thin layers at full resolution, shortcuts that are added.

The U-Net of Cicek et al. 2016 (arXiv:1606.06650) with three changes that save nine tenths of its
arithmetic. A strided convolution and a transposed head put the first level at half the resolution, the
shortcuts are added as in LinkNet (Chaurasia and Culurciello 2017, arXiv:1707.03718, section III), and each
level of the synthesis path has one convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    CONV,
    TRANSPOSED,
    ConvUnit,
    PerAxis,
    Segmenter,
    SpatialDims,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
)

WIDTHS = (32, 64, 96, 128)


class FastUNet(Segmenter):
    """Levels at 1/2, 1/4, 1/8 ... of the resolution; logits at the full one.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level, finest first.
        norm: between convolution and activation.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: of the stem, then between neighbouring levels, per axis; () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        depth: convolutions of each level of the analysis path below the first, which has one.
        detail: channels of one convolution of the image itself at full resolution, added to the
            coarser map before the last activation; 0 for none. It has no effect at initialisation.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import FastUNet
    >>> FastUNet(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 2, 16, 16, 16])
    """

    @hinted
    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = WIDTHS,
        norm: Norm = "batch",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        depth: int = 2,
        detail: int = 0,
    ) -> None:
        super().__init__(spatial_dims)
        _require(widths, depth, detail)
        levels = len(widths)
        size = level_kernels(kernels, levels, spatial_dims)
        steps = level_strides(strides, levels, spatial_dims)
        conv, transposed = CONV[spatial_dims], TRANSPOSED[spatial_dims]

        def stage(level: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    ConvUnit(
                        spatial_dims, widths[level], widths[level], kernel=size[level], norm=norm,
                        activation=activation, bias=False,
                    )
                    for _ in range(count)
                )
            )  # fmt: skip

        above = (in_channels, *widths)
        self.gate = gate_of(in_channels, steps)
        self.down = nn.ModuleList(conv(above[n], widths[n], steps[n], stride=steps[n]) for n in range(levels))
        self.encoder = nn.ModuleList(stage(n, depth if n else 1) for n in range(levels))
        self.up = nn.ModuleList(
            transposed(widths[n + 1], widths[n], steps[n + 1], stride=steps[n + 1]) for n in range(levels - 1)
        )
        self.decoder = nn.ModuleList(stage(n, 1) for n in range(levels - 1))
        fine = transposed(widths[0], widths[0], steps[0], stride=steps[0])
        self.fine = cast(nn.ConvTranspose3d, fine)
        self.relu = nn.ReLU(inplace=True)
        self.head = conv(widths[0], out_channels, 1)
        self.near: nn.Conv3d | None = None
        self.mix: nn.Conv3d | None = None
        if detail:
            self.near = cast(nn.Conv3d, conv(in_channels, detail, 3, padding=1))
            self.mix = cast(nn.Conv3d, conv(detail, widths[0], 1, bias=False))
        he_init(self)
        _copy_init(self.fine)
        if self.mix is not None:
            nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        fine = self.fine(self.features(self.gate(x)))
        if self.near is not None and self.mix is not None:
            fine = fine + self.mix(self.relu(self.near(x)))
        return cast(Tensor, self.head(self.relu(fine)))

    def features(self, x: Tensor) -> Tensor:
        """Channels of the first level, (B, widths[0], *S / stride of the stem)."""
        maps: list[Tensor] = []
        for down, encode in zip(self.down, self.encoder, strict=True):
            maps.append(encode(down(maps[-1] if maps else x)))
        x = maps.pop()
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](self.up[level](x) + maps.pop())
        return x

    @property
    def phases(self) -> PerAxis:
        """Voxels per axis that are made of each position of `features`."""
        return tuple(self.fine.stride)

    def at_phase(self, x: Tensor, phase: PerAxis) -> Tensor:
        """Logits of every voxel whose index is `phase` modulo `phases`: a sample at a fraction of the cost.

        Args:
            x: image (B, C, *S).
            phase: one offset an axis, below `phases`.

        Returns:
            (B, K, *S / phases), equal to `forward(x)[:, :, a::s, ...]`.
        """
        index: tuple[slice | int, ...] = (slice(None), slice(None), *phase)
        weight = self.fine.weight[index].T
        weight = weight.reshape(*weight.shape, *(1,) * self.spatial_dims)
        convolve = functional.conv2d if self.spatial_dims == 2 else functional.conv3d
        fine = convolve(self.features(self.gate(x)), weight, self.fine.bias)
        if self.near is not None and self.mix is not None:
            framed = functional.pad(x, (1, 1) * self.spatial_dims)
            ends = (p + n - s + 3 for p, n, s in zip(phase, x.shape[2:], self.phases, strict=True))
            window = (slice(None), slice(None), *map(slice, phase, ends))
            seen = framed[window]
            with torch.autocast(x.device.type, enabled=False):  # see `arithmetic.guard_convolutions`
                near = convolve(seen.float(), self.near.weight, self.near.bias, stride=self.phases)
            fine = fine + self.mix(self.relu(near))
        return cast(Tensor, self.head(self.relu(fine)))


def _require(widths: Sequence[int], depth: int, detail: int) -> None:
    if len(widths) < 2 or min(widths) < 1 or depth < 1 or detail < 0:
        raise UsageError(
            "fast_unet needs at least two widths, a depth of at least 1 and a detail of at least 0, not "
            f"{tuple(widths)}, {depth} and {detail}"
        )


def _copy_init(fine: nn.ConvTranspose3d) -> None:
    """Weights (C, C, *kernel) that copy each position to all the voxels made of it."""
    with torch.no_grad():
        fine.weight.zero_()
        for channel in range(fine.in_channels):
            fine.weight[channel, channel] = 1.0
