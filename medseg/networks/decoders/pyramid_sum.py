"""The semantic branch of Panoptic FPN (Kirillov et al. 2019, arXiv:1901.02446), section 3.1 and figure 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from medseg.model.spec import Norm
from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style, halved, summed


class PyramidSum(nn.Module):
    """Every map brought to the finest by convolutions and linear doubling, and added.

    Args:
        head: channels.
        head_norm: of these convolutions; "" for that of the network.
    """

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        head: int = 128,
        head_norm: Norm | Literal[""] = "group",
    ) -> None:
        super().__init__()
        own = replace(style, norm=head_norm or style.norm)

        def path(n: int) -> nn.Sequential:
            steps = halved(maps.factor(n, 0))
            parts: list[nn.Module] = [] if steps else [own.unit(maps.widths[n], head)]
            for m, factor in enumerate(steps):
                parts += [own.unit(head if m else maps.widths[n], head), Enlarge(factor, "linear")]
            return nn.Sequential(*parts)

        self.paths = nn.ModuleList(path(n) for n in range(len(maps.widths)))
        self.score = own.conv(head, out_channels)
        self.stride = maps.strides[0]

    def forward(self, maps: list[Tensor]) -> Tensor:
        found = [path(x) for path, x in zip(self.paths, maps, strict=True)]
        out: Tensor = self.score(summed(found))
        return out
