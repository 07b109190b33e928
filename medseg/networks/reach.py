"""Receptive fields, read off a network's own modules.

A position of a feature map sees one interval of input voxels per axis. Strided layers make that
interval depend on the position's phase, so the intervals of one whole period are carried through the
graph of the network: the result is exact, for every phase, and it cannot disagree with the code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

WINDOWS = (
    nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d,
)  # fmt: skip
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
WHOLE_IMAGE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)
POINTWISE = (
    nn.BatchNorm2d, nn.BatchNorm3d, *WHOLE_IMAGE_NORMS, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU,
    nn.GELU, nn.Sigmoid, nn.Softmax, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity,
)  # fmt: skip
MERGES: tuple[Callable[..., Any], ...] = (torch.cat, torch.add, torch.mul, operator.add, operator.mul)

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AxisReach:
    """What the positions of a feature map see along one axis.

    Attributes:
        jump: input voxels between neighbouring positions.
        low: first input voxel position n sees, for the positions of one period.
        high: last one.
        origin: input voxel that position 0 stands for (above 0 after valid convolutions).
    """

    jump: int
    low: Indices
    high: Indices
    origin: int = 0

    @property
    def period(self) -> int:
        """Input voxels a shift must be a multiple of, to shift the feature map with it."""
        return len(self.low) * self.jump

    @property
    def left(self) -> int:
        """Furthest any position sees towards index 0, in input voxels."""
        return int((self._centres() - self.low).max())

    @property
    def right(self) -> int:
        """Furthest any position sees away from index 0."""
        return int((self.high - self._centres()).max())

    @property
    def field(self) -> int:
        """Theoretical receptive field in input voxels."""
        return self.left + 1 + self.right

    @property
    def halo(self) -> int:
        """What a block of whole periods needs around itself, in input voxels."""
        before = self.origin - int(self.low.min())
        after = int(self.high.max()) - (self.origin + self.period - 1)
        return max(before, after, 0)

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> AxisReach:
        """After a convolution or pooling."""
        count = math.lcm(len(self.low), stride) // stride
        first = np.arange(count, dtype=np.int64) * stride - padding
        span = dilation * (kernel - 1)
        return AxisReach(
            self.jump * stride,
            self._at(self.low, first),
            self._at(self.high, first + span),
            self.origin + (span // 2 - padding) * self.jump,
        )

    def transposed(self, kernel: int, stride: int, padding: int) -> AxisReach:
        """After a transposed convolution: position n sees coarse ones ceil((n+p-k+1)/s) to (n+p)//s."""
        jump = self._finer(stride)
        place = np.arange(len(self.low) * stride, dtype=np.int64) + padding
        return AxisReach(
            jump,
            self._at(self.low, -((kernel - 1 - place) // stride)),
            self._at(self.high, place // stride),
            self.origin + (padding - -(-(kernel - stride) // 2)) * jump,
        )

    def blended(self, factor: int) -> AxisReach:
        """After linear interpolation: position n lies at (n + 1/2) / f - 1/2, on a coarse one or between."""
        jump = self._finer(factor)
        place = 2 * np.arange(len(self.low) * factor, dtype=np.int64) + 1 - factor
        return AxisReach(
            jump,
            self._at(self.low, place // (2 * factor)),
            self._at(self.high, -(-place // (2 * factor))),
            self.origin,
        )

    def shared(self, size: int) -> AxisReach:
        """After each position has seen all of its window of `size`, and stays where it is."""
        return replace(self.window(size, size, 0).transposed(size, size, 0), origin=self.origin)

    def cropped(self, margin: int) -> AxisReach:
        """After `margin` positions are cut off at each end."""
        place = np.arange(len(self.low), dtype=np.int64) + margin
        return AxisReach(
            self.jump,
            self._at(self.low, place),
            self._at(self.high, place),
            self.origin + margin * self.jump,
        )

    def union(self, other: AxisReach) -> AxisReach:
        """After concatenation or addition of two feature maps of one resolution."""
        if (self.jump, self.origin) != (other.jump, other.origin):
            raise TypeError(
                f"the network combines maps of different grids: jump {self.jump} from {self.origin}, "
                f"and jump {other.jump} from {other.origin}"
            )
        place = np.arange(math.lcm(len(self.low), len(other.low)), dtype=np.int64)
        low = np.minimum(self._at(self.low, place), other._at(other.low, place))
        high = np.maximum(self._at(self.high, place), other._at(other.high, place))
        return replace(self, low=low, high=high)

    def _finer(self, stride: int) -> int:
        jump, rest = divmod(self.jump, stride)
        if rest:
            raise TypeError(f"a transposed stride of {stride} would exceed the resolution of the input")
        return jump

    def _centres(self) -> Indices:
        return np.arange(len(self.low), dtype=np.int64) * self.jump + self.origin

    def _at(self, bound: Indices, place: Indices) -> Indices:
        periods, within = np.divmod(place, len(bound))
        return np.asarray(bound[within] + periods * self.period, dtype=np.int64)


Reach = tuple[AxisReach, ...]


@runtime_checkable
class Reaching(Protocol):
    """A module that states its own effect on the receptive field."""

    def reach(self, reach: Reach) -> Reach:
        """The field after the module, given the field before it."""


def trace(network: nn.Module, spatial_dims: int) -> dict[str, Reach]:
    """The field after each leaf module, by its dotted name, in order; the last is the output's.

    Args:
        network: one input tensor (B, C, *S), one output (B, K, *S').
        spatial_dims: the length of S.

    Raises:
        TypeError: the network contains an operation without a rule here.
    """
    graph = _Tracer().trace(network)
    start = AxisReach(1, np.zeros(1, np.int64), np.zeros(1, np.int64))
    known: dict[fx.Node, Reach] = {}
    named: dict[str, Reach] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            known[node] = (start,) * spatial_dims
        elif node.op == "call_module":
            before = _merged(known, node.all_input_nodes)
            known[node] = _through(network.get_submodule(str(node.target)), before)
            named[str(node.target)] = known[node]
        elif node.op == "call_function" and node.target in MERGES:
            known[node] = _merged(known, node.all_input_nodes)
        elif node.op != "output":
            raise TypeError(f"the receptive field of {node.op} {node.target} has no rule")
    return named


def tile_independent(network: nn.Module) -> bool:
    """Whether nothing in `network.eval()` looks at the whole tile: no normalisation, mean or attention."""
    running = (
        m.track_running_stats for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    )
    whole = (
        isinstance(m, WHOLE_IMAGE_NORMS) or getattr(m, "sees_the_tile", False) for m in network.modules()
    )
    return all(running) and not any(whole)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Reaching, *WINDOWS, *TRANSPOSED)) or super().is_leaf_module(
            m, module_qualified_name
        )


def _merged(known: Mapping[fx.Node, Reach], nodes: Iterable[fx.Node]) -> Reach:
    per_axis = zip(*(known[n] for n in nodes), strict=True)
    return tuple(reduce(AxisReach.union, axis) for axis in per_axis)


def _through(module: nn.Module, reach: Reach) -> Reach:
    if isinstance(module, Reaching):
        return module.reach(reach)
    if isinstance(module, POINTWISE):
        return reach
    if not isinstance(module, (*WINDOWS, *TRANSPOSED)):
        raise TypeError(f"the receptive field of {type(module).__name__} has no rule")
    kernel, stride, padding, dilation = (
        _per_axis(getattr(module, name, 1), len(reach))
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    if isinstance(module, TRANSPOSED):
        settings = zip(reach, kernel, stride, padding, strict=True)
        return tuple(r.transposed(k, s, p) for r, k, s, p in settings)
    return tuple(r.window(*rest) for r, *rest in zip(reach, kernel, stride, padding, dilation, strict=True))


def _per_axis(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value)
