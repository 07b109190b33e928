"""Building blocks of the networks."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.core.errors import UsageError, unknown_name
from medseg.model.spec import Norm, Option
from medseg.networks import reach
from medseg.networks.arithmetic import Conv2d

SpatialDims = Literal[2, 3]
PerAxis = tuple[int, ...]

Build = Callable[..., nn.Module]

CONV: dict[int, Build] = {2: Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Build] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Build] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL: dict[int, Build] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
MEMORY_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
"""What convolutions prefer, by the number of spatial axes."""

BATCH_NORM: dict[int, Build] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM: dict[int, Build] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
NORM: dict[str, Build] = {
    "batch": lambda dims, channels: BATCH_NORM[dims](channels),
    "instance": lambda dims, channels: INSTANCE_NORM[dims](channels, affine=True),
    "group": lambda dims, channels: nn.GroupNorm(math.gcd(8, channels), channels),
    "layer": lambda dims, channels: ChannelNorm(channels),
    "none": lambda dims, channels: nn.Identity(),
}
ACTIVATION: dict[str, Build] = {
    "relu": lambda channels: nn.ReLU(inplace=True),
    "leaky_relu": lambda channels: nn.LeakyReLU(0.01, inplace=True),
    "elu": lambda channels: nn.ELU(inplace=True),
    "prelu": lambda channels: nn.PReLU(channels),
    "none": lambda channels: nn.Identity(),
}


def choose(table: dict[str, Build], name: str, what: str) -> Build:
    """`table[name]`, or a UsageError that lists the names."""
    if name not in table:
        raise unknown_name(what, name, table)
    return table[name]


def _per_level(
    values: Sequence[Sequence[int]], *, levels: int, spatial_dims: SpatialDims, default: int, what: str
) -> tuple[PerAxis, ...]:
    """One tuple of `spatial_dims` sizes per level; `default` everywhere where none are given.

    Raises:
        UsageError: the number of levels or axes differs, or a size is below 1.
    """
    given = tuple(tuple(v) for v in values) or ((default,) * spatial_dims,) * levels
    right = len(given) == levels and all(len(v) == spatial_dims and min(v) >= 1 for v in given)
    if not right:
        raise UsageError(f"{what} must be {levels} tuples of {spatial_dims} sizes of at least 1, not {given}")
    return given


def level_kernels(
    kernels: Sequence[Sequence[int]], levels: int, spatial_dims: SpatialDims, *, default: int = 3
) -> tuple[PerAxis, ...]:
    """The kernel of each level, see `_per_level`, when each has a centre.

    Raises:
        UsageError: a kernel is even.
    """
    found = _per_level(kernels, levels=levels, spatial_dims=spatial_dims, default=default, what="kernels")
    if any(k % 2 == 0 for kernel in found for k in kernel):
        raise UsageError(f"kernels must be odd along every axis, not {found}")
    return found


def level_strides(strides: Sequence[Sequence[int]], steps: int, dims: SpatialDims) -> tuple[PerAxis, ...]:
    """The stride of each step from a level to the next, 2 where none are given; see `_per_level`."""
    return _per_level(strides, levels=steps, spatial_dims=dims, default=2, what="strides")


def level_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The widths, when there are two levels or more and each has channels.

    Raises:
        UsageError: there are fewer, or a width is below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise UsageError(f"widths must be two or more positive numbers, not {tuple(widths)}")
    return tuple(widths)


def products(strides: Sequence[PerAxis]) -> PerAxis:
    """Total stride per axis."""
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


class ConvUnit(nn.Module):
    """Convolution, normalisation, activation, dropout; (B, C, *S) -> (B, C', *S / stride).

    Without padding, less by k - 1.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        kernel: PerAxis,
        norm: Norm,
        activation: str,
        stride: int | PerAxis = 1,
        dilation: PerAxis | None = None,
        groups: int = 1,
        padding: bool = True,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dilation = dilation or (1,) * spatial_dims
        pad = tuple(d * (k // 2) if padding else 0 for k, d in zip(kernel, dilation, strict=True))
        self.conv = CONV[spatial_dims](
            in_channels, out_channels, kernel, stride, pad, dilation=dilation, groups=groups, bias=bias
        )
        self.norm = choose(NORM, norm, "normalisation")(spatial_dims, out_channels)
        self.activation = choose(ACTIVATION, activation, "activation")(out_channels)
        self.dropout = dropping(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.activation(self.norm(self.conv(x)))))


def dropping(share: float) -> nn.Module:
    """Dropout of a share of the values in training; nothing where the share is 0.

    Raises:
        UsageError: the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"dropout must be in [0, 1), not {share}")
    return nn.Dropout(share) if share else nn.Identity()


def chain(channels: Sequence[int], unit: Build) -> nn.Sequential:
    """One `unit(C, C')` for each neighbouring pair of channels, in turn."""
    return nn.Sequential(*(unit(a, b) for a, b in pairwise(channels)))


class ChannelNorm(nn.Module):
    """Layer norm (Ba et al. 2016, arXiv:1607.06450) over the channels of each voxel by itself.

    It depends neither on the batch nor on the tile. In a channels-last layout nothing is moved.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        voxels = x.movedim(1, -1)
        return functional.layer_norm(voxels, self.weight.shape, self.weight, self.bias).movedim(-1, 1)

    def reach(self, before: reach.Reach) -> reach.Reach:
        return before


class CentreCrop(nn.Module):
    """Cuts `margin` voxels off both ends of each axis; a view."""

    def __init__(self, margin: PerAxis) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        for axis, margin in enumerate(self.margin, start=2):
            x = x.narrow(axis, margin, x.shape[axis] - 2 * margin) if margin else x
        return x

    def reach(self, before: reach.Reach) -> reach.Reach:
        return tuple(r.cropped(m) for r, m in zip(before, self.margin, strict=True))


class Enlarge(nn.Module):
    """Interpolation of a map by whole factors; (B, C, *S) -> (B, C, *S * factor). It has no weights.

    Args:
        factor: per axis.
        kind: "nearest" copies each position; "linear" blends the two nearest along each axis, voxels being
            boxes whose values stand at their centres (`align_corners=False`); "nails" puts each value at the
            first place of its block, and 0 elsewhere ("bed of nails").
    """

    def __init__(self, factor: PerAxis, kind: Literal["nearest", "linear", "nails"]) -> None:
        super().__init__()
        self.factor, self.kind = factor, kind
        self.mode = ("bilinear", "trilinear")[len(factor) - 2] if kind == "linear" else "nearest"

    def forward(self, x: Tensor) -> Tensor:
        grown = functional.interpolate(x, scale_factor=[float(f) for f in self.factor], mode=self.mode)
        if self.kind == "nails":
            for axis, factor in enumerate(self.factor, start=2):
                place = torch.arange(grown.shape[axis], device=x.device) % factor == 0
                grown = grown * place.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1 - axis))
        return grown

    def reach(self, before: reach.Reach) -> reach.Reach:
        axes = zip(before, self.factor, strict=True)
        if self.kind != "linear":
            return tuple(r.transposed(f, f, 0) for r, f in axes)
        return tuple(r.blended(f) for r, f in axes)


