"""Global convolution and boundary refinement (Peng et al. 2017, arXiv:1703.02719), section 3 and figure 2."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.parts import Maps, Style, summed, within

LEVELS = 4


class GlobalConvolution(nn.Module):
    """Scores of the last map of each of the four coarsest strides, each from a field of `size` an axis.

    A dense kernel of that size is taken apart into kernels of one axis each, in as many orders as there are
    axes.

    Args:
        size: of the kernels along their axis; the paper's largest is 15.
    """

    def __init__(self, style: Style, maps: Maps, out_channels: int, *, size: int = 7) -> None:
        super().__init__()
        dims = style.spatial_dims
        self.taken = maps.last_of_each_stride()[-LEVELS:]
        own = maps.taken(self.taken)

        def order(width: int, first: int) -> nn.Sequential:
            axes = [(first + n) % dims for n in range(dims)]
            kernels = [tuple(size if axis == n else 1 for n in range(dims)) for axis in axes]
            return nn.Sequential(
                *(style.conv(out_channels if n else width, out_channels, k) for n, k in enumerate(kernels))
            )

        self.orders = nn.ModuleList(nn.ModuleList(order(w, n) for n in range(dims)) for w in own.widths)
        self.refine = nn.ModuleList(BoundaryRefinement(style, out_channels) for _ in own.widths)
        self.maps = own.of_width(out_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [
            refine(summed([order(maps[n]) for order in within(orders)]))
            for n, orders, refine in zip(self.taken, self.orders, self.refine, strict=True)
        ]


class BoundaryRefinement(nn.Module):
    """x + conv(relu(conv(x))): section 3.2."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            style.conv(channels, channels, 3), nn.ReLU(inplace=True), style.conv(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out
