"""HRNet (Wang et al. 2020, arXiv:1908.07919; V2: arXiv:1904.04514), section 3 and the authors' code."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.encoders.encoder import Build, Encoder, cumulative
from medseg.networks.encoders.resnet import Block
from medseg.networks.layers import Enlarge, PerAxis
from medseg.networks.parts import Maps, Style, ratio, required, summed, within

STEM, BOTTLENECK, BLOCKS = 64, 256, 4


class HRNet(Encoder):
    """Four resolutions side by side, joined again and again; the maps are those of the branches.

    Args:
        build: its widths are those of the branches; its kernels and strides those of the first and the second
            convolution of the stem, and of each further branch. The kernel of the second is the first
            branch's too. In a volume, the first has no stride.
        width: of the first branch; it doubles from branch to branch.
        modules: exchanges of two, three and four branches.
    """

    def __init__(self, build: Build, *, width: int, modules: tuple[int, ...] = (1, 4, 3)) -> None:
        super().__init__()
        style, widths = build.style, build.widths or tuple(width * 2**n for n in range(4))
        required(
            len(widths) == 4 and len(modules) == 3,
            f"an HRNet has 4 widths and modules of 3 stages, not {widths} and {modules}",
        )
        strides, _ = build.plan((2, 2, 2, 2, 2) if build.stem == "paper" else (1, 2, 2, 2, 2))
        first, *kernels = build.sizes((3,) * 5)
        one = (1,) * style.spatial_dims
        block = {"stride": one, "dilation": one}
        self.stem = nn.Sequential(
            style.unit(build.in_channels, STEM, first, stride=strides[0]),
            style.unit(STEM, STEM, kernels[0], stride=strides[1]),
            *(
                Block(style, STEM if n == 0 else BOTTLENECK, STEM, BOTTLENECK, kernels[0], **block)
                for n in range(BLOCKS)
            ),
        )
        steps, totals = strides[2:], cumulative(strides)[1:]
        self.begin = nn.ModuleList(
            (
                style.unit(BOTTLENECK, widths[0], kernels[0]),
                style.unit(BOTTLENECK, widths[1], kernels[1], stride=steps[0]),
                style.unit(widths[1], widths[2], kernels[2], stride=steps[1]),
                style.unit(widths[2], widths[3], kernels[3], stride=steps[2]),
            )
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Exchange(style, Maps(widths[:count], tuple(totals[:count])), kernels[:count], steps)
                for _ in range(repeats)
            )
            for count, repeats in zip((2, 3, 4), modules, strict=True)
        )
        self.maps = Maps(tuple(widths), tuple(totals))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = [self.begin[0](x), self.begin[1](x)]
        for n, stage in enumerate(self.stages):
            if n:
                maps.append(self.begin[n + 1](maps[-1]))
            for module in within(stage):
                maps = module(maps)
        return maps


class Exchange(nn.Module):
    """Residual blocks on each branch, then each output the sum of all branches on its grid: figure 3."""

    def __init__(self, style: Style, maps: Maps, kernels: list[PerAxis], steps: list[PerAxis]) -> None:
        super().__init__()
        one = (1,) * style.spatial_dims
        branches = range(len(maps.widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(Block(style, w, w, w, kernels[n], stride=one, dilation=one) for _ in range(BLOCKS))
            )
            for n, w in enumerate(maps.widths)
        )

        def path(source: int, target: int) -> nn.Module:
            own, wanted = maps.widths[source], maps.widths[target]
            if source == target:
                return nn.Identity()
            if source > target:
                grown = Enlarge(ratio(maps.strides[source], maps.strides[target]), "linear")
                return nn.Sequential(style.unit(own, wanted, 1, activation="none"), grown)
            down = [style.unit(own, own, kernels[n + 1], stride=steps[n]) for n in range(source, target - 1)]
            last = style.unit(own, wanted, kernels[target], stride=steps[target - 1], activation="none")
            return nn.Sequential(*down, last)

        self.paths = nn.ModuleList(
            nn.ModuleList(path(source, target) for source in branches) for target in branches
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [block(x) for block, x in zip(self.blocks, maps, strict=True)]
        sums = [
            summed([path(x) for path, x in zip(within(paths), maps, strict=True)]) for paths in self.paths
        ]
        return [self.activation(x) for x in sums]
