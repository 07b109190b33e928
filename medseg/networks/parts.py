"""What the parts of a composed network share: the maps they hand on, and how their convolutions are built.

An encoder makes maps of an image, a neck other maps of these, a context another deepest map, and a decoder
the logits. `composed.Composed` puts them together; `zoo` names the published combinations.
"""

from __future__ import annotations

import inspect
import operator
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError, unknown_name
from medseg.model.spec import Norm
from medseg.networks import reach
from medseg.networks.layers import (
    ACTIVATION,
    CONV,
    NORM,
    TRANSPOSED,
    ConvUnit,
    Enlarge,
    PerAxis,
    SpatialDims,
    choose,
    dropping,
)

Up = Literal["transposed", "nearest", "linear", "nails", "unpool"]
UPS: tuple[str, ...] = get_args(Up)


@dataclass(frozen=True)
class Maps:
    """What a list of maps is, finest first.

    Attributes:
        widths: channels of each.
        strides: input voxels per voxel of each, per axis.
    """

    widths: tuple[int, ...]
    strides: tuple[PerAxis, ...]

    def last_of_each_stride(self) -> tuple[int, ...]:
        """Indices of the maps that are the last at their resolution: before a pooling, where there is one."""
        following = (*self.strides[1:], None)
        return tuple(n for n, s in enumerate(self.strides) if s != following[n])

    def first_of_each_stride(self) -> tuple[int, ...]:
        """Indices of the maps that are the first at their resolution: behind a pooling, if there is one."""
        before = (None, *self.strides[:-1])
        return tuple(n for n, s in enumerate(self.strides) if s != before[n])

    def taken(self, indices: Sequence[int]) -> Maps:
        """These maps alone."""
        return Maps(tuple(self.widths[n] for n in indices), tuple(self.strides[n] for n in indices))

    def of_width(self, width: int) -> Maps:
        """The same grids with `width` channels each."""
        return replace(self, widths=(width,) * len(self.widths))

    def factor(self, coarse: int, fine: int) -> PerAxis:
        """Voxels of the map `fine` per voxel of the map `coarse`, per axis."""
        return ratio(self.strides[coarse], self.strides[fine])


