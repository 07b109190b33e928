"""Changes of intensity on a patch: blur, low resolution, bias field, gamma, contrast, noise.

Every function takes and returns (C, I, J, K) float32, writes to no tensor it was given, and returns the
image itself, bit for bit, when its magnitude is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.augment import elastic
from medseg.augment.elastic import Lattice
from medseg.augment.spec import (
    BiasFieldSpec,
    BlurSpec,
    ContrastSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
    Range,
)
from medseg.core.errors import UsageError

PerChannel = tuple[float, ...]


@dataclass(frozen=True)
class BiasFieldParams:
    """Logarithm of the field at control points: one tuple a channel, (*lattice) flattened."""

    spacing_mm: float
    lattice: Lattice
    logarithms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ContrastParams:
    """Drawn changes, ready for JSON; None or a magnitude of zero leaves the image as it is.

    Tuples contain one value per channel. `low_resolution` is the thick voxel's size along each axis, in
    voxels; `noise_seed` seeds only the noise.
    """

    blur_sigma_mm: PerChannel | None = None
    low_resolution: tuple[float, float, float] | None = None
    bias_field: BiasFieldParams | None = None
    gamma: PerChannel | None = None
    linear_scale: PerChannel | None = None
    linear_shift: PerChannel | None = None
    noise_sigma: PerChannel | None = None
    noise_seed: int = 0


def sample(
    spec: ContrastSpec,
    generator: torch.Generator,
    patch_shape: Sequence[int],
    spacing_mm: Sequence[float],
    channels: int,
) -> ContrastParams:
    """Draw which changes are made, and by how much in each channel."""
    draw = _Draw(generator, channels)
    blur, noise, gamma, linear = spec.blur, spec.noise, spec.gamma, spec.linear
    drawn_blur = draw.values(blur.sigma_mm) if draw.chosen(blur) and blur else None
    low = spec.low_resolution
    factors = _sample_factors(low, draw, patch_shape) if draw.chosen(low) and low else None
    bias = spec.bias_field
    field = _sample_bias(bias, draw, patch_shape, spacing_mm) if draw.chosen(bias) and bias else None
    drawn_gamma = draw.values(gamma.gamma, logarithmic=True) if draw.chosen(gamma) and gamma else None
    chosen = draw.chosen(linear)
    scale = draw.values(linear.scale) if chosen and linear else None
    shift = draw.values(linear.shift) if chosen and linear else None
    sigma = draw.values(noise.sigma) if draw.chosen(noise) and noise else None
    seed = int(torch.randint(2**31 - 1, (), generator=generator)) if sigma is not None else 0
    return ContrastParams(drawn_blur, factors, field, drawn_gamma, scale, shift, sigma, seed)


def apply(params: ContrastParams, image: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """The drawn changes, in the order the fields are listed.

    Raises:
        UsageError: they were drawn for another number of channels (one serves all).
    """
    if params.blur_sigma_mm is not None:
        image = blur(image, params.blur_sigma_mm, spacing_mm)
    if params.low_resolution is not None:
        image = low_resolution(image, params.low_resolution)
    if params.bias_field is not None:
        image = bias_field(image, params.bias_field, spacing_mm)
    if params.gamma is not None:
        image = gamma(image, params.gamma)
    if params.linear_scale is not None or params.linear_shift is not None:
        image = linear(image, params.linear_scale or (1.0,), params.linear_shift or (0.0,))
    if params.noise_sigma is not None:
        image = noise(image, params.noise_sigma, params.noise_seed)
    return image


def gamma(image: Tensor, exponent: PerChannel) -> Tensor:
    """`low + (high - low) * t ** gamma` with t = (x - low) / (high - low), channel by channel.

    The range of each channel is kept, so that negative (z-scored) intensities are as good as others.
    """
    if all(g == 1.0 for g in exponent):
        return image
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    width = (high - low).clamp_min(torch.finfo(image.dtype).tiny)
    share = ((image - low) / width).pow_(_column(exponent, image))
    return share.mul_(high - low).add_(low)


def linear(image: Tensor, scale: PerChannel, shift: PerChannel) -> Tensor:
    """`mean + scale * (x - mean) + shift` with each channel's mean over the patch."""
    if all(s == 1.0 for s in scale) and all(s == 0.0 for s in shift):
        return image
    factor = _column(scale, image)
    mean = image.mean((1, 2, 3), keepdim=True)
    return image * factor + (mean * (1 - factor) + _column(shift, image))