class Shrinkage:
    """Voxels that valid convolutions take off, two of them per stage of a U-Net.

    Args:
        kernels: of each level, per axis.
        pool: strides between neighbouring levels, per axis.
    """

    def __init__(self, kernels: tuple[PerAxis, ...], pool: tuple[PerAxis, ...]) -> None:
        self.stage = tuple(tuple(2 * (k - 1) for k in kernel) for kernel in kernels)
        self.pool = pool

    def lost(self, level: int) -> PerAxis:
        """From the input of `level` to its output, both ends together."""
        if level == len(self.pool):
            return self.stage[level]
        below = zip(self.stage[level], self.pool[level], self.lost(level + 1), strict=True)
        return tuple(2 * own + s * deeper for own, s, deeper in below)

    def crop(self, level: int) -> CentreCrop:
        """Of the shortcut of `level`, to fit the up-convolved map."""
        margin = (s * n // 2 for s, n in zip(self.pool[level], self.lost(level + 1), strict=True))
        return CentreCrop(tuple(margin))

    def lattice(self, level: int = 0) -> PerAxis:
        """Smallest input of `level` every pooling divides, for an empty bottom."""
        if level == len(self.pool):
            return (0,) * len(self.stage[level])
        below = zip(self.stage[level], self.pool[level], self.lattice(level + 1), strict=True)
        return tuple(own + s * deeper for own, s, deeper in below)


class InputGate(nn.Module):
    """Refuses an input that the network cannot take, and passes any other unchanged.

    Args:
        channels: channels the network was built for.
        stride: each axis must be `rest` plus a multiple of it,
        rest: which is 0 for padded networks,
        above: and longer than this.
    """

    def __init__(self, channels: int, stride: PerAxis, rest: PerAxis, above: PerAxis) -> None:
        super().__init__()
        self.channels, self.stride, self.rest, self.above = channels, stride, rest, above

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            self._check(x)
        return x

    def reach(self, before: reach.Reach) -> reach.Reach:
        return before

    def _check(self, x: Tensor) -> None:
        shape, axes = tuple(x.shape), " x ".join("IJK"[: len(self.stride)])
        if not x.is_floating_point():
            raise UsageError(f"the network takes floating-point numbers, not {x.dtype}")
        if len(shape) != len(self.stride) + 2 or shape[1] != self.channels:
            raise UsageError(f"the network takes an input of shape B x {self.channels} x {axes}, not {shape}")
        sizes = zip(shape[2:], self.stride, self.rest, self.above, strict=True)
        if any((n - r) % s or n <= a for n, s, r, a in sizes):
            taken = f"sizes that are multiples of {self.stride}"
            if any((*self.rest, *self.above)):
                taken = f"sizes above {self.above} that are {self.rest} plus a multiple of {self.stride}"
            raise UsageError(f"the network takes {taken}, not {shape[2:]}", hint="pad the input")


def gate_of(in_channels: int, strides: tuple[PerAxis, ...], shrink: Shrinkage | None = None) -> InputGate:
    """Input sizes that a network of these strides takes: whole multiples, or valid convolutions' sizes."""
    total = products(strides)
    none = (0,) * len(total)
    if shrink is None:
        return InputGate(in_channels, total, none, none)
    rest = tuple(r % s for r, s in zip(shrink.lattice(), total, strict=True))
    return InputGate(in_channels, total, rest, shrink.lost(0))


class Segmenter(nn.Module):
    """A network (B, C, *S) -> logits (B, K, *S'), and what tiled inference must know of it."""

    def __init__(self, spatial_dims: SpatialDims) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims

    @classmethod
    def keywords(cls, options: Mapping[str, Option]) -> dict[str, Any]:
        """Names and types of the constructor's keywords, where `options` are among those given."""
        types = typing.get_type_hints(cls.__init__)
        return {name: types[name] for name in inspect.signature(cls).parameters}

    @cached_property
    def output_reach(self) -> reach.Reach:
        """What the output voxels see of the input, per axis."""
        return list(reach.trace(self, self.spatial_dims).values())[-1]

    @property
    def stride(self) -> PerAxis:
        """Total stride per axis: shifting the input by it shifts the output by it."""
        return tuple(r.period for r in self.output_reach)

    @property
    def receptive_radius(self) -> PerAxis:
        """Voxels per axis beyond which no output voxel sees the input."""
        return tuple(max(r.left, r.right) for r in self.output_reach)

    @property
    def halo(self) -> PerAxis:
        """Voxels per axis a block needs around it when it starts and ends on multiples of `stride`.

        At most `receptive_radius`: the voxels at the block's rim are not those that see furthest.
        """
        return tuple(r.halo for r in self.output_reach)

    @property
    def tile_independent(self) -> bool:
        """Whether, in eval mode, a voxel's output depends only on its receptive field."""
        return reach.tile_independent(self)


@runtime_checkable
class Phased(Protocol):
    """A network that can answer for a part of the voxels at a fraction of the cost (see `FastUNet`)."""

    @property
    def phases(self) -> PerAxis:
        """Stride per axis of the lattice of voxels answered for."""

    def at_phase(self, x: Tensor, phase: PerAxis) -> Tensor:
        """Logits of the voxels whose index is `phase` modulo `phases`."""


@runtime_checkable
class Supervised(Protocol):
    """A network with further heads on coarser or shallower maps, for deep supervision.

    The heads are there whether they are trained or not: the weights of one training fit any other.
    """

    @property
    def head_weights(self) -> tuple[float, ...]:
        """Weight of each head's loss, the final head's first; their sum is 1."""

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K, *S / scale) of every head, the final one first; each scale is a whole number."""


def he_init(network: nn.Module) -> None:
    """Weights from a normal distribution of variance 2/N, N the inputs of one output (arXiv:1502.01852).

    Of a transposed convolution whose kernel is its stride, one output has just the input channels.
    Biases become 0. Draws from the global generator of torch.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            taps = math.prod(module.kernel_size)
            if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
                taps = max(taps // math.prod(module.stride), 1)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
