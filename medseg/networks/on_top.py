"""What options of a recipe put on top of any network: other scales of the image, or a random field."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from medseg.networks.layers import PerAxis, Segmenter, Supervised, gate_of
from medseg.networks.parts import keyword_types
from medseg.networks.reach import Reach


class OnTop(Segmenter):
    """A network that changes what another answers.

    Args:
        network: the other.
        in_channels: image channels C.
        shrunk: the other sees the image this many times smaller at least once.
    """

    def __init__(self, network: Segmenter, in_channels: int, *, shrunk: int = 1) -> None:
        super().__init__(network.spatial_dims)
        self.gate = gate_of(in_channels, (tuple(shrunk * s for s in network.stride),))
        self.network = network

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Names and types of what a recipe says of it."""
        return keyword_types(cls)

    @property
    def head_weights(self) -> tuple[float, ...]:
        """Those of the other's heads."""
        return self.network.head_weights if isinstance(self.network, Supervised) else (1.0,)

    def answers(self, x: Tensor) -> list[Tensor]:
        """What every head of the other says, the final one first."""
        return self.network.heads(x) if isinstance(self.network, Supervised) else [self.network(x)]

    @cached_property
    def output_reach(self) -> Reach:
        """What the output sees of the input, per axis; empty where the other is not traced."""
        return super().output_reach if self.network.output_reach else ()

    @property
    def stride(self) -> PerAxis:
        """What each axis must be a multiple of."""
        return self.gate.stride

    @property
    def receptive_radius(self) -> PerAxis:
        """Voxels beyond which nothing is seen; 0 where that is not known."""
        return super().receptive_radius if self.output_reach else (0,) * self.spatial_dims

    @property
    def tile_independent(self) -> bool:
        """Whether, in eval mode, a voxel's output depends only on its receptive field."""
        return bool(self.output_reach) and self.network.tile_independent and super().tile_independent


class Voxelwise(nn.Module):
    """A module whose output sees at each voxel what its inputs see there."""

    def reach(self, before: Reach) -> Reach:
        return before