def ratio(coarse: PerAxis, fine: PerAxis) -> PerAxis:
    """Voxels of a grid of stride `fine` per voxel of one of stride `coarse`, per axis."""
    return tuple(c // f for c, f in zip(coarse, fine, strict=True))


def summed(maps: Iterable[Tensor]) -> Tensor:
    """The sum of maps of one grid."""
    return reduce(operator.add, maps)


def within(module: nn.Module) -> list[nn.Module]:
    """The modules of a list that is part of another list."""
    return list(cast("Iterable[nn.Module]", module))


def halved(stride: PerAxis) -> list[PerAxis]:
    """Steps of 2 an axis, as far as they go, whose product is the stride."""
    steps: list[PerAxis] = []
    while max(stride) > 1:
        steps.append(tuple(2 if s % 2 == 0 else s for s in stride))
        stride = ratio(stride, steps[-1])
    return steps


@dataclass(frozen=True)
class Style:
    """How all parts of a network build their convolutions.

    Attributes:
        spatial_dims: 2 or 3.
        norm: behind each convolution of a unit.
    """

    spatial_dims: SpatialDims
    norm: Norm

    def sized(self, size: int | Sequence[int]) -> PerAxis:
        """One number per axis."""
        return (size,) * self.spatial_dims if isinstance(size, int) else tuple(size)

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Sequence[int] = 1,
        *,
        dilation: int = 1,
        **more: Any,
    ) -> nn.Module:
        """A convolution with bias that keeps the size, without norm or activation."""
        size = self.sized(kernel)
        pad = tuple(dilation * (k // 2) for k in size)
        return CONV[self.spatial_dims](
            in_channels, out_channels, size, padding=pad, dilation=dilation, **more
        )

    def unit(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Sequence[int] = 3,
        *,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
        activation: str = "relu",
        **more: Any,
    ) -> ConvUnit:
        """Convolution, norm, activation; with a bias if asked for, or where there is no norm."""
        return ConvUnit(
            self.spatial_dims,
            in_channels,
            out_channels,
            kernel=self.sized(kernel),
            norm=self.norm,
            activation=activation,
            dilation=self.sized(dilation),
            bias=bias or self.norm == "none",
            **more,
        )

    def of_one_voxel(self) -> Style:
        """The same for maps of a single voxel, which instance norm would make 0."""
        return replace(self, norm="none") if self.norm == "instance" else self

    def separable(self, in_channels: int, out_channels: int, *, dilation: int = 1) -> nn.Sequential:
        """A depthwise convolution of 3 with norm, then a pointwise one with norm and activation."""
        depthwise = self.unit(
            in_channels, in_channels, dilation=dilation, groups=in_channels, activation="none"
        )
        return nn.Sequential(depthwise, self.unit(in_channels, out_channels, 1))


class Transposed(nn.Module):
    """Transposed convolution, norm, activation; whole multiples of the size, for odd kernels too."""

    def __init__(
        self,
        style: Style,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int | Sequence[int] = 3,
        stride: PerAxis = (),
        bias: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        steps = stride or style.sized(1)
        size = tuple(max(k, s) for k, s in zip(style.sized(kernel), steps, strict=True))
        over = [k - s for k, s in zip(size, steps, strict=True)]
        self.conv = TRANSPOSED[style.spatial_dims](
            in_channels,
            out_channels,
            size,
            stride=steps,
            padding=tuple(-(-n // 2) for n in over),
            output_padding=tuple(n % 2 for n in over),
            bias=bias or style.norm == "none",
        )
        self.norm = choose(NORM, style.norm, "normalisation")(style.spatial_dims, out_channels)
        self.activation = choose(ACTIVATION, activation, "activation")(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class StreamDropout(nn.Module):
    """In training, the whole map of a sample is left out by this chance; the others make up for it."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        dropping(chance)
        self.chance = chance

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.chance:
            return x
        kept = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) >= self.chance
        return x * kept / (1 - self.chance)

    def reach(self, before: reach.Reach) -> reach.Reach:
        return before


def windows(x: Tensor, size: PerAxis) -> Tensor:
    """The voxels of each window of a map (B, C, *S) behind one another: (B, C, *S / size, voxels)."""
    dims = len(size)
    coarse = [n // w for n, w in zip(x.shape[2:], size, strict=True)]
    split = x.reshape(*x.shape[:2], *(n for pair in zip(coarse, size, strict=True) for n in pair))
    return split.permute(0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2)).flatten(2 + dims)


def unwindowed(cells: Tensor, size: PerAxis) -> Tensor:
    """The map (B, C, *S) of these windows, see `windows`."""
    dims = len(size)
    split = cells.reshape(*cells.shape[:-1], *size)
    order = (n for pair in zip(range(2, 2 + dims), range(2 + dims, 2 + 2 * dims), strict=True) for n in pair)
    fine = [n * w for n, w in zip(cells.shape[2:-1], size, strict=True)]
    return split.permute(0, 1, *order).reshape(*cells.shape[:2], *fine)


class FirstMaximum(nn.Module):
    """1 where a voxel is the first maximum of its window, else 0: what max-unpooling needs of a map.

    Equal to the indices of max-pooling with kernel and stride `window`, ties included, and without index
    tensors, which graphs of other engines lack.
    """

    jumps = True
    """Numbers that differ by rounding may give a different place."""

    def __init__(self, window: PerAxis) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        cells = windows(x, self.window)
        highest = (cells >= cells.amax(-1, keepdim=True)).to(x.dtype)
        return unwindowed(highest * (highest.cumsum(-1) < 1.5).to(x.dtype), self.window)

    def reach(self, before: reach.Reach) -> reach.Reach:
        return tuple(r.shared(w) for r, w in zip(before, self.window, strict=True))


class Unpool(nn.Module):
    """Each value at the place of its window's maximum, and 0 elsewhere (arXiv:1311.2901, section 2.1)."""

    def __init__(self, window: PerAxis) -> None:
        super().__init__()
        self.mark, self.enlarge = FirstMaximum(window), Enlarge(window, "nearest")

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """x (B, C, *S), and the map (B, C, *S * window) that max-pooling with this window once took."""
        out: Tensor = self.mark(pooled) * self.enlarge(x)
        return out


@runtime_checkable
class Answering(Protocol):
    """A context with answers of its own, which training scores beside the network's."""

    answer_weights: tuple[float, ...]

    def answers(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the context makes of the map x, and its logits (B, K, *S)."""


class Unpooled(nn.Module):
    """A convolution of a single voxel, then unpooling by the maxima of a finer map."""

    def __init__(self, conv: nn.Module, window: PerAxis) -> None:
        super().__init__()
        self.conv, self.unpool = conv, Unpool(window)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        out: Tensor = self.unpool(self.conv(x), pooled)
        return out


def enlarging(
    kind: Up, style: Style, in_channels: int, out_channels: int, factor: PerAxis, kernel: PerAxis
) -> nn.Module:
    """A module that enlarges maps and changes their channels; that of "unpool" takes the finer map too.

    Raises:
        UsageError: there is no such kind.
    """
    if kind == "transposed":
        return TRANSPOSED[style.spatial_dims](in_channels, out_channels, factor, stride=factor)
    if kind == "unpool":
        return Unpooled(style.conv(in_channels, out_channels), factor)
    if kind not in UPS:
        raise unknown_name("enlargement", kind, UPS)
    return nn.Sequential(Enlarge(factor, kind), style.conv(in_channels, out_channels, kernel))


def along(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """Values (B, K, *S) multiplied by a matrix (s, t) along each axis: (B, K, *T)."""
    last = values.ndim - 1
    for axis, matrix in enumerate(matrices, start=2):
        values = (values.movedim(axis, last) @ matrix).movedim(last, axis)
    return values


class GlobalContext(nn.Module):
    """A module that sees the whole tile; the receptive field is told without it, as of instance norm."""

    sees_the_tile = True

    def reach(self, before: reach.Reach) -> reach.Reach:
        return before


def bilinear_(transposed: nn.Module) -> None:
    """Weights of a transposed convolution that interpolate linearly, each channel by itself.

    Long et al. 2015 (arXiv:1411.4038), section 3.3. The kernel is the outer product of one tent an axis.
    """
    weight, strides = cast(Tensor, transposed.weight), cast(PerAxis, transposed.stride)
    kernel = torch.ones(())
    for size, stride in zip(weight.shape[2:], strides, strict=True):
        tent = 1 - (torch.arange(size) - (size - 1) / 2).abs() / stride
        kernel = kernel[..., None] * tent.clamp(min=0)
    with torch.no_grad():
        weight.zero_()
        for n in range(min(weight.shape[:2])):
            weight[n, n] = kernel


def required(holds: bool, fault: str) -> None:
    """Refuse settings that make no network.

    Raises:
        UsageError: it does not hold.
    """
    if not holds:
        raise UsageError(fault)


def keyword_types(part: Any) -> dict[str, Any]:
    """What can be said of a part by keyword, and the type of each."""
    types = typing.get_type_hints((part.func if isinstance(part, partial) else part).__init__)
    return {p.name: types[p.name] for p in keywords_of(part)}


def keywords_of(part: Any) -> list[inspect.Parameter]:
    """What can be said of a part by keyword; of a partial one, what is left to say."""
    made, bound = (part.func, part.keywords) if isinstance(part, partial) else (part, {})
    parameters = inspect.signature(made).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in bound]


def require_sizes(settings: Mapping[str, Any], may_be_0: Collection[str]) -> None:
    """Refuse whole numbers that are no sizes: below 1, or below 0 where 0 means something.

    Raises:
        UsageError: of the first.
    """
    for name, value in settings.items():
        numbers = value if isinstance(value, tuple) else (value,)
        least = 0 if name in may_be_0 else 1
        whole = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
        required(min(whole, default=least) >= least, f"{name} must be at least {least}, not {value}")
