"""Settings of the classical methods that a model's answer may end with; see their files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet


@dataclass(frozen=True)
class DenseCrfSpec:
    """A random field in which every two voxels are joined; see `classical.dense_crf`.

    Intensities are those of the prepared scan: of a z-scored one, 1 is its standard deviation. Structures
    narrower than the distances lose voxels to what surrounds them: take distances below their radius.

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
        _require(1 <= self.iterations <= 100, "dense_crf.iterations must be 1 to 100", self.iterations)
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


@dataclass(frozen=True)
class InstancesSpec:
    """How the single objects of structures are told apart; see `classical.instances`.

    Attributes:
        structures: that have instances; empty for all. One name without "left" and "right" means both sides.
        method: "components" are what touches nothing else of its structure; "watershed" cuts these where they
            are thin.
        depth_mm: of the watershed: by how much the radius within falls, at least, where a component is cut.

    Raises:
        UsageError: the depth is not positive.
    """

    structures: tuple[str, ...] = ()
    method: Literal["components", "watershed"] = "components"
    depth_mm: float = 1.0

    def __post_init__(self) -> None:
        _require(self.depth_mm > 0, "instances.depth_mm must be positive", self.depth_mm)

    def chosen(self, structures: StructureSet) -> tuple[Structure, ...]:
        """The structures that have instances.

        Raises:
            UsageError: a name is no structure's, or two share voxels, which have one number each.
        """
        meant = {s.value: s for name in self.structures for s in structures.meant(name)}
        chosen = tuple(meant.values()) or structures.items
        for n, one in enumerate(chosen):
            for other in chosen[:n]:
                if set(one.label_values) & set(other.label_values):
                    raise UsageError(
                        f"{other.name} and {one.name} overlap, so their instances cannot share one map",
                        hint="name one of them in postprocess.instances.structures",
                    )
        return chosen


def _require(holds: bool, rule: str, value: float) -> None:
    if not (holds and math.isfinite(value)):
        raise UsageError(f"{rule}, not {value}")
