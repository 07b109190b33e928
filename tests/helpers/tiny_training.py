"""A training small enough for a unit test: phantoms of 16 voxels a side, a network of two levels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medseg.augment.compose import Augmenter
from medseg.augment.spec import (
    AffineSpec,
    AugmentSpec,
    ContrastSpec,
    ElasticSpec,
    FlipSpec,
    LinearSpec,
    NoiseSpec,
)
from medseg.core.structures import StructureSet
from medseg.data.phantom import STRUCTURES, phantom_case
from medseg.losses.spec import LossSpec
from medseg.model.spec import InferenceSpec, ModelSpec, NetworkFacts, NetworkSpec
from medseg.preparation.preparation import Preparation, PreparationSpec
from medseg.training.batch import TrainingCase
from medseg.training.loop import Trainer
from medseg.training.setup import build_network, build_trainer, facts_of, training_case
from medseg.training.spec import TrainingSpec

SPACING_MM = (1.0, 1.0, 1.0)
NETWORK = NetworkSpec("unet3d", out_channels=4, widths=(4, 8), norm="batch", options={"bias": False})
TRAINING = TrainingSpec(
    patch=(16, 16, 16),
    batch=2,
    epochs=3,
    steps_per_epoch=3,
    learning_rate=1e-2,
    warmup_steps=2,
    ema_decay=0.9,
    precision="f32",
)
AUGMENTATION = AugmentSpec(
    ElasticSpec(0.5, spacing_mm=8.0, sigma_mm=(0.0, 1.5)),
    AffineSpec(0.5),
    FlipSpec((0,)),
    ContrastSpec(linear=LinearSpec(0.5), noise=NoiseSpec(0.5)),
)


@functools.cache
def phantom(seed: int, size: int = 16) -> TrainingCase:
    """A prepared phantom."""
    volume, labels = phantom_case(np.random.default_rng(seed), (size, size, size))
    preparation = Preparation(PreparationSpec())
    prepared = preparation.apply(volume)
    indices = STRUCTURES.encode(preparation.apply_labels(labels, prepared))
    return training_case(f"patient-{seed}", prepared.array, indices)


@functools.cache
def _facts(widths: tuple[int, ...]) -> NetworkFacts:
    with torch.random.fork_rng():
        return facts_of(build_network(replace(NETWORK, widths=widths), seed=0, device="cpu", threads=0))


def model_spec(network: NetworkSpec = NETWORK, structures: StructureSet = STRUCTURES) -> ModelSpec:
    """The model such a training makes."""
    inference = InferenceSpec(tile=TRAINING.patch)
    return ModelSpec(
        "tiny", network, _facts(network.widths), ("image",), structures.items, inference=inference
    )


def tiny_trainer(
    folder: Path,
    *,
    training: TrainingSpec = TRAINING,
    network: NetworkSpec = NETWORK,
    augmentation: AugmentSpec = AUGMENTATION,
    structures: StructureSet = STRUCTURES,
    loss: LossSpec | None = None,
    cases: Sequence[TrainingCase] = (),
    selection: Sequence[TrainingCase] = (),
    seed: int | None = None,
) -> Trainer:
    """A trainer as `medseg train` makes one; on phantoms 0, 1 and 2, and 100 to choose the checkpoint."""
    training = training if seed is None else replace(training, seed=seed)
    return build_trainer(
        build_network(network, seed=training.seed, device="cpu", threads=0),
        model_spec(network, structures),
        loss=loss or LossSpec(),
        augmenter=Augmenter(augmentation, structures, SPACING_MM),
        training=training,
        cases=cases or [phantom(n) for n in range(3)],
        selection=selection or [phantom(100)],
        folder=folder,
    )


def take_step(trainer: Trainer, case_numbers: list[int]) -> float:
    """One step on one patch of each case."""
    return trainer.step(trainer.batch(case_numbers, trainer.progress.step))