def noise(image: Tensor, sigma: PerChannel, seed: int) -> Tensor:
    """Independent N(0, sigma) on every voxel; the same seed gives the same noise on every device."""
    if all(s == 0.0 for s in sigma):
        return image
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(image.shape, generator=generator).to(image.device)
    return drawn.mul_(_column(sigma, image)).add_(image)


def blur(image: Tensor, sigma_mm: PerChannel, spacing_mm: Sequence[float]) -> Tensor:
    """Gaussian of `sigma_mm`, sampled at voxel centres, continued by the edge; one matrix an axis."""
    if all(s == 0.0 for s in sigma_mm):
        return image
    if len(set(sigma_mm)) == 1:
        return along_axes(image, [gaussian_matrix(n, sigma_mm[0] / mm) for n, mm in _axes(image, spacing_mm)])
    each = [
        blur(image[n : n + 1], (s,), spacing_mm) for n, s in enumerate(_for_channels(sigma_mm, len(image)))
    ]
    return torch.cat(each)


def low_resolution(image: Tensor, factors: Sequence[float]) -> Tensor:
    """Averages over voxels `factors` times as thick, interpolated linearly back to the patch's."""
    matrices = [thick_voxel_matrix(n, f) for n, f in _axes(image, factors)]
    return along_axes(image, matrices)


def bias_field(image: Tensor, params: BiasFieldParams, spacing_mm: Sequence[float]) -> Tensor:
    """`low + (x - low) * exp(f)`, f a cubic B-spline, low each channel's least intensity.

    Coil sensitivity multiplies what lies above black, and black is not zero after z-scoring.
    """
    if not any(any(values) for values in params.logarithms):
        return image
    logarithms = params.logarithms * (len(image) if len(params.logarithms) == 1 else 1)
    if len(logarithms) != len(image):
        raise UsageError(
            f"a bias field was drawn for {len(logarithms)} channels, but the image has {len(image)}"
        )
    control = torch.tensor(logarithms, dtype=torch.float64).T.reshape(*params.lattice, -1)
    bases = [
        elastic.patch_basis(n, count, mm, params.spacing_mm).float()
        for (n, mm), count in zip(_axes(image, spacing_mm), params.lattice, strict=True)
    ]
    field = elastic.evaluate(control.float(), bases).permute(3, 0, 1, 2).to(image.device)
    low = image.amin((1, 2, 3), keepdim=True)
    return (image - low).mul_(field.exp()).add_(low)


def gaussian_matrix(voxels: int, sigma_voxels: float) -> Tensor | None:
    """Blur along one axis, (voxels, voxels); rows sum to one. None where it would change nothing.

    The kernel reaches four standard deviations; weight that falls outside goes to the edge voxel.
    """
    radius = math.ceil(4 * sigma_voxels)
    if voxels == 1 or sigma_voxels == 0.0:
        return None
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma_voxels) ** 2)
    columns = (torch.arange(voxels)[:, None] + offsets.long()).clamp_(0, voxels - 1)
    matrix = torch.zeros(voxels, voxels, dtype=torch.float64)
    return matrix.scatter_add_(1, columns, (kernel / kernel.sum()).expand(voxels, -1))


def thick_voxel_matrix(voxels: int, factor: float) -> Tensor | None:
    """Averaging over thick voxels and linear interpolation back, (voxels, voxels). None: no change."""
    matrices = thick_voxel_matrices(voxels, factor)
    return None if matrices is None else matrices[1] @ matrices[0]


