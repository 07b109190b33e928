"""Cards describe a dataset, recipes an experiment; both are TOML, and unknown keys are errors."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from medseg import specs
from medseg.augment.spec import AugmentSpec, SynthesisSpec, Tissue
from medseg.errors import InputError, UsageError, did_you_mean
from medseg.io import ReadOptions
from medseg.layouts import CaseFiles, DatasetFiles, LayoutName, read_layout
from medseg.layouts.case import plain
from medseg.losses.spec import LossSpec
from medseg.model import InferenceSpec, NetworkSpec, SliceSpec, WeightType
from medseg.postprocess import PostprocessSpec
from medseg.preparation import PreparationSpec
from medseg.refinement import IntensityClass, RefinementSpec
from medseg.structures import Structure, StructureSet, Total, from_labels
from medseg.training.spec import TrainingSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """A dataset.

    Attributes:
        name: of the dataset.
        description: one sentence.
        layout: how its files lie.
        channels: names of the images of a case, in the files' order.
        structures: what its label values mean.
        licence: of the data.
        source: where it comes from.
        citation: whom to cite.
        weights_may_be_shared: whether the licence lets models trained on it be passed on.
        tissues: of a data set of label maps without images: what each value is painted like.
        totals: volumes to report that several structures make up together.
        ignore: label value of voxels that nobody labelled, of which nothing is learnt or measured.
    """

    name: str
    description: str
    layout: LayoutName
    channels: tuple[str, ...]
    structures: tuple[Structure, ...]
    licence: str = ""
    source: str = ""
    citation: str = ""
    weights_may_be_shared: bool = False
    tissues: tuple[Tissue, ...] = ()
    totals: tuple[Total, ...] = ()
    ignore: int | None = None

    @property
    def structure_set(self) -> StructureSet:
        """The structures, with the sides and twins their names state.

        Raises:
            UsageError: they contradict each other, or a region could not be told from what it writes.
        """
        structures = from_labels(self.structures, self.ignore)
        for s in structures:
            if s.members and s.value not in s.members:
                raise UsageError(f"the region {s.name!r} writes {s.value}, which is none of its members")
        return structures

    def read(
        self, folder: Path, *, complete: bool = True, reading: ReadOptions | None = None
    ) -> DatasetFiles:
        """The cases in a folder.

        Args:
            folder: of the data set.
            complete: refuse a missing file here and now.
            reading: decisions that the files leave open.

        Raises:
            InputError: the folder's own label or channel names contradict the card.
        """
        found = read_layout(folder, self.layout, complete=complete).read_with(reading or ReadOptions())
        fault = self._contradiction(found)
        if fault:
            raise InputError(fault, source=folder / "dataset.json", mend="use the card of this dataset")
        if not found.channels:
            return found
        return replace(found, cases=tuple(self._named(case) for case in found.cases))

    def adopting(self, found: DatasetFiles) -> Card:
        """The card with the value to be ignored that its folder states, where it states none itself."""
        return self if found.ignore is None else replace(self, ignore=found.ignore)

    def _named(self, case: CaseFiles) -> CaseFiles:
        """A case whose channels have the card's names, where the folder spells them in another way."""
        if not case.channels:
            return case
        return replace(case, channels=dict(zip(self.channels, case.channels.values(), strict=True)))

    def _contradiction(self, found: DatasetFiles) -> str:
        """What a folder says otherwise than the card; empty where they agree."""
        names = {s.value: s.name for s in self.structures if not s.members}
        known = self.structure_set.known_values
        for value, name in found.labels.items():
            if value not in known:
                return f"label {value} ({name!r}) is not in the card {self.name}"
            if value in names and plain(names[value]) != plain(name):
                return f"label {value} is {name!r} here and {names[value]!r} in the card {self.name}"
        if found.ignore is not None and (self.ignore not in (None, found.ignore) or found.ignore in known):
            return f"label {found.ignore} is to be ignored here, and the card {self.name} says otherwise"
        regions = {plain(s.name): set(s.members) for s in self.structures}
        for region in found.regions:
            if regions.get(plain(region.name), set()) != set(region.members):
                values = ", ".join(map(str, region.members))
                return f"the region {region.name!r} of {values} is not in the card {self.name}"
        if found.channels and [plain(n) for n in found.channels] != [plain(n) for n in self.channels]:
            return (
                f"has the channels {', '.join(found.channels)}; "
                f"the card {self.name} has {', '.join(self.channels)}"
            )
        return ""


