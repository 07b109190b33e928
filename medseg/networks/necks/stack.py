"""All maps at the finest resolution, concatenated (HRNetV2: Sun et al. 2019, arXiv:1904.04514), section 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style


class Stack(nn.Module):
    """The last maps of the four coarsest strides, interpolated linearly to the finest, concatenated."""

    def __init__(self, style: Style, maps: Maps, out_channels: int) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[-4:]
        own = maps.taken(self.taken)
        self.enlarge = nn.ModuleList(Enlarge(own.factor(n, 0), "linear") for n in range(1, len(self.taken)))
        self.maps = Maps((sum(own.widths),), own.strides[:1])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        first, *rest = (maps[n] for n in self.taken)
        return [torch.cat([first, *(e(x) for e, x in zip(self.enlarge, rest, strict=True))], dim=1)]
