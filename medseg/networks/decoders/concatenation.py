"""Decoders of a U-Net on any encoder: each finer map is concatenated to the enlarged one.

U-Net: arXiv:1505.04597, with blocks as in segmentation_models.pytorch; TernausNet: Iglovikov and Shvets 2018,
arXiv:1801.05746, figure 1 and the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.parts import Maps, Style, Transposed

WIDTHS = (256, 128, 64, 32, 16)


class Concatenation(nn.Module):
    """Nearest neighbours, the finer map beside them, two convolutions; down to the image's resolution.

    Args:
        decoder_widths: channels behind each step, coarsest first; the last counts for all further ones.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, decoder_widths: tuple[int, ...] = WIDTHS
    ) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[:-1]
        own = maps.taken((*self.taken, len(maps.widths) - 1))
        self.enlarge, self.mix = nn.ModuleList(), nn.ModuleList()
        factors = [own.factor(n + 1, n) for n in reversed(range(len(self.taken)))]
        widths = list(reversed(own.widths[:-1]))
        if max(own.strides[0]) > 1:
            factors.append(own.strides[0])
            widths.append(0)
        channels = own.widths[-1]
        for n, (factor, skip) in enumerate(zip(factors, widths, strict=True)):
            width = decoder_widths[min(n, len(decoder_widths) - 1)]
            self.enlarge.append(Enlarge(factor, "nearest"))
            self.mix.append(nn.Sequential(style.unit(channels + skip, width), style.unit(width, width)))
            channels = width
        self.head = style.conv(channels, out_channels, 3)
        self.stride = style.sized(1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        skips = [maps[n] for n in self.taken]
        for enlarge, mix in zip(self.enlarge, self.mix, strict=True):
            x = enlarge(x)
            x = mix(torch.cat((x, skips.pop()), dim=1) if skips else x)
        out: Tensor = self.head(x)
        return out


class Ternaus(nn.Module):
    """A convolution and a transposed one, then the finer map beside them.

    Behind the convolution there are twice the channels of the coarsest but one transposed one and so on: all
    are shares of the encoder's first width.
    """

    MIDDLE, BEHIND = (8, 8, 8, 4, 2), (4, 4, 2, 1, 0.5)

    def __init__(self, style: Style, maps: Maps, out_channels: int) -> None:
        super().__init__()
        self.taken = maps.last_of_each_stride()[:-1]
        own = maps.taken((*self.taken, len(maps.widths) - 1))
        base, channels = own.widths[0], own.widths[-1]
        self.steps = nn.ModuleList()
        for n, place in enumerate(reversed(range(len(self.taken)))):
            share = min(n, len(self.MIDDLE) - 1)
            middle, behind = int(base * self.MIDDLE[share]), max(int(base * self.BEHIND[share]), 1)
            up = Transposed(style, middle, behind, stride=own.factor(place + 1, place))
            self.steps.append(nn.Sequential(style.unit(channels, middle, bias=True), up))
            channels = behind + own.widths[place]
        last = max(base // 2, 1)
        self.head = nn.Sequential(style.unit(channels, last, bias=True), style.conv(last, out_channels))
        self.stride = own.strides[0]

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for step, n in zip(self.steps, reversed(self.taken), strict=True):
            x = torch.cat((step(x), maps[n]), dim=1)
        out: Tensor = self.head(x)
        return out
