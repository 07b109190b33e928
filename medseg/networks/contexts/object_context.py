"""Object-contextual representations (OCR: Yuan et al. 2020, arXiv:1909.11065), section 3.2 and figure 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import dropping
from medseg.networks.parts import GlobalContext, Maps, Style


class ObjectContext(nn.Module):
    """Each position beside what it attends to among the mean features of the structures.

    The structures' features are means weighted by a first answer, which has a loss of its own in training.

    Args:
        width: channels of the map.
        key: channels of the attention.
        dropout: behind the mixture.
    """

    answer_weights = (0.4,)

    def __init__(
        self,
        style: Style,
        maps: Maps,
        out_channels: int,
        *,
        width: int = 512,
        key: int = 256,
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        channels = maps.widths[-1]
        self.pixels = style.unit(channels, width, bias=True)
        self.first = nn.Sequential(
            style.unit(channels, channels, 1, bias=True), style.conv(channels, out_channels)
        )
        self.regions = Regions()
        self.query = nn.Sequential(style.unit(width, key, 1), style.unit(key, key, 1))
        self.key = nn.Sequential(style.unit(width, key, 1), style.unit(key, key, 1))
        self.value = style.unit(width, key, 1)
        self.attention = Attention()
        self.back = style.unit(key, width, 1)
        self.mix = nn.Sequential(style.unit(2 * width, width, 1), dropping(dropout))
        self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        return self._mixed(x, self.first(x))

    def answers(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The map, and the logits of the first answer."""
        first = self.first(x)
        return self._mixed(x, first), [first]

    def _mixed(self, x: Tensor, first: Tensor) -> Tensor:
        pixels = self.pixels(x)
        objects = self.regions(pixels, first)
        found = self.attention(self.query(pixels), self.key(objects), self.value(objects))
        out: Tensor = self.mix(torch.cat((self.back(found), pixels), dim=1))
        return out


class Regions(GlobalContext):
    """Mean features of each structure, by a softmax over the voxels: (B, C, K, 1 ...), equation 2."""

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        weights = logits.flatten(2).softmax(dim=-1)
        objects = x.flatten(2) @ weights.transpose(1, 2)
        return objects.reshape(*objects.shape, *(1,) * (x.ndim - 3))


class Attention(GlobalContext):
    """What each voxel attends to among the structures: (B, C, *S), equations 3 and 4."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scale = query.shape[1] ** -0.5
        weights = (scale * (query.flatten(2).transpose(1, 2) @ key.flatten(2))).softmax(dim=-1)
        found: Tensor = value.flatten(2) @ weights.transpose(1, 2)
        return found.reshape(-1, value.shape[1], *query.shape[2:])
