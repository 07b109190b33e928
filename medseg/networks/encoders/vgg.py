"""VGG (Simonyan and Zisserman 2015, arXiv:1409.1556), table 1: configurations A, B, D and E.

Deviations: none of the fully connected layers, which are a context here; a norm may stand behind each
convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.encoders.encoder import Build, Encoder, cumulative
from medseg.networks.layers import MAX_POOL, chain
from medseg.networks.parts import Maps, required

PAPER_WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(Encoder):
    """Five stages of convolutions, a pooling behind each; the maps are those before and behind each pooling.

    Args:
        build: its strides are those of the poolings.
        depth: 11, 13, 16 or 19.
        pool: kernel of the poolings: 2, or 3 with a padding of 1 (DeepLab, arXiv:1412.7062, section 3).
    """

    def __init__(self, build: Build, *, depth: int, pool: int = 2) -> None:
        super().__init__()
        style, widths = build.style, build.widths or PAPER_WIDTHS
        required(len(widths) == 5, f"a VGG has 5 widths, not {widths}")
        strides, dilation = build.plan((2,) * 5)
        kernels = build.sizes((3,) * 5)
        self.stages = nn.ModuleList(
            chain(
                (first, *(widths[n],) * CONVOLUTIONS[depth][n]),
                lambda a, b, n=n: style.unit(a, b, kernels[n], dilation=dilation[n], bias=True),
            )
            for n, first in enumerate((build.in_channels, *widths[:-1]))
        )
        size = MAX_POOL[style.spatial_dims]
        self.pools = nn.ModuleList(size(3, s, 1) if pool == 3 else size(s) for s in strides)
        totals = cumulative([(1,) * style.spatial_dims, *strides])
        self.maps = Maps(
            tuple(w for w in widths for _ in range(2)), tuple(t for n in range(5) for t in totals[n : n + 2])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for stage, pool in zip(self.stages, self.pools, strict=True):
            maps.append(stage(x))
            x = pool(maps[-1])
            maps.append(x)
        return maps