@dataclass(frozen=True)
class MetricsSpec:
    """What is measured beside overlap.

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
        synthesis: how scans are made, where the card has label maps alone; augmentation is then part
            of it.
        slices: what a 2D network sees of a volume.
        refinement: how a prediction follows the intensities of the scan; not at all where it is left out.
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

    def fitted_to(self, card: Card) -> Recipe:
        """The recipe with the channels and outputs that the card asks for.

        Raises:
            UsageError: post-processing names a structure or the recipe a channel that the card has not,
                or the card has label maps alone and the recipe does not say how scans are made (or the
                reverse).
        """
        structures = card.structure_set
        if bool(card.tissues) != (self.synthesis is not None):
            raise UsageError(
                f"the card {card.name} has {'' if card.tissues else 'no '}tissues to make scans from, and "
                f"the recipe {self.name} has {'no ' if self.synthesis is None else ''}[synthesis] section"
            )
        if self.synthesis is not None and self.preparation.spacing_mm is None:
            raise UsageError(
                "scans that are made need preparation.spacing_mm, the voxel size to make them at"
            )
        for name in self.postprocess.names:
            structures.meant(name)
        channels = self.channels or card.channels
        unknown = [name for name in channels if name not in card.channels]
        if unknown or len(set(channels)) < len(channels):
            raise UsageError(
                f"the recipe {self.name} takes the channels {', '.join(channels)}; "
                f"the card {card.name} has {', '.join(card.channels)}"
            )
        flat = self.network.spatial_dims == 2
        if not flat and self.slices != SliceSpec():
            raise UsageError(f"the recipe {self.name} has [slices], and a network of 3 spatial_dims")
        if flat and self.synthesis is not None:
            raise UsageError(f"the recipe {self.name} has [synthesis], and a network of 2 spatial_dims")
        if flat and self.training.patch[2] != 1:
            raise UsageError(f"a patch of slices is (i, j, 1), not {self.training.patch}")
        options = dict(self.network.options)
        if self.network.name == "unetpp":
            options["exclusive"] = not structures.are_regions
        network = replace(
            self.network,
            options=options,
            in_channels=len(channels) * self.slices.slices_seen,
            out_channels=structures.output_channels,
        )
        return replace(
            self, network=network, channels=channels, refinement=_fitted_refinement(self.refinement, card)
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
        raise UsageError(f"refinement takes structures that exclude one another; {card.name} has regions")
    if spec.channel not in ("", *card.channels):
        raise UsageError(
            f"refinement: no channel {spec.channel!r}", mend=did_you_mean(spec.channel, card.channels)
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


def load_card(name: str | Path) -> Card:
    """A card by path, or by the name of one that comes with the package.

    Raises:
        UsageError: there is none, or a setting is unknown or wrong.
    """
    return _load(Card, name, "datasets")


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by path, or by the name of one that comes with the package.

    A card that a recipe names as a `.toml` file is looked for beside the recipe.
    """
    recipe = _load(Recipe, name, "pipelines")
    if recipe.card.endswith(".toml"):
        recipe = replace(recipe, card=str(Path(name).parent / recipe.card))
    return recipe


def available(kind: Literal["datasets", "pipelines"]) -> dict[str, Path]:
    """The cards or recipes that come with the package, by name."""
    folder = _folder(kind)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _folder(kind: str) -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(str(resources.files("medseg")))
    installed = package / "_cards" / kind
    if installed.is_dir():
        return installed
    if (package.parent / "pyproject.toml").is_file():
        return package.parent / kind
    raise InputError("the package was installed without its cards and recipes", source=package)


def _load(cls: type[T], name: str | Path, kind: Literal["datasets", "pipelines"]) -> T:
    path = Path(name)
    if path.suffix != ".toml":
        known = available(kind)
        if str(name) not in known:
            what = "recipe" if kind == "pipelines" else "card"
            raise UsageError(f"no {what} named {str(name)!r}", mend=did_you_mean(str(name), known))
        path = known[str(name)]
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise UsageError(f"cannot be read ({fault.strerror})", source=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise UsageError(f"not TOML ({fault})", source=path) from None
    return specs.from_mapping(cls, data, source=str(path))
