"""Objects that a model's network finds one by one, and the label map painted from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg.core.instances import InstanceMap, instance_map
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.model.file import Model
from medseg.preparation.preparation import Prepared
from medseg.preparation.resample import resample_labels

if TYPE_CHECKING:
    from medseg.instances.painting import Located

Labels = NDArray[np.integer[Any]]


class ObjectFinder:
    """Finds the objects of a scan by a model's network, with torch on the processor.

    Args:
        model: whose network finds objects.
    """

    def __init__(self, model: Model) -> None:
        from medseg.inference.engines.torch import built  # slow to import

        self.network = built(model).eval()
        self.patch = model.spec.inference.tile

    def __call__(self, prepared: Prepared) -> tuple[NDArray[np.uint32], list[Located]]:
        """Numbers from 1 on the scan's grid in RAS+ order, and the object of each."""
        from medseg.instances.painting import painted
        from medseg.instances.whole import objects_in

        numbers, found = painted(
            objects_in(self.network, prepared.array, self.patch), prepared.array.shape[1:]
        )
        whole = np.zeros(prepared.oriented_shape, np.uint32)
        whole[prepared.box.slices] = resample_labels(numbers, prepared.box.shape)
        return whole, found


def labels_of(
    numbers: NDArray[np.uint32], found: Sequence[Located], structures: StructureSet, kind: DTypeLike
) -> Labels:
    """The label map painted from objects: what no object holds is background."""
    values = structures.values
    return np.array([0, *(values[one.label] for one in found)], kind)[numbers]


def described(
    numbers: NDArray[np.uint32], found: Sequence[Located], structures: StructureSet, like: LabelMap
) -> InstanceMap:
    """The objects with their measures, numbered structure by structure, the largest first.

    Args:
        numbers: on the grid of `like`.
        found: the object of each number, from 1.
        structures: by the objects' labels.
        like: whose grid and form the map has.
    """
    sizes = np.bincount(numbers.ravel(), minlength=len(found) + 1)
    there = [n for n in range(1, len(found) + 1) if sizes[n]]
    order = sorted(there, key=lambda n: (found[n - 1].label, -sizes[n], n))
    table = np.zeros(len(found) + 1, np.uint32)
    table[order] = np.arange(1, len(order) + 1, dtype=np.uint32)
    items = structures.items
    owners = {new: items[found[n - 1].label] for new, n in enumerate(order, start=1)}
    scores = {new: found[n - 1].score for new, n in enumerate(order, start=1)}
    return instance_map(table[numbers], owners, like.grid, like.form, scores)
