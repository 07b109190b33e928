"""Dice on whole volumes, which chooses the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from medseg.core.structures import IGNORED
from medseg.inference.engines.torch import torch_engine
from medseg.inference.predictor import Predictor, labels_from_probabilities
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.model.spec import ModelSpec
from medseg.training.batch import TrainingCase


class WholeVolumeValidator:
    """Predicts every selection case whole and measures it on the prepared grid.

    Args:
        network: a copy of the trained network, which takes the weights to be judged.
        spec: the model in the making: how it tiles, what it writes.
        cases: the selection cases.
        device: where to predict.
    """

    def __init__(
        self, network: nn.Module, spec: ModelSpec, cases: Sequence[TrainingCase], device: str
    ) -> None:
        self.network = network
        self.structures = spec.structure_set
        self.cases = cases
        engine = torch_engine(network, device, spatial_dims=spec.network.spatial_dims)
        self.predictor = Predictor.of(spec, [engine])

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean Dice per structure; NaN for a structure that no case has."""
        self.network.load_state_dict(dict(weights))
        scores: dict[str, list[float]] = {name: [] for name in self.structures.names}
        values = self.structures.values_by_index
        for case in self.cases:
            probabilities = self.predictor.probabilities(case.image.numpy())
            predicted = labels_from_probabilities(probabilities, self.structures)
            indices = case.labels.numpy()
            labelled = indices != IGNORED
            counts = joint_counts(values[indices], predicted, self.structures, labelled)
            for name, count in counts.items():
                if name not in case.unlabelled:
                    scores[name].append(dice(count))
        return {name: _mean(found) for name, found in scores.items()}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
