"""Decoders that mirror an encoder and unpool by its maxima: SegNet, DeconvNet.

SegNet: Badrinarayanan et al. 2017, arXiv:1511.00561, section 3; DeconvNet: Noh et al. 2015,
arXiv:1505.04366, section 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.parts import Maps, Style, Transposed, Unpool


class Unpooling(nn.Module):
    """From the deepest map, at each finer resolution: unpooling by the maxima of its last map, convolutions.

    Args:
        convolutions: at each resolution, finest first; the last of the finest gives the logits.
        transposed: transposed convolutions, and one of a single voxel for the logits (DeconvNet).
    """

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        convolutions: tuple[int, ...] = (2, 2, 3, 3, 3),
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[:-1]
        last = len(maps.widths) - 1
        own = maps.taken((*self.taken, last))
        widths = own.widths[:-1]
        self.start = (
            nn.Identity() if own.widths[-1] == widths[-1] else style.unit(own.widths[-1], widths[-1], 1)
        )
        self.unpool = nn.ModuleList(Unpool(own.factor(n + 1, n)) for n in range(len(widths)))

        def unit(a: int, b: int) -> nn.Module:
            return Transposed(style, a, b) if transposed else style.unit(a, b, bias=True)

        self.stages = nn.ModuleList()
        for n, width in enumerate(widths):
            count = convolutions[min(n, len(convolutions) - 1)]
            finer = widths[n - 1] if n else width if transposed else 0
            inner = [unit(width, width) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*inner, *([unit(width, finer)] if finer else [])))
        self.head = style.conv(widths[0], out_channels, 1 if transposed else 3)
        self.stride = own.strides[0]

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.start(maps[-1])
        for n in reversed(range(len(self.taken))):
            x = self.stages[n](self.unpool[n](x, maps[self.taken[n]]))
        out: Tensor = self.head(x)
        return out
