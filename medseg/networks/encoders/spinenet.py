"""SpineNet (Du et al. 2020, arXiv:1912.05027), section 3 and the authors' code: scales up and down."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn

from medseg.networks.encoders.encoder import Build, Encoder, cumulative
from medseg.networks.encoders.resnet import EXPANSION, Block
from medseg.networks.layers import MAX_POOL, Enlarge, PerAxis
from medseg.networks.parts import Maps, Style, ratio, required, summed, within

PAPER_WIDTHS = (64, 128, 256, 256, 256, 256)
"""Of the levels 2 to 7."""

FIRST_LEVEL, STEM = 2, 64


class _Node(NamedTuple):
    """A block of the searched network: figure 3 of the paper."""

    level: int
    bottleneck: bool
    parents: tuple[int, ...]
    merged: tuple[int, ...] = ()


NODES = (
    _Node(2, True, ()), _Node(2, True, ()), _Node(2, True, (0, 1)), _Node(4, False, (0, 1)),
    _Node(3, True, (2, 3)), _Node(4, True, (2, 4)), _Node(6, False, (3, 5)), _Node(4, True, (3, 5)),
    _Node(5, False, (6, 7)), _Node(7, False, (6, 8)), _Node(5, True, (8, 9)), _Node(5, True, (8, 10)),
    _Node(4, True, (5, 10)), _Node(3, True, (4, 10)), _Node(5, True, (7, 12), (11,)),
    _Node(7, True, (5, 14)), _Node(6, True, (12, 14)),
)  # fmt: skip
"""The last five are the outputs. `merged` are blocks of the same size that nothing else reads."""

OUTPUTS = {3: 13, 4: 12, 5: 14, 6: 16, 7: 15}


class SpineNet(Encoder):
    """Blocks of residual blocks whose scale rises and falls, each reading two earlier ones.

    Args:
        build: its widths are those of the levels 2 to 7, before a bottleneck's expansion; its kernels and
            strides those of the stem, of the step to level 2, and of each step to a further level, up to
            `max_level`. In a volume, the stem has a kernel of 3 and no stride, and there is no pooling.
        scale: factor of the widths.
        alpha: share of the channels kept while a map is resampled.
        repeats: residual blocks a block.
        end: channels of the outputs.
        max_level: blocks of coarser levels work on this one, and their outputs are left out; 0 for 7, in
            volumes 5. A map of level n has a stride of 2^n.
    """

    def __init__(
        self,
        build: Build,
        *,
        scale: float = 1,
        alpha: float = 0.5,
        repeats: int = 1,
        end: int = 256,
        max_level: int = 0,
    ) -> None:
        super().__init__()
        style = build.style
        widths = build.widths or tuple(int(w * scale) for w in PAPER_WIDTHS)
        required(len(widths) == 6, f"a SpineNet has 6 widths, not {widths}")
        max_level = max_level or (7 if style.spatial_dims == 2 else 5)
        required(3 <= max_level <= 7, f"the max_level of a SpineNet is from 3 to 7, not {max_level}")
        pooled = build.stem == "paper"
        steps = max_level - FIRST_LEVEL
        strides, _ = build.plan((2 if pooled else 1, 2, *(2,) * steps))
        kernels = build.sizes((7 if pooled else 3, 3, *(3,) * steps))
        grids, one = cumulative(strides)[1:], (1,) * style.spatial_dims
        self.stem = style.unit(build.in_channels, STEM, kernels[0], stride=strides[0])
        self.pool = MAX_POOL[style.spatial_dims](3, strides[1], 1) if pooled else nn.Identity()

        def step(node: _Node) -> int:
            return min(node.level, max_level) - FIRST_LEVEL

        def width(node: _Node) -> int:
            return widths[node.level - FIRST_LEVEL]

        def outer(node: _Node) -> int:
            return width(node) * (EXPANSION if node.bottleneck else 1)

        def blocks(n: int, node: _Node) -> nn.Sequential:
            inputs = [STEM if n == 0 else outer(node), *(outer(node),) * (repeats - 1)]
            down = strides[1] if n == 0 and not pooled else one
            kernel = kernels[step(node) + 1]
            return nn.Sequential(
                *(
                    Block(style, a, width(node), outer(node), kernel, stride=one if m else down, dilation=one)
                    for m, a in enumerate(inputs)
                )
            )

        def path(parent: _Node, node: _Node) -> Resampling:
            between, own, wanted = int(width(parent) * alpha), grids[step(parent)], grids[step(node)]
            return Resampling(style, outer(parent), between, outer(node), own, wanted)

        self.outputs = tuple(level for level in OUTPUTS if level <= max_level)
        unread = {place for level, place in OUTPUTS.items() if level > max_level}
        self.nodes = {n: node for n, node in enumerate(NODES) if n not in unread}
        self.blocks = nn.ModuleList(blocks(n, node) for n, node in self.nodes.items())
        self.paths = nn.ModuleList(
            nn.ModuleList(path(NODES[parent], node) for parent in node.parents)
            for node in self.nodes.values()
        )
        self.activation = nn.ReLU(inplace=True)
        self.ends = nn.ModuleList(style.unit(outer(NODES[OUTPUTS[n]]), end, 1) for n in self.outputs)
        self.maps = Maps((end,) * len(self.outputs), tuple(grids[n - FIRST_LEVEL] for n in self.outputs))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: dict[int, Tensor] = {}
        x = self.pool(self.stem(x))
        for (n, node), paths, block in zip(self.nodes.items(), self.paths, self.blocks, strict=True):
            if node.parents:
                parents = [path(maps[p]) for path, p in zip(within(paths), node.parents, strict=True)]
                x = self.activation(summed([*parents, *(maps[m] for m in node.merged)]))
            x = maps[n] = block(x)
        return [end(maps[OUTPUTS[n]]) for n, end in zip(self.outputs, self.ends, strict=True)]


class Resampling(nn.Module):
    """A map on the grid and with the channels of another: section 3.1 of the paper."""

    def __init__(
        self, style: Style, in_channels: int, between: int, out_channels: int, own: PerAxis, wanted: PerAxis
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [style.unit(in_channels, between, 1)]
        if math.prod(own) > math.prod(wanted):
            parts.append(Enlarge(ratio(own, wanted), "nearest"))
        elif own != wanted:
            rest = ratio(wanted, own)
            step = tuple(min(2, r) for r in rest)
            parts.append(style.unit(between, between, stride=step))
            while max(rest := ratio(rest, step)) > 1:
                step = tuple(min(2, r) for r in rest)
                parts.append(MAX_POOL[style.spatial_dims](3, step, 1))
        self.body = nn.Sequential(*parts, style.unit(between, out_channels, 1, activation="none"))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
