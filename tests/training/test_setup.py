"""From settings to a trainer: targets, facts, and a model file that names nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NETWORK, model_spec, phantom, tiny_trainer

from medseg.cards import load_card, load_recipe
from medseg.losses.spec import LossSpec
from medseg.model import Model, load_model
from medseg.phantom import STRUCTURES
from medseg.structures import Structure, StructureSet
from medseg.training.processor import autocast_dtype
from medseg.training.setup import build_network, facts_of
from medseg.training.split import make_split
from medseg.workflows.evidence import provenance

REGIONS = StructureSet((Structure(1, "all", members=(1, 2, 3)), Structure(3, "core", members=(3,))))


def test_the_seed_draws_the_weights() -> None:
    first, again, other = (build_network(NETWORK, seed=s, device="cpu", threads=0) for s in (1, 1, 2))
    key = "output.weight" if "output.weight" in first.state_dict() else next(iter(first.state_dict()))
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_facts_are_what_the_network_says() -> None:
    network = build_network(NETWORK, seed=0, device="cpu", threads=0)
    facts = facts_of(network)
    assert facts.stride == (2, 2, 2)
    assert facts.tile_independent
    assert facts.receptive_radius == network.receptive_radius


def test_targets_of_labels_are_class_indices(tmp_path: Path) -> None:
    labels = phantom(0).labels[None]
    target = tiny_trainer(tmp_path).target(labels)
    assert target.dtype == torch.int64
    assert torch.equal(target, labels.long())


def test_targets_of_regions_are_their_masks(tmp_path: Path) -> None:
    labels = torch.stack([phantom(0).labels, phantom(1).labels])
    trainer = tiny_trainer(
        tmp_path,
        structures=REGIONS,
        network=replace(NETWORK, out_channels=2),
        loss=LossSpec("bce_dice"),
    )
    target = trainer.target(labels)
    assert target.shape == (2, 2, 16, 16, 16)
    assert target.dtype == torch.float32
    for sample in range(2):
        for n, region in enumerate(REGIONS):
            expected = np.isin(labels[sample].numpy(), region.members)
            np.testing.assert_array_equal(target[sample, n].numpy(), expected)


def test_a_training_on_regions_takes_a_step(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        structures=REGIONS,
        network=replace(NETWORK, out_channels=2),
        loss=LossSpec("bce_dice"),
    )
    assert trainer.step([0, 1]) > 0


def test_a_model_file_names_no_case(tmp_path: Path) -> None:
    card, recipe = load_card("phantom"), load_recipe("phantom_unet3d")
    cases = {f"jane-doe-{n}": f"jane-doe-{n}" for n in range(10)}
    split = make_split(cases, folds=5, fold=0, selection_share=0.1, seed=0)
    trainer = tiny_trainer(tmp_path)
    weights = {key: value.numpy() for key, value in trainer.best_weights().items()}
    spec = replace(model_spec(), training=provenance(recipe, card, split))
    Model(spec, weights).save(tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes().lower()
    for name in (b"jane", b"doe", b"patient", str(tmp_path).lower().encode()):
        assert name not in data
    assert load_model(tmp_path / "m.safetensors").spec.structures == STRUCTURES.items


@pytest.mark.parametrize(("precision", "dtype"), [("f32", None), ("bf16", torch.bfloat16)])
def test_a_stated_precision_is_taken(precision: str, dtype: torch.dtype | None) -> None:
    assert autocast_dtype(torch.device("cpu"), precision) == dtype  # type: ignore[arg-type]


def test_precision_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert autocast_dtype(torch.device("cpu"), "auto") == (torch.bfloat16 if has else None)
    assert autocast_dtype(torch.device("mps"), "auto") is None
