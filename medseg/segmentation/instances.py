"""The single objects of a segmentation: each structure's, numbered together in one map."""

from __future__ import annotations

import numpy as np

from medseg.classical.instances import separated
from medseg.classical.spec import InstancesSpec
from medseg.core.instances import InstanceMap, instance_map
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import LabelMap


def instances_of(labels: LabelMap, structures: StructureSet, spec: InstancesSpec) -> InstanceMap:
    """Tell the objects apart: numbers from 1, structure by structure, the largest of each first.

    Raises:
        UsageError: see `InstancesSpec.chosen`.
    """
    numbers = np.zeros(labels.grid.shape, np.uint32)
    owners: dict[int, Structure] = {}
    depth_mm = spec.depth_mm if spec.method == "watershed" else None
    for structure in spec.chosen(structures):
        found = separated(structures.mask(labels.array, structure), labels.grid.spacing_mm, depth_mm)
        inside = found > 0
        numbers[inside] = found[inside] + np.uint32(len(owners))
        first = len(owners) + 1
        owners |= dict.fromkeys(range(first, first + int(found.max(initial=0))), structure)
    return instance_map(numbers, owners, labels.grid, labels.form)
