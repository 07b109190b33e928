"""Shifted scans, as another scanner might have acquired them: other contrast, shading, sharpness, noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.volume import Volume


@dataclass(frozen=True)
class ShiftSpec:
    """How far a shifted scan may be from the one it was made from; each is drawn evenly.

    Attributes:
        gamma: exponent of the intensities between their 1st and 99th percentile, from 1 / gamma to gamma.
        shading: logarithm of the brightness at the scan's corners against its middle, either way.
        blur_voxels: standard deviation of a Gaussian.
        noise: standard deviation, as a share of the range of intensities.
    """

    gamma: float = 1.6
    shading: float = 0.3
    blur_voxels: float = 0.8
    noise: float = 0.06

    def content(self) -> dict[str, float]:
        return asdict(self)


def shifted(volume: Volume, generator: np.random.Generator, spec: ShiftSpec | None = None) -> Volume:
    """The scan (C, I, J, K) as another scanner might have acquired it; all channels alike.

    Args:
        volume: the scan.
        generator: what is drawn comes from it.
        spec: how far; the default where None.
    """
    spec = spec or ShiftSpec()
    gamma = float(np.exp(generator.uniform(-1, 1) * np.log(spec.gamma)))
    direction = generator.normal(size=3)
    direction *= generator.uniform(0, spec.shading) / np.linalg.norm(direction)
    blur, noise = generator.uniform(0, spec.blur_voxels), generator.uniform(0, spec.noise)
    shade = _shade(volume.grid.shape, direction)
    channels = [_shifted(c, gamma, shade, blur, noise, generator) for c in volume.array]
    return replace(volume, array=np.stack(channels))


def _shifted(
    channel: NDArray[np.float32],
    gamma: float,
    shade: NDArray[np.float32],
    blur: float,
    noise: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    low, high = (float(v) for v in np.percentile(channel, (1, 99)))
    span = (high - low) or 1.0
    image = (channel - np.float32(low)) / np.float32(span)
    image = np.sign(image) * np.abs(image) ** np.float32(gamma) * shade
    image = ndimage.gaussian_filter(image, [blur if n > 1 else 0.0 for n in image.shape])
    image = image + noise * generator.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image * span + low, dtype=np.float32)


def _shade(shape: tuple[int, ...], direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Brightness that rises along a direction, 1 in the middle."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    ramps = [d * axis for d, axis in zip(direction, axes, strict=True)]
    shade = np.exp(ramps[0][:, None, None] + ramps[1][None, :, None] + ramps[2])
    return np.asarray(shade, dtype=np.float32)
