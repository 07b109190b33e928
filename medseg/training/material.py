"""Training data of a trainer: prepared cases, and the source of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.augment.compose import Augmenter
from medseg.augment.slices import SliceAugmenter, turned
from medseg.core.components import components
from medseg.core.structures import IGNORED, StructureSet
from medseg.data.cases import PreparedCase
from medseg.data.layouts import CaseFiles
from medseg.data.synthetic import SyntheticCases
from medseg.instances.detecting import Detecting
from medseg.instances.objects import coded
from medseg.losses.distances import SpacingMm
from medseg.networks.layers import Segmenter
from medseg.training.batch import TrainingCase
from medseg.training.loop import PatchMaker
from medseg.training.recipe import Recipe
from medseg.training.setup import map_case, training_case
from medseg.training.split import Split


@dataclass(frozen=True)
class Material:
    """Training data: cases that train, cases that choose the checkpoint, and the source of patches.

    `spacing_mm` is that of the axes of a patch.
    """

    training: Sequence[TrainingCase]
    selection: Sequence[TrainingCase]
    augmenter: PatchMaker
    spacing_mm: SpacingMm


def training_material(
    recipe: Recipe,
    structures: StructureSet,
    cases: Mapping[str, PreparedCase],
    maps: SyntheticCases | None,
    files: Mapping[str, CaseFiles],
    split: Split,
    network: Segmenter,
) -> Material:
    """Patches of prepared scans; or scans made again at every step, where there are only label maps."""

    def part(names: Sequence[str]) -> list[TrainingCase]:
        return [
            training_case(n, case.prepared.array, _learnt(case, network), case.unlabelled)
            for n, case in ((n, cases[n]) for n in names)
        ]

    i, j, k = next(iter(cases.values())).prepared.grid.spacing_mm
    maker = patch_maker(recipe, structures, maps, (i, j, k))
    channels = len(recipe.channels)
    training = (
        [map_case(name, maps.generation_map(files[name]), channels) for name in split.train]
        if maps
        else part(split.train)
    )
    if recipe.network.spatial_dims == 2:
        i, j, k = turned((i, j, k), recipe.slices.axes[0])
    return Material(training, part(split.selection), maker, (i, j, k))


def _learnt(case: PreparedCase, network: Segmenter) -> NDArray[np.uint8] | NDArray[np.int32]:
    """Label indices; of a network that finds objects, codes, whose objects are pieces where nobody says."""
    if not isinstance(network, Detecting):
        return case.indices
    known = case.indices * (case.indices != IGNORED)
    return coded(case.indices, components(known) if case.numbers is None else case.numbers)


def patch_maker(
    recipe: Recipe, structures: StructureSet, maps: SyntheticCases | None, spacing_mm: SpacingMm
) -> PatchMaker:
    """The source of patches at a spacing.

    Raises:
        UsageError: the recipe's changes do not go with the card's structures or tissues.
    """
    if maps is not None:
        return maps.synthesiser(spacing_mm)
    coarse = None if recipe.cascade is None else recipe.cascade.augmentation
    augmenter = Augmenter(recipe.augmentation, structures, spacing_mm, coarse)
    return augmenter if recipe.network.spatial_dims == 3 else SliceAugmenter(augmenter, recipe.slices)
