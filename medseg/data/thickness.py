"""How thick structures are, which says how long the voxels of a plan may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap


def thicknesses_mm(
    labels: LabelMap, structures: StructureSet, volumes_ml: Mapping[str, float]
) -> dict[str, float]:
    """Of each structure that is there; where voxels may lack, the diameter of a sphere of its volume."""
    if labels.ignore is not None or labels.lacking:
        return {name: 10.0 * float(np.cbrt(6.0 * ml / math.pi)) for name, ml in volumes_ml.items()}
    boxes = structures.boxes(labels.array)
    return {
        name: thickness_mm(
            structures.mask(labels.array[boxes[name]], structures[name]), labels.grid.spacing_mm
        )
        for name in volumes_ml
    }


def thickness_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    """Diameter of the sphere with as much volume for its surface, from the faces of voxels; of a shell, less.

    A sphere's faces are 3/2 of its surface, a disk's edges 4/pi of its circumference.

    >>> ball = sum((n - 20.0) ** 2 for n in np.indices((41, 41, 41))) <= 15.5**2
    >>> round(thickness_mm(ball, (1.0, 1.0, 1.0)), 1)
    31.1
    """
    axes = [axis for axis in range(3) if mask.shape[axis] > 1] or [0]
    voxel = math.prod(spacing_mm)
    faces = sum(
        voxel / spacing_mm[axis] * np.count_nonzero(np.diff(mask, axis=axis, prepend=False, append=False))
        for axis in axes
    )
    return float((2.0, 16 / math.pi, 9.0)[len(axes) - 1] * voxel * np.count_nonzero(mask) / faces)
