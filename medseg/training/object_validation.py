"""Average precision on whole volumes, which chooses the checkpoint of a network that finds objects."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.core.structures import StructureSet
from medseg.instances.objects import OBJECT, indices_of
from medseg.instances.painting import painted
from medseg.metrics import CaseDetections, best_threshold, mean_average_precision
from medseg.model.spec import EVEN_SCORE, LEAST_SCORE, ModelSpec
from medseg.segmentation.objects import located
from medseg.training.batch import TrainingCase

LEAST_IOU = 0.1
"""Of a hit that counts for the score from which objects are taken."""

CHOSEN_BY = tuple(round(0.1 * n, 1) for n in range(1, 10))
"""IoU of hits whose average precision chooses the checkpoint: where nearly all objects are found, as a few
cases soon show, that of coarse hits tells weights no more apart, and that of fine ones does."""


class ObjectValidator:
    """Finds the objects of every selection case and measures their masks on the prepared grid.

    Args:
        network: the trained network, of which a copy takes the weights to be judged.
        spec: the model in the making: its structures, its slices, and how large a patch is.
        cases: the selection cases, with codes of their objects.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec, cases: Sequence[TrainingCase]) -> None:
        self.network = copy.deepcopy(network)
        self.structures: StructureSet = spec.structure_set
        self.spec = spec
        self.cases = cases

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """AP over IoU from 0.1 to 0.9 per structure; NaN for a structure without an object."""
        found = self._detections(weights)
        return {name: mean_average_precision(cases, thresholds=CHOSEN_BY) for name, cases in found.items()}

    def least_score(self, weights: Mapping[str, Tensor]) -> float:
        """The score from which objects of any structure are best taken; an even one where none can tell."""
        every = [case for cases in self._detections(weights).values() for case in cases]
        best = best_threshold(every, least_overlap=LEAST_IOU)
        return EVEN_SCORE if math.isnan(best) else max(math.floor(1e4 * best) / 1e4, LEAST_SCORE)

    def _detections(self, weights: Mapping[str, Tensor]) -> dict[str, list[CaseDetections]]:
        """What is found of each structure in each case."""
        self.network.load_state_dict(dict(weights))
        self.network.eval()
        found: dict[str, list[CaseDetections]] = {name: [] for name in self.structures.names}
        for case in self.cases:
            seen = located(self.network, case.image.numpy(), self.spec)
            numbers, kept = painted(seen, case.labels.shape)
            codes = case.labels.numpy()
            indices = indices_of(case.labels).numpy()
            for index, name in enumerate(self.structures.names):
                if name in case.unlabelled:
                    continue
                own = [n for n, one in enumerate(kept, start=1) if one.label == index]
                true = np.where((indices == index + 1) & (codes >= OBJECT), codes, 0)
                scores = [kept[n - 1].score for n in own]
                detected = renumbered(numbers, own)
                found[name].append(CaseDetections.of_masks(detected, scores, true))
        return found


def renumbered(numbers: NDArray[np.uint32], own: Sequence[int]) -> NDArray[np.uint32]:
    """The objects of these numbers alone, numbered from 1 in this order."""
    table = np.zeros(int(numbers.max(initial=0)) + 1, np.uint32)
    table[list(own)] = np.arange(1, len(own) + 1)
    out: NDArray[np.uint32] = table[numbers]
    return out
