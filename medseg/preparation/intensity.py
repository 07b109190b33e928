"""Normalisation of intensities.

Statistics are float64 and taken from the voxels as they come; the result is float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, UsageError, plural
from medseg.preparation.crop import corner_values

Real = NDArray[np.generic]

DISPLAY_MOST = 255.0
"""The largest value of a scan that was rescaled for display, in bytes or in shares of 1."""

CHUNK_VOXELS = 2**20
"""Float64 copies are made of this many voxels at a time."""


@dataclass(frozen=True)
class NormalisationSpec:
    """Settings of the normalisation, which treats each channel by itself.

    Attributes:
        kind: "zscore": mean 0 and standard deviation 1; "range": the percentiles (or extremes)
            become 0 and 1; "window": the window's ends become -1 and 1, for modalities with
            absolute units such as Hounsfield; "none": the values as they are.
        region: voxels the statistics come from; all others, its background, become 0. With "nonzero", those
            that are not zero; with "foreground", those unlike the value that all corners of the scan share
            (all of them, where corners differ), for scans that were normalised after skull-stripping.
        percentiles: values beyond these percentiles of the region are clipped first ("zscore",
            "range"); None clips nothing.
        window: low and high end for "window".

    Raises:
        UsageError: percentiles or window are not in order, or the window is missing.
    """

    kind: Literal["zscore", "range", "window", "none"] = "zscore"
    region: Literal["all", "nonzero", "foreground"] = "all"
    percentiles: tuple[float, float] | None = (0.5, 99.5)
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise UsageError(f"percentiles must increase and be within 0 to 100, not {self.percentiles}")
        if (self.kind == "window") != (self.window is not None):
            raise UsageError('the kind "window" and the setting window must be given together')
        if self.window is not None and not self.window[0] < self.window[1]:
            raise UsageError(f"a window must be (low, high) with low < high, not {self.window}")


@dataclass(frozen=True)
class _Scale:
    """(clip(x, low, high) - centre) / width."""

    low: float
    high: float
    centre: float
    width: float


Background = Sequence[float | None]
"""The value of voxels that do not count, of each channel; None where all do."""


def background_of(scan: Real, spec: NormalisationSpec) -> Background:
    """What does not count in a whole scan (C, I, J, K), which is told before it is cropped or resampled."""
    if spec.region == "foreground":
        return corner_values(scan)
    return (None if spec.region == "all" else 0.0,) * len(scan)


def normalise(
    array: Real,
    spec: NormalisationSpec,
    channels: Sequence[str] | None = None,
    background: Background | None = None,
) -> NDArray[np.float32]:
    """Every channel of (C, I, J, K) on the scale `spec` asks for.

    With "zscore" and "range" over all voxels, the result does not change when a channel's
    intensities are multiplied by a positive number or shifted.

    Args:
        array: (C, I, J, K), real numbers of any type.
        spec: what to do.
        channels: names for messages.
        background: of the scan that the array was cut from; None where it is the whole scan.

    Returns:
        (C, I, J, K) float32, contiguous, newly allocated.

    Raises:
        InputError: a voxel is not finite, or a channel has one value only.
    """
    check_intensities(array, channels)
    out = np.empty(array.shape, dtype=np.float32)
    outside = background_of(array, spec) if background is None else background
    for index, (channel, value) in enumerate(zip(array, outside, strict=True)):
        _normalise_channel(channel, out[index], spec, value, _name(index, channels))
    return out


def check_intensities(array: Real, channels: Sequence[str] | None = None) -> None:
    """Refuse non-finite or constant channels.

    Raises:
        InputError: a voxel of (C, I, J, K) is NaN or infinite, or a channel is constant.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"intensities must be real numbers, not of type {array.dtype}")
    for index, channel in enumerate(array):
        low, high = channel.min(), channel.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(np.count_nonzero(~np.isfinite(channel)))
            raise InputError(
                f"{bad} of {channel.size} voxels of {_name(index, channels)} "
                f"{plural(bad, 'is', 'are')} not finite",
                hint="repair the file, or replace them with --fill-nan",
            )
        if low == high:
            raise InputError(f"{_name(index, channels)} is constant: every voxel is {float(low):g}")


