"""LinkNet's decoder (Chaurasia and Culurciello 2017, arXiv:1707.03718), section III and the authors' code."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.layers import TRANSPOSED, PerAxis
from medseg.networks.parts import Maps, Style, Transposed


class Addition(nn.Module):
    """Bottlenecks with a transposed convolution, whose output is added to the finer map.

    Of an encoder whose stem is pooled, the finest map is the pooled one; the last two convolutions enlarge
    what is left.
    """

    def __init__(self, style: Style, maps: Maps, out_channels: int) -> None:
        super().__init__()
        first, *rest = maps.last_of_each_stride()[:-1]
        pooled = 1 not in rest and maps.strides[1] != maps.strides[0]
        self.taken = (1 if pooled else first, *rest)
        own = maps.taken((*self.taken, len(maps.widths) - 1))
        self.steps = nn.ModuleList(
            Step(style, own.widths[n + 1], own.widths[n], own.factor(n + 1, n))
            for n in range(len(self.taken))
        )
        finest, left = own.widths[0], own.strides[0]
        begin = tuple(2 if s % 2 == 0 else 1 for s in left)
        end = tuple(s // b for s, b in zip(left, begin, strict=True))
        width = max(finest // 2, 1)
        self.end = nn.Sequential(
            Transposed(style, finest, width, stride=begin),
            style.unit(width, width, bias=True),
            TRANSPOSED[style.spatial_dims](width, out_channels, end, stride=end),
        )
        self.stride = style.sized(1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for n in reversed(range(len(self.taken))):
            x = self.steps[n](x) + maps[self.taken[n]]
        out: Tensor = self.end(x)
        return out


class Step(nn.Module):
    """Fewer channels, a transposed convolution, the channels wanted: figure 2 (b)."""

    def __init__(self, style: Style, in_channels: int, out_channels: int, factor: PerAxis) -> None:
        super().__init__()
        between = max(in_channels // 4, 1)
        self.body = nn.Sequential(
            style.unit(in_channels, between, 1),
            Transposed(style, between, between, stride=factor, bias=False),
            style.unit(between, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
