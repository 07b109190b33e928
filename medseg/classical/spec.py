"""Settings of the two random fields that smooth a network's probabilities by the scan; see their files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.core.errors import UsageError


@dataclass(frozen=True)
class DenseCrfSpec:
    """A random field in which every two voxels are joined; see `classical.dense_crf`.

    Intensities are those of the prepared scan: of a z-scored one, 1 is its standard deviation.

    Attributes:
        bilateral_weight: of voxels that are near and alike; 0 leaves them out.
        bilateral_mm: distance at which voxels count as near.
        intensity: difference at which they count as alike.
        spatial_weight: of voxels that are near, whatever their intensity; 0 leaves them out.
        spatial_mm: distance at which these count as near.
        iterations: of the mean field.
        channels: of the scan, one or two; empty for the first.

    Raises:
        UsageError: a value is out of range.
    """

    bilateral_weight: float = 3.0
    bilateral_mm: float = 10.0
    intensity: float = 0.2
    spatial_weight: float = 1.0
    spatial_mm: float = 1.5
    iterations: int = 10
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("bilateral_weight", "spatial_weight"):
            _require(getattr(self, name) >= 0, f"dense_crf.{name} must be at least 0", getattr(self, name))
        for name in ("bilateral_mm", "intensity", "spatial_mm"):
            _require(getattr(self, name) > 0, f"dense_crf.{name} must be positive", getattr(self, name))
        _require(self.iterations >= 1, "dense_crf.iterations must be at least 1", self.iterations)
        _require(len(self.channels) <= 2, "dense_crf.channels must name at most 2", len(self.channels))


@dataclass(frozen=True)
class GridCrfSpec:
    """A random field in which neighbouring voxels are joined; see `classical.graph_cut`.

    Attributes:
        weight: lambda, what two neighbours of one intensity, 1 mm apart, cost where their labels differ.
        intensity: difference of the prepared scan's intensities at which neighbours cost 0.61 of that.
        neighbours: of a voxel: 6 share a face with it, 26 a face, an edge or a corner.
        moves: how more than two labels are found: "expansion" or "swap".
        channel: of the scan; empty for the first.

    Raises:
        UsageError: a value is out of range.
    """

    weight: float = 1.0
    intensity: float = 0.2
    neighbours: Literal[6, 26] = 6
    moves: Literal["expansion", "swap"] = "expansion"
    channel: str = ""

    def __post_init__(self) -> None:
        _require(self.weight >= 0, "grid_crf.weight must be at least 0", self.weight)
        _require(self.intensity > 0, "grid_crf.intensity must be positive", self.intensity)


def _require(holds: bool, rule: str, value: float) -> None:
    if not (holds and math.isfinite(value)):
        raise UsageError(f"{rule}, not {value}")
