"""Recipes: experiments in TOML, a dataset and every setting of what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from medseg.augment.spec import AugmentSpec, SynthesisSpec
from medseg.core.errors import UsageError, did_you_mean, unknown_name
from medseg.core.specs import from_mapping, left_out
from medseg.data.cards import Card, read_toml
from medseg.losses.spec import LossSpec
from medseg.model.refinement import IntensityClass, RefinementSpec
from medseg.model.spec import InferenceSpec, NetworkSpec, PostprocessSpec, SliceSpec, WeightType
from medseg.preparation.preparation import PreparationSpec
from medseg.training.spec import CascadeSpec, TrainingSpec


@dataclass(frozen=True)
class MetricsSpec:
    """What is measured in addition to overlap.

    Attributes:
        tolerance_mm: of the surface Dice, for every structure; None leaves it out.
        tolerance_source: where the tolerance comes from.
    """

    tolerance_mm: float | None = None
    tolerance_source: str = ""


@dataclass(frozen=True)
class Recipe:
    """An experiment: a dataset and every setting of what is done with it.

    Attributes:
        name: of the experiment, and of the model it makes.
        card: name or path of the dataset's card.
        network: its architecture.
        description: one sentence.
        channels: which of the card's the network takes, in what order; empty for all.
        weights: what the model stores its parameters as; "float16" rounds them, and halves the file. All
            that is measured is measured with the rounded ones. Computation is in float32 either way.
        synthesis: how scans are made, where the card has only label maps; augmentation is then part
            of it.
        slices: what a 2D network sees of a volume.
        refinement: how a prediction follows the intensities of the scan; not at all where it is left out.
        cascade: a coarse stage, whose answer the network is given; none where it is left out.
        preparation, augmentation, loss, training, inference, postprocess, metrics: the settings of each.
    """

    name: str
    card: str
    network: NetworkSpec
    description: str = ""
    channels: tuple[str, ...] = ()
    weights: WeightType = "float32"
    preparation: PreparationSpec = field(default_factory=PreparationSpec)
    augmentation: AugmentSpec = field(default_factory=AugmentSpec)
    synthesis: SynthesisSpec | None = None
    loss: LossSpec = field(default_factory=LossSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    inference: InferenceSpec = field(default_factory=InferenceSpec)
    slices: SliceSpec = field(default_factory=SliceSpec)
    refinement: RefinementSpec | None = None
    postprocess: PostprocessSpec = field(default_factory=PostprocessSpec)
    metrics: MetricsSpec = field(default_factory=MetricsSpec)
    cascade: CascadeSpec | None = left_out()

    def fitted_to(self, card: Card) -> Recipe:
        """The recipe with the channels and outputs that the card asks for.

        Raises:
            UsageError: post-processing names a structure or the recipe a channel that the card has not,
                or the card has only label maps and the recipe does not say how scans are made (or the
                reverse), or the recipe has a coarse stage that cannot be.
        """
        structures = card.structure_set
        if bool(card.tissues) != (self.synthesis is not None):
            raise UsageError(
                f"the card {card.name} has {'' if card.tissues else 'no '}tissues to synthesise scans from, "
                f"but the recipe {self.name} has {'no ' if self.synthesis is None else ''}[synthesis] section"
            )
        if self.synthesis is not None and self.preparation.spacing_mm is None:
            raise UsageError("synthetic scans need their voxel size, preparation.spacing_mm")
        for name in self.postprocess.names:
            structures.meant(name)
        if self.postprocess.instances is not None:
            self.postprocess.instances.chosen(structures)
        channels = self.channels or card.channels
        unknown = [name for name in channels if name not in card.channels]
        if unknown or len(set(channels)) < len(channels):
            raise UsageError(
                f"the recipe {self.name} takes the channels {', '.join(channels)}, but "
                f"the card {card.name} has {', '.join(card.channels)}"
            )
        for name in self.postprocess.channels:
            if name not in channels:
                raise unknown_name("channel", name, channels)
        flat = self.network.spatial_dims == 2
        if not flat and self.slices != SliceSpec():
            raise UsageError(f"the recipe {self.name} has [slices], but its network has 3 spatial_dims")
        if flat and self.synthesis is not None:
            raise UsageError(f"the recipe {self.name} has [synthesis], but its network has 2 spatial_dims")
        if flat and self.training.patch[2] != 1:
            raise UsageError(f"a patch of slices must have the shape (i, j, 1), not {self.training.patch}")
        if self.cascade is not None and (flat or self.synthesis is not None):
            what = "its network has 2 spatial_dims" if flat else "its scans are synthesised"
            raise UsageError(f"the recipe {self.name} has [cascade], but {what}")
        options = dict(self.network.options)
        if self.network.name == "unetpp":
            options["exclusive"] = not structures.are_regions
        network = replace(
            self.network,
            options=options,
            in_channels=len(channels) * self.slices.slices_seen + (len(structures) if self.cascade else 0),
            out_channels=structures.output_channels,
        )
        return replace(
            self, network=network, channels=channels, refinement=_fitted_refinement(self.refinement, card)
        )


def coarse_stage(recipe: Recipe, cascade: CascadeSpec) -> Recipe:
    """The recipe of the coarse stage of a recipe."""
    network = recipe.network
    widths = cascade.widths or network.widths
    return replace(
        recipe,
        name=f"{recipe.name}, coarse stage",
        network=replace(network, widths=widths, kernels=cascade.kernels, strides=cascade.strides),
        preparation=replace(recipe.preparation, spacing_mm=cascade.spacing_mm),
        training=replace(recipe.training, patch=cascade.patch, frozen=()),
        inference=replace(recipe.inference, tile=()),
        refinement=None,
        postprocess=PostprocessSpec(),
        cascade=None,
    )


KINDS = {
    "white": "white", "pallidum": "white", "stem": "white",
    "grey": "grey", "thalamus": "grey", "caudate": "grey", "putamen": "grey",
    "fluid": "fluid",
}  # fmt: skip
"""Kinds of tissue by what `Tissue.like` names."""


def _fitted_refinement(spec: RefinementSpec | None, card: Card) -> RefinementSpec | None:
    """With the classes of the card's tissues, where the recipe has none of its own.

    Raises:
        UsageError: a structure is in no class, the structures are regions, or the channel is unknown.
    """
    if spec is None:
        return None
    structures = card.structure_set
    if structures.are_regions:
        raise UsageError(f"refinement needs structures that do not overlap, but {card.name} has regions")
    if spec.channel not in ("", *card.channels):
        raise UsageError(
            f"the card {card.name} does not have the channel {spec.channel!r} of refinement.channel",
            hint=did_you_mean(spec.channel, card.channels),
        )
    spec = spec if spec.classes else replace(spec, classes=_classes_of(card))
    spec.class_numbers(structures)
    return spec


def _classes_of(card: Card) -> tuple[IntensityClass, ...]:
    """Structures whose tissues share a class of intensity."""
    groups: dict[tuple[str, int], list[str]] = {}
    structures = card.structure_set
    for structure in structures:
        tissue = next((t for t in card.tissues if t.target == structure.value and t.like in KINDS), None)
        if tissue is not None:
            key = (KINDS[tissue.like], tissue.intensity_class)
            groups.setdefault(key, []).append(structures.unsided(structure.name))
    return tuple(IntensityClass(kind, tuple(dict.fromkeys(found))) for (kind, _), found in groups.items())


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by path, or by the name of one that comes with the package.

    What it leaves out is that of its `base`, another recipe, if it names one. Paths of cards and bases that
    end with `.toml` are relative to the recipe that gives them.

    Raises:
        UsageError: there is none, a setting is unknown or wrong, or a recipe is its own base.
    """
    path, settings = _settings(name)
    return from_mapping(Recipe, settings, source=str(path))


