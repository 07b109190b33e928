"""GridNet (Fourure et al. 2017, arXiv:1707.07958), section 3 and the authors' code.

Deviations: weights are drawn by He's rule; rows, columns, kernels, strides and norm can be chosen, and three
axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    ACTIVATION,
    NORM,
    PerAxis,
    Segmenter,
    SpatialDims,
    choose,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)
from medseg.networks.parts import StreamDropout, Style, Transposed, within

PAPER_WIDTHS = (16, 32, 64, 128, 256)


class GridNet(Segmenter):
    """Streams of every resolution, joined downwards in the first columns and upwards in the others: figure 1.

    Without all vertical edges but the outermost it is a U-Net; without the coarse rows, a residual network.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each row, finest first.
        columns: how many lead down, and as many up.
        norm: before each activation.
        kernels: odd kernel of each row per axis, () for 3 everywhere.
        strides: between neighbouring rows per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        dropout: how often, in training, a lateral unit adds nothing ("total dropout").

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import create
    >>> create("gridnet", widths=(4, 8), columns=1)(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 2, 16, 16, 16])
    """

    @hinted
    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = PAPER_WIDTHS,
        columns: int = 3,
        norm: Norm = "batch",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(spatial_dims)
        if columns < 1:
            raise UsageError(f"a GridNet has one column down or more, not {columns}")
        rows = len(level_widths(widths))
        size = level_kernels(kernels, rows, spatial_dims)
        step = level_strides(strides, rows - 1, spatial_dims)
        style, plain, one = Style(spatial_dims, norm), Style(spatial_dims, "none"), (1,) * spatial_dims
        pair = partial(_pair, style, activation)

        def lateral(*, up: bool) -> nn.ModuleList:
            units = [pair(w, w, size[row], stride=one, up=up) for row, w in enumerate(widths)]
            return nn.ModuleList(nn.Sequential(unit, StreamDropout(dropout)) for unit in units)

        def between(*, up: bool) -> nn.ModuleList:
            edges = [(n + 1, n) if up else (n, n + 1) for n in range(rows - 1)]
            return nn.ModuleList(
                pair(widths[a], widths[b], size[b], stride=step[min(a, b)], up=up) for a, b in edges
            )

        self.gate = gate_of(in_channels, step)
        unit = partial(style.unit, kernel=size[0], bias=True, activation=activation)
        self.start = nn.Sequential(
            choose(NORM, norm, "normalisation")(spatial_dims, in_channels),
            unit(in_channels, widths[0]),
            unit(widths[0], widths[0]),
        )
        self.lateral = nn.ModuleList(lateral(up=n >= columns) for n in range(1, 2 * columns))
        self.down = nn.ModuleList(between(up=False) for _ in range(columns))
        self.up = nn.ModuleList(between(up=True) for _ in range(columns))
        last = partial(Transposed, plain, kernel=size[0], activation="none")
        self.end = nn.Sequential(
            last(widths[0], out_channels),
            *_before(style, activation, out_channels),
            last(out_channels, out_channels),
            choose(NORM, norm, "normalisation")(spatial_dims, out_channels),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        streams = [self.start(self.gate(x))]
        for step in within(self.down[0]):
            streams.append(step(streams[-1]))
        for n, units in enumerate(self.lateral, start=1):
            beside = [x + unit(x) for x, unit in zip(streams, within(units), strict=True)]
            streams = self._joined(beside, n)
        return cast(Tensor, self.end(streams[0]))

    def _joined(self, beside: list[Tensor], column: int) -> list[Tensor]:
        """The streams of a column: what comes from the side, and from above or below."""
        columns = len(self.down)
        if column < columns:
            for row, step in enumerate(within(self.down[column])):
                beside[row + 1] = beside[row + 1] + step(beside[row])
            return beside
        steps = within(self.up[column - columns])
        for row in reversed(range(len(beside) - 1)):
            beside[row] = beside[row] + steps[row](beside[row + 1])
        return beside


def _before(style: Style, activation: str, channels: int) -> list[nn.Module]:
    """Norm and activation, which precede each convolution."""
    return [
        choose(NORM, style.norm, "normalisation")(style.spatial_dims, channels),
        choose(ACTIVATION, activation, "activation")(channels),
    ]


def _pair(
    style: Style, activation: str, a: int, b: int, kernel: PerAxis, *, stride: PerAxis, up: bool
) -> nn.Sequential:
    """Two convolutions, transposed ones on the way up; the first has the stride."""

    def conv(first: int, step: PerAxis) -> nn.Module:
        if up:
            return Transposed(
                replace(style, norm="none"), first, b, kernel=kernel, stride=step, activation="none"
            )
        return style.conv(first, b, kernel, stride=step)

    one = style.sized(1)
    return nn.Sequential(
        *_before(style, activation, a), conv(a, stride), *_before(style, activation, b), conv(b, one)
    )
