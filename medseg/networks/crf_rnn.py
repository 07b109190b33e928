"""A dense CRF as the last layer of a network, learnt with it (CRF-RNN: Zheng et al. 2015, arXiv:1502.03240).

A round of the mean field (section 4, algorithm 1) filters the probabilities q by two Gaussians, of position,
and of position and intensity, weighs what it finds, lets labels speak for one another, and adds the logits u:

    q = softmax(u + C (W_s spatial(q) + W_b bilateral(q)))

Both filters are divided by what they make of 1. The bilateral one works on a grid of positions and
intensities, 1.5 cells or more to a standard deviation, by a matrix an axis, which every engine runs.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from medseg.networks.layers import Segmenter
from medseg.networks.on_top import OnTop
from medseg.networks.parts import GlobalContext, along, required

CELLS = 1.5
"""Cells to a standard deviation."""
RANGE = 3.0
"""Intensities further from 0 are taken for this one."""
LEAST_STEP, MOST = 0.05, 100
"""Least deviation of intensities, and most rounds."""
SPATIAL_WEIGHT, BILATERAL_WEIGHT = 3.0, 5.0
"""At the start of training."""


class CrfRnn(OnTop):
    """A network's logits after a few rounds of the mean field; its labels exclude one another.

    Args:
        network: of K outputs.
        in_channels: image channels C; the first is looked at, z-scored or in another range around 0.
        out_channels: K; the CRF learns 3 K x K numbers.
        crf_rnn: rounds in training; twice as many are made where it predicts.
        crf_position: standard deviation of the bilateral filter, in voxels; 0 for 160 in slices (the paper's)
            and 32 in volumes.
        crf_intensity: the same of its intensities.
        crf_spatial: standard deviation of the spatial filter, in voxels.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        network: Segmenter,
        in_channels: int,
        out_channels: int,
        *,
        crf_rnn: int = 5,
        crf_position: float = 0.0,
        crf_intensity: float = 0.5,
        crf_spatial: float = 3.0,
    ) -> None:
        super().__init__(network, in_channels)
        position = crf_position or (160.0 if network.spatial_dims == 2 else 32.0)
        required(1 <= crf_rnn <= MOST, f"crf_rnn must be 1 to {MOST} rounds, not {crf_rnn}")
        for name, width in (("crf_position", position), ("crf_spatial", crf_spatial)):
            required(width >= 1, f"{name} must be at least 1 voxel, not {width:g}")
        in_range = LEAST_STEP <= crf_intensity <= RANGE
        required(in_range, f"crf_intensity must be from {LEAST_STEP} to {RANGE:g}, not {crf_intensity:g}")
        self.rounds = MeanField(out_channels, crf_rnn, position, crf_intensity, crf_spatial)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        x = self.gate(x)
        return cast(Tensor, self.rounds(self.network(x), x))

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits after the rounds, and those of the network's further heads."""
        x = self.gate(x)
        first, *further = self.answers(x)
        return [self.rounds(first, x), *further]


class MeanField(GlobalContext):
    """Rounds of the mean field, see `CrfRnn`."""

    def __init__(
        self, out_channels: int, rounds: int, position: float, intensity: float, spatial: float
    ) -> None:
        super().__init__()
        identity = torch.eye(out_channels)
        self.spatial_weight = nn.Parameter(SPATIAL_WEIGHT * identity)
        self.bilateral_weight = nn.Parameter(BILATERAL_WEIGHT * identity)
        self.compatibility = nn.Parameter(identity.clone())
        self.count, self.position, self.intensity, self.spatial = rounds, position, intensity, spatial

    def forward(self, logits: Tensor, x: Tensor) -> Tensor:
        """Logits (B, K, *S) after the rounds, of logits and an image (B, C, *S)."""
        filters: tuple[Spatial | Bilateral, ...] = (
            Spatial(x, self.spatial),
            Bilateral(x, self.position, self.intensity),
        )
        scales = [1 / filtered(torch.ones_like(x[:, :1])) for filtered in filters]
        found = logits
        for _ in range(self.count if self.training else 2 * self.count):
            q = found.softmax(dim=1)
            near, alike = (filtered(q) * scale for filtered, scale in zip(filters, scales, strict=True))
            message = mixed(self.spatial_weight, near) + mixed(self.bilateral_weight, alike)
            found = logits + mixed(self.compatibility, message)
        return found


class Spatial:
    """Sums (B, K, *S) of values over all voxels, weighted by a Gaussian of the distance.

    Args:
        x: image (B, C, *S), for its size.
        deviation: in voxels.
    """

    def __init__(self, x: Tensor, deviation: float) -> None:
        self.axes = [gaussian(torch.arange(n).to(x), deviation) for n in x.shape[2:]]

    def __call__(self, values: Tensor) -> Tensor:
        return along(values, self.axes)


class Bilateral:
    """Sums (B, K, *S) of values over all voxels, weighted by a Gaussian of distance and intensity.

    Values are shared out linearly among the cells of a grid, blurred there, and read back linearly. Both
    linear steps blur by 1/6 of a squared cell, which the blur between leaves out.

    Args:
        x: image (B, C, *S), of which the first channel is looked at.
        position: standard deviation in voxels.
        intensity: standard deviation.
    """

    def __init__(self, x: Tensor, position: float, intensity: float) -> None:
        step = max(int(position / CELLS), 1)
        self.to_grid = [tents(torch.arange(n).to(x) / step, n // step + 2) for n in x.shape[2:]]
        self.from_grid = [
            gaussian(torch.arange(n // step + 2).to(x), inside(position / step)) @ tent.T
            for n, tent in zip(x.shape[2:], self.to_grid, strict=True)
        ]
        half = int(RANGE * CELLS / intensity) + 1
        level = x[:, :1].clamp(-RANGE, RANGE) * (CELLS / intensity) + half
        self.shares = tents(level[:, 0], 2 * half + 1).movedim(-1, 1)[:, None]  # (B, 1, levels, *S)
        self.blur = gaussian(torch.arange(2 * half + 1).to(x), inside(CELLS))

    def __call__(self, values: Tensor) -> Tensor:
        shared = along((values[:, :, None] * self.shares).flatten(1, 2), self.to_grid)
        grid = mixed(self.blur, _parted(shared, values.shape[1]).transpose(1, 2)).transpose(1, 2)
        back = along(grid.flatten(1, 2), self.from_grid)
        return (_parted(back, values.shape[1]) * self.shares).sum(dim=2)


def _parted(values: Tensor, channels: int) -> Tensor:
    """Values (B, channels * levels, ...) as (B, channels, levels, ...)."""
    return values.reshape(values.shape[0], channels, -1, *values.shape[2:])


def inside(deviation: float) -> float:
    """The deviation, in cells, without what the linear steps blur by."""
    return cast(float, (deviation**2 - 1 / 3) ** 0.5)


def gaussian(places: Tensor, deviation: float) -> Tensor:
    """exp(-d^2 / 2 s^2) between all places, (n, n)."""
    return (-0.5 * ((places[:, None] - places) / deviation) ** 2).exp()


def tents(places: Tensor, cells: int) -> Tensor:
    """The share of each place in each cell, (..., cells)."""
    return (1 - (places[..., None] - torch.arange(cells).to(places)).abs()).clamp(min=0)


def mixed(weights: Tensor, values: Tensor) -> Tensor:
    """Values (B, K, ...) with their channels mixed by a matrix (K', K)."""
    return (weights @ values.flatten(2)).reshape(values.shape[0], -1, *values.shape[2:])
