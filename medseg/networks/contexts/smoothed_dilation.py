"""Smoothed dilated convolutions against gridding (Wang and Ji 2018, arXiv:1808.08931), sections 3.2 and 3.3.

Both begin as the identity: before training, a network with them computes what it does without.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.networks import reach
from medseg.networks.layers import PerAxis
from medseg.networks.parts import unwindowed, windows

Smoothing = Literal["", "shared", "interaction"]


class SharedSmoothing(nn.Module):
    """One kernel of size 2d - 1 for all channels, before the dilated convolution (section 3.3)."""

    def __init__(self, rate: PerAxis) -> None:
        super().__init__()
        size = tuple(2 * d - 1 for d in rate)
        self.rate, self.size = rate, size
        self.weight = nn.Parameter(torch.zeros(1, 1, *size))
        with torch.no_grad():
            self.weight[(0, 0, *(d - 1 for d in rate))] = 1

    def forward(self, x: Tensor) -> Tensor:
        conv = functional.conv3d if len(self.rate) == 3 else functional.conv2d
        pad = [d - 1 for d in self.rate]
        weight = self.weight.expand(x.shape[1], *self.weight.shape[1:])
        return conv(x, weight, padding=pad, groups=x.shape[1])

    def reach(self, before: reach.Reach) -> reach.Reach:
        axes = zip(before, self.size, self.rate, strict=True)
        return tuple(r.window(k, 1, d - 1) for r, k, d in axes)


class GroupInteraction(nn.Module):
    """A linear map between the voxels that dilation keeps apart, behind the convolution (section 3.2)."""

    def __init__(self, rate: PerAxis) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.eye(math.prod(rate)))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        missing = [-n % d for n, d in zip(size, self.rate, strict=True)]
        x = functional.pad(x, [n for m in reversed(missing) for n in (0, m)])
        mixed = unwindowed(windows(x, self.rate) @ self.weight, self.rate)
        for axis, n in enumerate(size, start=2):
            mixed = mixed.narrow(axis, 0, n)
        return mixed

    def reach(self, before: reach.Reach) -> reach.Reach:
        return tuple(r.shared(d) for r, d in zip(before, self.rate, strict=True))


def smooth_dilations(network: nn.Module, kind: Smoothing) -> None:
    """Put the smoothing before ("shared") or behind ("interaction") every dilated convolution, in place."""
    for module in list(network.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, (nn.Conv2d, nn.Conv3d)) and max(conv.dilation) > 1:
                parts = (
                    (SharedSmoothing(conv.dilation), conv)
                    if kind == "shared"
                    else (conv, GroupInteraction(conv.dilation))
                )
                setattr(module, name, nn.Sequential(*parts))
