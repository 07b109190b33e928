"""A pair of label files read onto one grid, with the numbers of their objects where these are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medseg.core.errors import GridMismatchError, MedsegError, ResourceError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.data.objects import numbers_beside
from medseg.evaluation.pairs import FilePair, read_pair


class Maps(NamedTuple):
    """A pair in memory, on one grid, with the numbers of their instances where these were asked for."""

    predicted: LabelMap
    reference: LabelMap
    numbers: tuple[LabelMap, LabelMap] | None = None

    def numbers_without_ignored(self) -> tuple[LabelMap, LabelMap] | None:
        """The numbers, 0 where the reference says that voxels are to be ignored."""
        labelled = self.reference.labelled
        if self.numbers is None or labelled is None:
            return self.numbers
        own, true = (replace(n, array=np.where(labelled, n.array, 0)) for n in self.numbers)
        return own, true


def read_maps(
    pair: FilePair, structures: StructureSet, *, with_numbers: bool, alone: bool
) -> tuple[Maps, MedsegError | None]:
    """Both maps on one grid; a prediction without voxels for one that cannot be used, and why it cannot.

    Raises:
        MedsegError: the reference cannot be used, the machine does not suffice, or the case is alone.
    """
    fault: MedsegError | None = None
    own: LabelMap | None = None
    try:
        reference, predicted = read_pair(pair, structures)
        _require_one_grid(pair, reference, predicted)
        if with_numbers and pair.prediction is not None:
            own = numbers_beside(pair.prediction, predicted or _nothing(reference))
    except ResourceError:
        raise
    except MedsegError as found:
        if alone or pair.prediction is None:
            raise
        fault, predicted = found, None
        reference, _ = read_pair(replace(pair, prediction=None), structures)
    if predicted is None:
        predicted = _nothing(reference)
    if not with_numbers:
        return Maps(predicted, reference), fault
    numbers = own or _nothing(reference), numbers_beside(pair.reference, reference)
    return Maps(predicted, reference, numbers), fault


def _nothing(like: LabelMap) -> LabelMap:
    """A map without voxels on the grid of another."""
    return LabelMap(np.broadcast_to(np.uint8(0), like.grid.shape), like.grid, like.form)


def _require_one_grid(pair: FilePair, reference: LabelMap, predicted: LabelMap | None) -> None:
    """Refuse two grids."""
    if predicted is None or pair.prediction is None:
        return
    what = f"the reference {pair.reference.name} and the prediction {pair.prediction.name}"
    try:
        reference.grid.require(predicted.grid, what, str(pair.prediction))
    except GridMismatchError as fault:
        fault.hint = "predict on the reference's grid, or resample one onto the other's first"
        raise