def thick_voxel_matrices(voxels: int, factor: float) -> tuple[Tensor, Tensor] | None:
    """Averaging over thick voxels (thick, voxels), and interpolation back (voxels, thick). None: no change.

    round(voxels / factor) thick voxels share the patch's length equally; each averages the voxels it
    covers by their overlap. Interpolation is between their centres, constant beyond the outer ones.
    """
    thick = max(1, round(voxels / factor))
    if thick >= voxels:
        return None
    size = voxels / thick
    edges = torch.arange(thick, dtype=torch.float64)[:, None] * size
    cells = torch.arange(voxels, dtype=torch.float64)
    overlap = torch.minimum(edges + size, cells + 1) - torch.maximum(edges, cells)
    down = overlap.clamp_(0) / size
    position = ((cells + 0.5) / size - 0.5).clamp_(0, thick - 1)
    lower = position.floor().clamp_(0, max(0, thick - 2)).long()
    upper = (lower + 1).clamp_(max=thick - 1)
    share = (position - lower)[:, None]
    each = torch.eye(thick, dtype=torch.float64)
    return down, (1 - share) * each[lower] + share * each[upper]


class _Draw:
    """Random numbers for one patch, from one generator."""

    def __init__(self, generator: torch.Generator, channels: int) -> None:
        self.generator = generator
        self.channels = channels

    def uniform(self, count: int) -> list[float]:
        drawn: list[float] = torch.rand(count, generator=self.generator, dtype=torch.float64).tolist()
        return drawn

    def chosen(self, spec: _Chance | None) -> bool:
        return spec is not None and self.uniform(1)[0] < spec.probability

    def values(self, limits: Range, *, logarithmic: bool = False) -> PerChannel:
        """One value a channel, uniform between the limits or between their logarithms."""
        low, high = (math.log(v) for v in limits) if logarithmic else limits
        drawn = (low + (high - low) * v for v in self.uniform(self.channels))
        return tuple(math.exp(v) if logarithmic else v for v in drawn)


_Chance = BlurSpec | LowResolutionSpec | BiasFieldSpec | GammaSpec | LinearSpec | NoiseSpec


def _sample_factors(
    spec: LowResolutionSpec, draw: _Draw, patch_shape: Sequence[int]
) -> tuple[float, float, float]:
    low, high = spec.factor
    size, choice = draw.uniform(2)
    factor = low + (high - low) * size
    thick = [axis for axis, n in enumerate(patch_shape) if n > 1]
    if spec.axes == "one" and thick:
        thick = [thick[min(int(choice * len(thick)), len(thick) - 1)]]
    i, j, k = (factor if axis in thick else 1.0 for axis in range(3))
    return i, j, k


def _sample_bias(
    spec: BiasFieldSpec, draw: _Draw, patch_shape: Sequence[int], spacing_mm: Sequence[float]
) -> BiasFieldParams:
    lattice = elastic.lattice_for(patch_shape, spacing_mm, spec.spacing_mm)
    size = (draw.channels, math.prod(lattice))
    normal = torch.randn(size, generator=draw.generator, dtype=torch.float64)
    sigma = torch.tensor(draw.values(spec.sigma), dtype=torch.float64)[:, None]
    rows = tuple(tuple(row) for row in (sigma * normal).tolist())
    return BiasFieldParams(spec.spacing_mm, lattice, rows)


def along_axes(image: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Apply one matrix (m, n) to each spatial axis of length n, which then has length m."""
    for axis, matrix in enumerate(matrices, start=1):
        if matrix is not None:
            weights = matrix.to(image.device, image.dtype)
            if axis == 3:
                image = image @ weights.T
            else:
                shape = list(image.shape)
                shape[axis] = len(weights)
                image = torch.matmul(weights, image.flatten(axis + 1)).reshape(shape)
    return image


def _axes(image: Tensor, values: Sequence[float]) -> list[tuple[int, float]]:
    return list(zip(image.shape[1:], values, strict=True))


def _for_channels(values: PerChannel, channels: int) -> PerChannel:
    if len(values) not in (1, channels):
        raise UsageError(
            f"intensity changes were drawn for {len(values)} channels, but the image has {channels}",
            hint=f"sample the parameters with channels={channels}",
        )
    return values * channels if len(values) == 1 else values


def _column(values: PerChannel, image: Tensor) -> Tensor:
    each = _for_channels(values, len(image))
    return torch.tensor(each, dtype=image.dtype, device=image.device)[:, None, None, None]
