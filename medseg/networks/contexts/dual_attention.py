"""Attention over positions and channels (DANet: Fu et al. 2019, arXiv:1809.02983), sections 3.2 to 3.4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.networks.layers import dropping
from medseg.networks.parts import GlobalContext, Maps, Style

QUERIES, DROPOUT = 8, 0.1


class DualAttention(nn.Module):
    """The sum of a map with attention over positions and one with attention over channels: figure 2.

    Each has a classifier of its own in training, besides that of the sum. Attention over positions takes
    memory by the square of their number: 64 MiB for 16^3 in float32, 729 MiB for 24^3.

    Args:
        width: channels of the map; 0 for a quarter of the input's.
    """

    answer_weights = (1.0, 1.0)

    def __init__(self, style: Style, maps: Maps, out_channels: int, *, width: int = 0) -> None:
        super().__init__()
        channels = maps.widths[-1]
        self.channels = width or channels // 4
        inner = self.channels

        def branch(attention: nn.Module) -> nn.Sequential:
            return nn.Sequential(style.unit(channels, inner), attention, style.unit(inner, inner))

        self.position = branch(PositionAttention(style, inner))
        self.channel = branch(ChannelAttention())
        self.classifiers = nn.ModuleList(
            nn.Sequential(dropping(DROPOUT), style.conv(inner, out_channels)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.position(x) + self.channel(x)
        return out

    def answers(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The map, and the logits of positions and of channels alone."""
        branches = [self.position(x), self.channel(x)]
        return branches[0] + branches[1], [c(b) for c, b in zip(self.classifiers, branches, strict=True)]


class PositionAttention(GlobalContext):
    """gamma softmax(q k) v + x over all pairs of positions: equations 1 and 2. gamma begins at 0."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        between = max(channels // QUERIES, 1)
        self.query, self.key = style.conv(channels, between), style.conv(channels, between)
        self.value = style.conv(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(dim=-1)
        found: Tensor = value @ weights.transpose(1, 2)
        return self.gamma * found.reshape(x.shape) + x


class ChannelAttention(GlobalContext):
    """gamma softmax(max - e) x + x over all pairs of channels, e their products: equations 3 and 4.

    The paper has softmax(e); the authors' code takes e from its row's maximum, and so do we.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        energy = flat @ flat.transpose(1, 2)
        weights = (energy.amax(dim=-1, keepdim=True) - energy).softmax(dim=-1)
        return self.gamma * (weights @ flat).reshape(x.shape) + x
