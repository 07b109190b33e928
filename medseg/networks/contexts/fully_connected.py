"""Fully connected layers as convolutions (FCN: Long et al. 2015, arXiv:1411.4038), section 3.1.

DeconvNet (Noh et al. 2015, arXiv:1505.04366), table 1, puts a transposed convolution behind them.
"""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.parts import Maps, Style, Transposed

PAPER, VOLUME = (4096, 7), (1024, 3)
"""Channels and kernel; those of a volume, where a kernel of 7 an axis alone has 719 million weights."""


class FullyConnected(nn.Module):
    """fc6 and fc7: a wide convolution, then one of a single voxel.

    Args:
        fc: channels; 0 for 4096 in two dimensions, 1024 in three.
        fc_kernel: of the first; 0 for 7 in two dimensions, 3 in three.
        dropout: behind each.
        back: channels of a transposed convolution of the same kernel that follows; 0 for none.
    """

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        fc: int = 0,
        fc_kernel: int = 0,
        dropout: float = 0.5,
        back: int = 0,
    ) -> None:
        super().__init__()
        width, kernel = PAPER if style.spatial_dims == 2 else VOLUME
        width, kernel = fc or width, fc_kernel or kernel
        parts: list[nn.Module] = [
            style.unit(maps.widths[-1], width, kernel, bias=True, dropout=dropout),
            style.unit(width, width, 1, bias=True, dropout=dropout),
        ]
        if back:
            parts.append(Transposed(style, width, back, kernel=kernel))
        self.body = nn.Sequential(*parts)
        self.channels = back or width

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
