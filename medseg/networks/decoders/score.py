"""A classifier on the last map alone, as FCN heads, PSPNet, DeepLab v3 and HRNet end."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.layers import dropping
from medseg.networks.parts import Maps, Style, required


class Score(nn.Module):
    """A convolution with norm, dropout, and the scores of each voxel.

    Args:
        share: the convolution has the map's channels divided by this; 0 for none.
        score_kernel: of that convolution.
        score_dropout: before the scores.
    """

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        share: int = 0,
        score_kernel: int = 3,
        score_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        channels = maps.widths[-1]
        width = max(channels // share, 1) if share else channels
        hidden = [style.unit(channels, width, score_kernel, bias=score_kernel == 1)] if share else []
        self.body = nn.Sequential(*hidden, dropping(score_dropout), style.conv(width, out_channels))
        self.stride = maps.strides[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        out: Tensor = self.body(maps[-1])
        return out


class LastMap(nn.Module):
    """The last map, which is the logits already."""

    def __init__(self, style: Style, maps: Maps, out_channels: int) -> None:
        super().__init__()
        required(
            maps.widths[-1] == out_channels,
            f"the decoder last_map takes the last map as it is, which has {maps.widths[-1]} channels, and "
            f"{out_channels} are needed; take the decoder score, or the context atrous_sum before it",
        )
        self.stride = maps.strides[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[-1]
