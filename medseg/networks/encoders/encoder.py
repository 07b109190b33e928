"""What encoders share: kernels and strides of each stage, and dilation in place of the last strides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from medseg.networks.layers import PerAxis, level_kernels, level_strides
from medseg.networks.parts import Maps, Style

Stem = Literal["paper", "volume"]


@dataclass(frozen=True)
class Build:
    """What an encoder is built from.

    Attributes:
        style: of its convolutions.
        in_channels: of the image.
        widths: of its stages; () for the paper's.
        kernels, strides: of each stage per axis; () for the paper's.
        output_stride: no map is coarser: later strides become dilation; 0 for the paper's strides.
        stem: "paper" or "volume", see each encoder.
    """

    style: Style
    in_channels: int
    widths: tuple[int, ...] = ()
    kernels: Sequence[Sequence[int]] = ()
    strides: Sequence[Sequence[int]] = ()
    output_stride: int = 0
    stem: Stem = "paper"

    def plan(self, default: Sequence[int]) -> tuple[list[PerAxis], list[PerAxis]]:
        """Strides of the stages, and the dilation of each stage that comes after strides left out.

        Args:
            default: the stages' strides where none are given.
        """
        dims = self.style.spatial_dims
        given = self.strides or [(stride,) * dims for stride in default]
        strides = list(level_strides(given, len(default), dims))
        left_out = [(1,) * dims] * len(strides)
        for n in reversed(range(len(strides))):
            total = max(math.prod(axis) for axis in zip(*strides, strict=True))
            if self.output_stride and total > self.output_stride:
                left_out[n], strides[n] = strides[n], (1,) * dims
        dilation = [(1,) * dims]
        for stride in left_out:
            dilation.append(tuple(d * s for d, s in zip(dilation[-1], stride, strict=True)))
        return strides, dilation

    def sizes(self, default: Sequence[int]) -> tuple[PerAxis, ...]:
        """Kernels of the stages; `default` where none are given."""
        dims = self.style.spatial_dims
        given = self.kernels or [(kernel,) * dims for kernel in default]
        return level_kernels(given, len(default), dims)


class Encoder(nn.Module):
    """An image (B, C, *S) -> maps, finest first.

    Attributes:
        maps: their widths and strides.
    """

    maps: Maps


def cumulative(strides: Sequence[PerAxis]) -> list[PerAxis]:
    """Total stride behind each stage."""
    totals: list[PerAxis] = []
    for stride in strides:
        before = totals[-1] if totals else (1,) * len(stride)
        totals.append(tuple(a * b for a, b in zip(before, stride, strict=True)))
    return totals
