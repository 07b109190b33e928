"""The Dice that chooses the checkpoint is the Dice of the labels a user would get."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import NETWORK, model_spec, phantom

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.data.phantom import STRUCTURES
from medseg.networks import registry
from medseg.networks.layers import Segmenter
from medseg.training.validation import WholeVolumeValidator

REGIONS = StructureSet((Structure(1, "all", members=(1, 2, 3)), Structure(3, "core", members=(3,))))


def warm_network(seed: int, outputs: int = 4) -> Segmenter:
    """Random weights, with the running statistics of a few phantoms."""
    torch.manual_seed(seed)
    network = registry.build(replace(NETWORK, out_channels=outputs)).train()
    with torch.no_grad():
        for n in range(6):
            network(phantom(n % 3).image[None])
    return network


def cold_network(outputs: int = 4) -> Segmenter:
    """The copy a validator fills with the weights to be judged."""
    return registry.build(replace(NETWORK, out_channels=outputs))


def logits_of(network: Segmenter, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(image[None])[0]


def dice_of(found: torch.Tensor, truth: torch.Tensor) -> float:
    whole = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / whole if whole else math.nan


def mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_mean_dice_of_direct_predictions(seed: int) -> None:
    network, cases = warm_network(seed), [phantom(5), phantom(6)]
    validator = WholeVolumeValidator(cold_network(), model_spec(), cases, "cpu")
    found = validator(network.state_dict())
    predicted = [logits_of(network, case.image).argmax(dim=0) for case in cases]
    expected = {
        structure.name: mean(
            [dice_of(p == index, c.labels == index) for p, c in zip(predicted, cases, strict=True)]
        )
        for index, structure in enumerate(STRUCTURES, start=1)
    }
    assert found == pytest.approx(expected, nan_ok=True)
    assert max(found.values()) > 0.01


def test_label_values_that_are_no_indices_are_told_apart() -> None:
    network, case = warm_network(0), phantom(5)
    far = from_labels({70: "left lobe", 3: "right lobe", 500: "core"})
    found = WholeVolumeValidator(cold_network(), model_spec(structures=far), [case], "cpu")
    near = WholeVolumeValidator(cold_network(), model_spec(), [case], "cpu")
    weights = network.state_dict()
    assert found(weights) == near(weights)


def test_regions_are_measured_in_the_labels_they_are_painted_as() -> None:
    network, case = warm_network(0, outputs=2), phantom(5)
    spec = model_spec(replace(NETWORK, out_channels=2), REGIONS)
    found = WholeVolumeValidator(cold_network(2), spec, [case], "cpu")(network.state_dict())
    inside = logits_of(network, case.image) > 0
    painted = torch.where(inside[1], 3, torch.where(inside[0], 1, 0))
    expected = {
        "all": dice_of(painted > 0, case.labels > 0),
        "core": dice_of(painted == 3, case.labels == 3),
    }
    assert found == pytest.approx(expected)


def test_a_structure_no_case_has_is_no_score() -> None:
    case = phantom(5)
    empty = replace(case, labels=torch.zeros_like(case.labels))
    validator = WholeVolumeValidator(cold_network(), model_spec(), [case, empty], "cpu")
    silent = warm_network(0)
    for parameter in silent.parameters():
        torch.nn.init.zeros_(parameter)  # equal logits: everything is background
    assert validator(silent.state_dict()) == dict.fromkeys(STRUCTURES.names, 0.0)
    only_empty = WholeVolumeValidator(cold_network(), model_spec(), [empty], "cpu")
    assert np.isnan(list(only_empty(silent.state_dict()).values())).all()


def test_the_weights_given_are_not_changed() -> None:
    network = warm_network(0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    WholeVolumeValidator(cold_network(), model_spec(), [phantom(5)], "cpu")(network.state_dict())
    for key, value in network.state_dict().items():
        assert torch.equal(before[key], value)
