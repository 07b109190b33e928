"""ResNet (He et al. 2016, arXiv:1512.03385), table 1, with dilation (arXiv:1706.05587) and multi-grid.

As in torchvision, a bottleneck's stride is on its middle convolution, and the first block of a dilated stage
keeps the dilation of the stage before.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from medseg.networks.encoders.encoder import Build, Encoder, cumulative
from medseg.networks.layers import MAX_POOL, PerAxis
from medseg.networks.parts import Maps, Style, required

PAPER_WIDTHS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_FROM, EXPANSION = 50, 4


class ResNet(Encoder):
    """A stem and four stages of residual blocks; the maps are those of the stem, its pooling, and each stage.

    Args:
        build: its widths are those of the stages, before a bottleneck's expansion, its kernels and strides
            those of
            the stem and the stages. The stem of the paper is a convolution of 7 with stride 2 and a pooling
            of 3, whose
            stride is the first stage's; that of a volume is a convolution of 3 without stride or pooling, so
            that small structures reach the first block.
        depth: 18, 34, 50, 101 or 152.
        multi_grid: factors of the last stage's dilation, block by block, and again from the first.
    """

    def __init__(self, build: Build, *, depth: int, multi_grid: tuple[int, ...] = ()) -> None:
        super().__init__()
        style, widths = build.style, build.widths or PAPER_WIDTHS
        required(len(widths) == 4, f"a ResNet has 4 widths, not {widths}")
        last = BLOCKS[depth][-1]
        required(len(multi_grid) <= last, f"the last stage has {last} blocks, but multi_grid {multi_grid}")
        pooled = build.stem == "paper"
        strides, dilation = build.plan((2, 2, 2, 2, 2) if pooled else (1, 2, 2, 2, 2))
        kernels = build.sizes((7 if pooled else 3, 3, 3, 3, 3))
        self.stem = style.unit(build.in_channels, widths[0], kernels[0], stride=strides[0])
        self.pool = MAX_POOL[style.spatial_dims](3, strides[1], 1) if pooled else None
        bottleneck = depth >= BOTTLENECK_FROM
        outer = [w * EXPANSION if bottleneck else w for w in widths]
        self.stages = nn.ModuleList()
        channels = widths[0]
        for n, count in enumerate(BLOCKS[depth]):
            grid = multi_grid if n == 3 else ()
            stride = (1,) * style.spatial_dims if pooled and n == 0 else strides[n + 1]
            rates = [dilation[n + 1]] + [dilation[n + 2]] * (count - 1)
            if grid:
                rates = [tuple(d * grid[m % len(grid)] for d in dilation[n + 2]) for m in range(count)]
            blocks = []
            for m, rate in enumerate(rates):
                own = stride if m == 0 else (1,) * style.spatial_dims
                blocks.append(
                    Block(style, channels, widths[n], outer[n], kernels[n + 1], stride=own, dilation=rate)
                )
                channels = outer[n]
            self.stages.append(nn.Sequential(*blocks))
        totals = cumulative(strides)
        extra = (widths[0],) if pooled else ()
        self.maps = Maps((widths[0], *extra, *outer), (totals[0], *totals[1:2] * len(extra), *totals[1:]))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        if self.pool is not None:
            maps.append(self.pool(maps[-1]))
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class Block(nn.Module):
    """Two convolutions, or a bottleneck's three, added to the input: figure 5 of the paper."""

    def __init__(
        self,
        style: Style,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel: PerAxis,
        *,
        stride: PerAxis,
        dilation: PerAxis,
    ) -> None:
        super().__init__()
        middle = partial(style.unit, kernel=kernel, dilation=dilation)
        if width == out_channels:
            parts = [
                middle(in_channels, width, stride=stride),
                middle(width, width, activation="none"),
            ]
        else:
            parts = [
                style.unit(in_channels, width, 1),
                middle(width, width, stride=stride),
                style.unit(width, out_channels, 1, activation="none"),
            ]
        self.body = nn.Sequential(*parts)
        same = in_channels == out_channels and max(stride) == 1
        self.shortcut = (
            nn.Identity()
            if same
            else style.unit(in_channels, out_channels, 1, stride=stride, activation="none")
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out