def _settings(name: str | Path, above: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Where a recipe lies, and its settings with those of its bases."""
    path, own = read_toml(name, "pipelines")
    if path.resolve() in above:
        raise UsageError(f"is its own base, by way of {above[-1].name}", source=path)
    for key in ("card", "base"):
        if str(own.get(key, "")).endswith(".toml"):
            own[key] = str(path.parent / own[key])
    base = own.pop("base", None)
    if base is None:
        return path, own
    if not isinstance(base, str):
        raise UsageError(f"base must be the name or path of a recipe, not {base!r}", source=path)
    try:
        _, settings = _settings(base, (*above, path.resolve()))
    except UsageError as fault:
        if fault.source is not None:
            raise
        raise UsageError(f"base: {fault.fault}", source=path, hint=fault.hint) from None
    for key in ("name", "description"):
        settings.pop(key, None)
    return path, _laid_over(settings, own)


def _laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the place of a base's; a table that names something else replaces the base's whole."""
    both = dict(base)
    for key, value in own.items():
        under = base.get(key)
        both[key] = _laid_over(under, value) if _of_one_thing(under, value) else value
    return both


def _of_one_thing(base: Any, own: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether two values are tables of which the second does not name something else."""
    tables = isinstance(base, Mapping) and isinstance(own, Mapping)
    return tables and own.get("name", base.get("name")) == base.get("name")
