"""One network at several scales of the image, whose answers are blended.

Tao, Sapra and Catanzaro 2020 (arXiv:2005.10821), section 3.1: beside its logits, the network tells at each
voxel how far a scale is to be trusted before the finer ones ("hierarchical" attention). Chen et al. 2016
(arXiv:1511.03339), section 3.2: weights of all scales by a softmax ("explicit"). There the attention has
convolutions of its own; here it is one more output of the network's last layer, which any network has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError, unknown_name
from medseg.networks.layers import AVERAGE_POOL, Enlarge, Segmenter, SpatialDims
from medseg.networks.on_top import OnTop, Voxelwise
from medseg.networks.reach import Reach

MOST = 8
"""Times that an image is made larger or smaller."""

Fusion = Literal["attention", "explicit"]


class AcrossScales(OnTop):
    """A network's answers at several scales, from the finest to the coarsest, on the image's grid.

    Args:
        network: of one output more than there are: the attention.
        in_channels: image channels C.
        scales: the image is so many times larger; whole numbers and shares 1/n, 1 among them.
        fusion: "attention", p <- a_s p_s + (1 - a_s) p for one scale s after the other; or
            "explicit", weights by a softmax over the scales.

    Raises:
        UsageError: a scale is another number, or the network's answer is smaller than the image.
    """

    def __init__(
        self,
        network: Segmenter,
        in_channels: int,
        *,
        scales: tuple[float, ...] = (0.5, 1.0),
        fusion: Fusion = "attention",
    ) -> None:
        ordered = _ordered(scales)
        super().__init__(network, in_channels, shrunk=max(round(1 / s) for s in ordered))
        if any(axis.origin for axis in network.output_reach):
            raise UsageError("a network of valid convolutions cannot look at several scales")
        if fusion not in get_args(Fusion):
            raise unknown_name("fusion", fusion, get_args(Fusion))
        self.own = ordered.index(1.0)
        self.to_scale = nn.ModuleList(_resized(s, network.spatial_dims) for s in ordered)
        self.to_image = nn.ModuleList(_resized(1 / s, network.spatial_dims) for s in ordered)
        first, then = (Logits, Weigh) if fusion == "attention" else (nn.Identity, nn.Identity)
        self.weigh = nn.ModuleList([first(), *(then() for _ in ordered[1:])])
        self.fuse = Chain() if fusion == "attention" else Softmax()
        self.further = Logits()

    @cached_property
    def output_reach(self) -> Reach:
        """None where a scale is finer than the image: what is seen of it has no whole steps."""
        return () if self.own else super().output_reach

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.gate(x)
        return self._fused([self.network(to_scale(x)) for to_scale in self.to_scale])

    def heads(self, x: Tensor) -> list[Tensor]:
        """The blended logits, and those of the network's further heads on the image as it is."""
        x = self.gate(x)
        own = self.answers(x)
        scaled = [own[0] if n == self.own else self.network(to(x)) for n, to in enumerate(self.to_scale)]
        return [self._fused(scaled), *map(self.further, own[1:])]

    def _fused(self, answers: list[Tensor]) -> Tensor:
        ways = zip(self.to_image, self.weigh, answers, strict=True)
        return cast(Tensor, self.fuse(*(to_image(weigh(answer)) for to_image, weigh, answer in ways)))


class Weigh(Voxelwise):
    """Logits multiplied by their attention, and the attention: (B, K + 1, *S)."""

    def forward(self, x: Tensor) -> Tensor:
        attention = x[:, -1:].sigmoid()
        return torch.cat((x[:, :-1] * attention, attention), dim=1)


class Chain(Voxelwise):
    """The finest logits, then each coarser scale's, weighed already, so far as its attention goes."""

    def forward(self, blended: Tensor, *coarser: Tensor) -> Tensor:
        for x in coarser:
            blended = x[:, :-1] + (1 - x[:, -1:]) * blended
        return blended


class Softmax(Voxelwise):
    """The sum of all answers, weighted by a softmax of their last channels."""

    def forward(self, *answers: Tensor) -> Tensor:
        every = torch.stack(answers)
        return (every[:, :, :-1] * every[:, :, -1:].softmax(dim=0)).sum(dim=0)


class Logits(Voxelwise):
    """Logits without the attention."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :-1]


def _ordered(scales: Sequence[float]) -> list[float]:
    """Scales from the finest to the coarsest.

    Raises:
        UsageError: one is neither a whole number nor 1/n, is there twice, or 1 is not there.
    """
    larger = [max(s, 1 / s) if s > 0 else 0.0 for s in scales]
    whole = all(1 <= n <= MOST and abs(n - round(n)) < 1e-2 for n in larger)
    exact = [float(round(s)) if s >= 1 else 1 / round(1 / s) for s in scales] if whole else []
    if not whole or len(set(exact)) < len(exact) or 1.0 not in exact:
        raise UsageError(
            f"scales must be 1 and whole numbers up to {MOST}, or shares of 1 such as 0.5, each once, "
            f"not {tuple(scales)}"
        )
    return sorted(exact, reverse=True)


def _resized(scale: float, dims: SpatialDims) -> nn.Module:
    """Linear interpolation to a finer grid, means to a coarser one."""
    if scale == 1:
        return nn.Identity()
    if scale > 1:
        return Enlarge((round(scale),) * dims, "linear")
    return AVERAGE_POOL[dims](round(1 / scale))