def rescaled(array: Real, spec: NormalisationSpec, channels: Sequence[str] | None = None) -> str | None:
    """Why a channel is not in the absolute units of its window; None if it may be.

    A window that reaches below zero is one of Hounsfield units, in which air is -1000 and a scan without a
    value below zero is none. One that lies within 0 to 255 besides was rescaled to be looked at.

    Args:
        array: (C, I, J, K), finite.
        spec: how its intensities are brought to a common scale.
        channels: names for the sentence.
    """
    if spec.window is None or spec.window[0] >= 0:
        return None
    low, high = (f"{end:g}" for end in spec.window)
    for index, channel in enumerate(array):
        least, most = float(channel.min()), float(channel.max())
        if least >= 0 and most <= DISPLAY_MOST:
            return (
                f"{_name(index, channels)} has values from {least:g} to {most:g}, which are not Hounsfield "
                f"units: the model takes values from {low} to {high}"
            )
    return None


def _normalise_channel(
    channel: Real, out: NDArray[np.float32], spec: NormalisationSpec, background: float | None, name: str
) -> None:
    if spec.kind == "none":
        out[...] = channel
        return
    scale = _scale(channel, spec, background, name)
    for row, source in zip(out, channel, strict=True):
        values = source.astype(np.float64)
        outside = None if background is None else source == background
        row[...] = (np.clip(values, scale.low, scale.high) - scale.centre) / scale.width
        if outside is not None:
            row[outside] = 0.0


def _scale(channel: Real, spec: NormalisationSpec, background: float | None, name: str) -> _Scale:
    if spec.window is not None:
        low, high = spec.window
        return _Scale(low, high, (low + high) / 2, (high - low) / 2)
    region = channel.ravel() if background is None else channel[channel != background]
    low, high = _ends(region, spec.percentiles)
    if low == high:
        raise InputError(f"{name} is constant outside the background: every voxel there is {low:g}")
    if spec.kind == "range":
        return _Scale(low, high, low, high - low)
    mean, sd = _mean_and_sd(region, low, high)
    return _Scale(low, high, mean, sd)


def _ends(region: Real, percentiles: tuple[float, float] | None) -> tuple[float, float]:
    """The percentiles, or the extremes where none are asked for or nearly all voxels are equal."""
    if percentiles is not None:
        low, high = _percentiles(region, percentiles)
        if low < high:
            return low, high
    return float(region.min()), float(region.max())


def _percentiles(region: Real, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles with linear interpolation between order statistics, in float64."""
    places = [q / 100 * (region.size - 1) for q in percentiles]
    below = [int(place) for place in places]
    above = [min(n + 1, region.size - 1) for n in below]
    ordered = np.partition(region, sorted({*below, *above}))
    low, high = (
        float(ordered[a]) + (place - a) * (float(ordered[b]) - float(ordered[a]))
        for place, a, b in zip(places, below, above, strict=True)
    )
    return low, high


def _mean_and_sd(region: Real, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation after clipping; two passes, so large offsets cost no digits."""
    mean = sum(float(part.sum()) for part in _clipped(region, low, high)) / region.size
    variance = sum(float(((part - mean) ** 2).sum()) for part in _clipped(region, low, high)) / region.size
    return mean, float(np.sqrt(variance))


def _clipped(region: Real, low: float, high: float) -> Iterator[NDArray[np.float64]]:
    for start in range(0, region.size, CHUNK_VOXELS):
        yield np.clip(region[start : start + CHUNK_VOXELS].astype(np.float64), low, high)


def _name(index: int, channels: Sequence[str] | None) -> str:
    return f"channel {channels[index]!r}" if channels else f"channel {index}"
