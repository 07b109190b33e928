"""Objects that a model's network finds one by one, and the label map painted from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg.core.errors import ModelError
from medseg.core.instances import InstanceMap, instance_map
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.inference.slices import turned, with_neighbours
from medseg.model.file import Model
from medseg.model.spec import LEAST_SCORE, ModelSpec
from medseg.preparation.preparation import Prepared
from medseg.preparation.resample import resample_labels

if TYPE_CHECKING:
    from medseg.instances.painting import Located

Labels = NDArray[np.integer[Any]]


class ObjectFinder:
    """Finds the objects of a scan by the networks of models, with torch on the processor.

    Args:
        models: whose networks find objects, and which prepare scans alike.
        least_score: of an object, once the models' are joined; None takes each model's own before that.

    Raises:
        ModelError: one finds none, or prepares scans otherwise.
    """

    def __init__(self, models: Sequence[Model], least_score: float | None = None) -> None:
        from medseg.inference.engines.torch import built  # slow to import

        first = models[0].spec
        for other in (model.spec for model in models[1:]):
            if not other.network.finds_objects:
                raise ModelError(f"{first.name} finds objects, and {other.name} does not")
            if other.preparation != first.preparation:
                raise ModelError(
                    f"{first.name} and {other.name} prepare scans differently, so objects cannot be joined",
                    hint="predict with each of them",
                )
        self.networks = [built(model).eval() for model in models]
        self.specs = [model.spec for model in models]
        self.least_score = least_score

    def __call__(
        self, prepared: Prepared, labels: Labels, structures: StructureSet
    ) -> tuple[NDArray[np.uint32], list[Located]]:
        """Numbers from 1 on the scan's grid in RAS+ order, and the object of each.

        Args:
            prepared: the scan.
            labels: the label map of the network's voxels, on that grid, by which objects are outlined.
            structures: what its values mean.
        """
        from medseg.instances.painting import outlined, painted
        from medseg.instances.whole import joined

        pairs = zip(self.networks, self.specs, strict=True)
        seen = [self._sure(network, spec, prepared.array) for network, spec in pairs]
        together = [one for one in joined(seen) if one.score >= (self.least_score or 0.0)]
        numbers, found = painted(together, prepared.array.shape[1:])
        whole = np.zeros(prepared.oriented_shape, np.uint32)
        whole[prepared.box.slices] = resample_labels(numbers, prepared.box.shape)
        values = structures.values
        return outlined(whole, [values[one.label] for one in found], labels), found

    def _sure(self, network: Any, spec: ModelSpec, image: NDArray[np.float32]) -> list[Located]:
        """What one model finds, from the least score that the user gave, or else its own."""
        own = spec.postprocess.least_score
        least = own if self.least_score is None else min(self.least_score, LEAST_SCORE)
        least = LEAST_SCORE if least is None else least
        return [one for one in located(network, image, spec, min(least, LEAST_SCORE)) if one.score >= least]


def located(
    network: Any, image: NDArray[np.float32], spec: ModelSpec, least: float = LEAST_SCORE
) -> list[Located]:
    """The objects of a prepared scan, the highest score first; of slices, those that go on are one.

    Args:
        network: of the model, a module of torch in eval mode.
        image: (C, I, J, K).
        spec: of the model.
        least: score below which a box is passed over.
    """
    from medseg.instances.choice import Choice
    from medseg.instances.linking import linked
    from medseg.instances.whole import objects_in

    choice = Choice(least=least)
    if spec.network.spatial_dims == 3:
        return objects_in(network, image, spec.inference.tile, choice)
    axis = spec.slices.axes[0]
    seen = with_neighbours(turned(image, axis), spec.slices.context)
    patch = spec.inference.tile[:2]
    found = linked([objects_in(network, seen[..., k], patch, choice) for k in range(seen.shape[3])])
    order = [0, 1, 2]
    order[axis], order[2] = 2, axis
    return [
        replace(one, box=one.box[[*order, *(3 + n for n in order)]], mask=one.mask.transpose(order))
        for one in found
    ]


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
