"""Post-processing: what anatomy says about a structure's shape, applied to its labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import cc3d
import numpy as np
from numpy.typing import NDArray

from medseg.errors import UsageError
from medseg.structures import StructureSet
from medseg.volume import Grid

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]

CONNECTIVITY = 26
"""Voxels that share a face, an edge or a corner belong to one component."""


@dataclass(frozen=True)
class PostprocessSpec:
    """What is done to the labels of each structure, by name; nothing by default.

    Attributes:
        largest_component: structures of which only the largest component is kept.
        min_volume_mm3: components smaller than this are removed.
        fill_holes: structures whose enclosed background becomes theirs.

    Raises:
        UsageError: a volume is not a positive number.
    """

    largest_component: tuple[str, ...] = ()
    min_volume_mm3: dict[str, float] = field(default_factory=dict)
    fill_holes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, volume in self.min_volume_mm3.items():
            if not 0 < volume < float("inf"):
                raise UsageError(f"the smallest volume of {name!r} must be positive, not {volume} mm3")

    @property
    def names(self) -> tuple[str, ...]:
        """Every structure something is asked for, once."""
        return tuple(dict.fromkeys((*self.largest_component, *self.min_volume_mm3, *self.fill_holes)))


def postprocess(labels: Labels, structures: StructureSet, spec: PostprocessSpec, grid: Grid) -> Labels:
    """Labels after, for every structure in turn: small components out, largest kept, holes filled.

    Works on the values painted in the label map, so for overlapping regions on the part of a
    region that no later one was painted over. Voxels taken away become background; a hole is
    filled only where it is background, never over another structure. On a grid one voxel thick
    along an axis, a hole is a hole of the plane.

    Args:
        labels: (I, J, K), in the dataset's own values.
        structures: what the values mean.
        spec: what to do.
        grid: the labels' grid, for the volume of a voxel.

    Returns:
        An array of the same shape and type; the given one where nothing is asked for.

    Raises:
        UsageError: the spec names a structure that does not exist.
    """
    values = {name: structures[name].value for name in spec.names}
    if not values:
        return labels
    out = labels.copy()
    flat = tuple(axis for axis, size in enumerate(labels.shape) if size == 1)
    for structure in structures:
        name = structure.name
        if name not in values:
            continue
        box = _box(out, structure.value)
        if box is None:
            continue
        part = np.squeeze(out[box], axis=flat)
        _remove_components(part, structure.value, _smallest(spec, name, grid), name in spec.largest_component)
        if name in spec.fill_holes:
            _fill_holes(part, structure.value)
    return out


def _smallest(spec: PostprocessSpec, name: str, grid: Grid) -> float:
    return spec.min_volume_mm3.get(name, 0.0) / grid.voxel_volume_mm3


def _box(labels: Labels, value: int) -> tuple[slice, ...] | None:
    """The smallest box around one value; components and holes of it cannot reach outside."""
    from scipy import ndimage  # slow to import, and most models need none of this

    found = ndimage.find_objects((labels == value).view(np.uint8))
    return found[0] if found else None


def _remove_components(labels: Labels, value: int, smallest_voxels: float, largest_only: bool) -> None:
    """Set the components of `value` that must go to background, in place."""
    if smallest_voxels <= 0 and not largest_only:
        return
    components, count = cc3d.connected_components(
        (labels == value).astype(np.uint8), connectivity=CONNECTIVITY, return_N=True
    )
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= max(smallest_voxels, 1)
    if largest_only:
        keep &= np.arange(count + 1) == sizes.argmax()
    labels[(components > 0) & ~keep[components]] = 0


def _fill_holes(labels: Labels, value: int) -> None:
    """Give `value` the background that it encloses, in place; a hole opens through faces only."""
    from scipy import ndimage

    filled: Mask = ndimage.binary_fill_holes(labels == value)
    labels[filled & (labels == 0)] = value
