"""The description of a model without its weights: network, preparation, tiling, structures. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from medseg.classical.spec import DenseCrfSpec, GridCrfSpec, InstancesSpec
from medseg.core.errors import UsageError
from medseg.core.specs import left_out
from medseg.core.structures import Structure, StructureSet, Total
from medseg.model.evidence import Evidence
from medseg.model.provenance import Provenance
from medseg.model.refinement import RefinementSpec
from medseg.preparation.preparation import PreparationSpec

Norm = Literal["batch", "instance", "group", "layer", "none"]
WeightType = Literal["float32", "float16"]
Scalar = bool | int | float | str
Option = Scalar | tuple[Scalar, ...] | tuple[tuple[Scalar, ...], ...]
"""What an option of a network can be: one value, a list of them, or a list of lists, one per level."""

DETECTORS = (
    "retinanet", "fcos", "yolo", "ssd", "faster_rcnn", "rfcn", "mask_rcnn", "mask_x", "fcis", "panet",
    "blendmask", "upsnet", "panoptic_fpn",
)  # fmt: skip
"""Networks that find objects one by one: rows of `medseg.instances.zoo`."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network by name, with what its constructor is given.

    Attributes:
        name: key of `networks.registry` ("unet3d", "vnet"), or "monai:" and the name of a class there.
        spatial_dims: 2 or 3.
        widths: channels of each level, finest first; empty means the paper's.
        norm: normalisation after each convolution; empty means the paper's.
        kernels: kernel size of each level, per axis; empty means the paper's everywhere.
        strides: stride between level n and n + 1, per axis; empty means 2 everywhere.
        options: further constructor arguments the network's file documents.
    """

    name: str
    in_channels: int = 1
    out_channels: int = 2
    spatial_dims: Literal[2, 3] = 3
    widths: tuple[int, ...] = ()
    norm: Norm | Literal[""] = ""
    kernels: tuple[tuple[int, ...], ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    options: dict[str, Option] = field(default_factory=dict)

    @property
    def finds_objects(self) -> bool:
        """Whether it finds objects one by one, beside a label map."""
        return self.name in DETECTORS


@dataclass(frozen=True)
class SliceSpec:
    """What a 2D network sees of a volume.

    Attributes:
        axes: canonical axes that slices are cut across: 0 sagittal, 1 coronal, 2 axial. With several, a
            slice of any is learnt from, and their probabilities are averaged.
        context: neighbours on each side that are handed to the network as further channels (2.5D).

    Raises:
        UsageError: an axis does not exist or occurs twice, or the context is negative.
    """

    axes: tuple[int, ...] = (2,)
    context: int = 0

    def __post_init__(self) -> None:
        if not self.axes or not set(self.axes) <= {0, 1, 2} or len(set(self.axes)) < len(self.axes):
            raise UsageError(f"slice axes must be distinct and among 0, 1, 2, not {self.axes}")
        if self.context < 0:
            raise UsageError(f"the context of slices must be at least 0, not {self.context}")

    @property
    def slices_seen(self) -> int:
        """The slice and its neighbours."""
        return 1 + 2 * self.context


@dataclass(frozen=True)
class NetworkFacts:
    """Facts of a built network that tiling needs, so that planning does not need torch.

    Attributes:
        stride: total stride per axis, in voxels; tiles start on its multiples.
        receptive_radius: half the receptive field per axis, in voxels.
        tile_independent: no layer's statistics depend on the tile (batch norm in eval, or none).
    """

    stride: tuple[int, ...]
    receptive_radius: tuple[int, ...]
    tile_independent: bool


@dataclass(frozen=True)
class InferenceSpec:
    """How a volume is cut into tiles and put together again.

    Attributes:
        strategy: "overlap_tile", "sliding_window", or "auto": overlap-tile where the network
            allows it.
        tile: tile in voxels; empty means the patch used in training.
        overlap: share of a tile that overlaps the next, for the sliding window, in [0, 1).
        weight: blending weight of the sliding window.
        flips: axes mirrored for test-time augmentation, each entry one further prediction.
    """

    strategy: Literal["auto", "overlap_tile", "sliding_window"] = "auto"
    tile: tuple[int, ...] = ()
    overlap: float = 0.5
    weight: Literal["gaussian", "constant"] = "gaussian"
    flips: tuple[tuple[int, ...], ...] = ()


LEAST_SCORE = 0.05
"""Of an object, where neither model nor user says another: all that average precision looks at."""
EVEN_SCORE = 0.5
"""Of an object of a network that no selection case has judged: as likely right as wrong, by its own word."""


def require_score(score: float | None, what: str) -> None:
    """Refuse a score that is none.

    Raises:
        UsageError: it is not in [0, 1].
    """
    if score is not None and not 0 <= score <= 1:
        raise UsageError(f"{what} must be in [0, 1], not {score}")


@dataclass(frozen=True)
class PostprocessSpec:
    """What is done to the probabilities, and to the labels of each structure; nothing by default.

    A name without "left" and "right" means both sides.

    Attributes:
        largest_component: structures of which only the largest component is kept.
        min_volume_mm3: components smaller than this are removed.
        fill_holes: structures whose enclosed background becomes theirs.
        one_side: small components that are separate from the rest of their side and touch the other become
            part of that one.
        one_piece: structures whose small components become what they touch most.
        dense_crf: a random field of all pairs of voxels, on the probabilities; None for none.
        grid_crf: a random field of neighbouring voxels, likewise, after the dense one.
        instances: how the single objects of structures are told apart, last; None where they are not.
        least_score: of an object that a network finds, below which it is left out; None in a recipe for the
            score that serves the selection cases best.

    Raises:
        UsageError: a volume is not a positive number, or a score is not in [0, 1].
    """

    largest_component: tuple[str, ...] = ()
    min_volume_mm3: dict[str, float] = field(default_factory=dict)
    fill_holes: tuple[str, ...] = ()
    one_side: bool = False
    one_piece: tuple[str, ...] = ()
    dense_crf: DenseCrfSpec | None = left_out()
    grid_crf: GridCrfSpec | None = left_out()
    instances: InstancesSpec | None = left_out()
    least_score: float | None = left_out()

    def __post_init__(self) -> None:
        require_score(self.least_score, "postprocess.least_score")
        for name, volume in self.min_volume_mm3.items():
            if not 0 < volume < float("inf"):
                raise UsageError(f"the smallest volume of {name!r} must be positive, not {volume} mm3")

    @property
    def names(self) -> tuple[str, ...]:
        """Every structure something is asked for, once."""
        named = (*self.one_piece, *self.largest_component, *self.min_volume_mm3, *self.fill_holes)
        return tuple(dict.fromkeys(named))

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel of the scan that a random field asks for by name."""
        dense = self.dense_crf.channels if self.dense_crf else ()
        return (*dense, self.grid_crf.channel) if self.grid_crf and self.grid_crf.channel else dense


@dataclass(frozen=True)
class ModelSpec:
    """The description of a model without its weights.

    Attributes:
        name: what the model is called; a packaged one is called as it is asked for, see `load_model`.
        network: the architecture.
        facts: what tiling must know of it.
        channels: names of the images it takes, in order.
        structures: what it writes.
        preparation: what is done to a volume first.
        inference: how it is tiled.
        slices: what a 2D network sees of a volume; the default where the network is 3D.
        refinement: how the answer follows the intensities of the scan; None where it does not.
        postprocess: what is done to the labels last.
        training: what it was trained on, and how.
        evidence: what validation showed of it.
        totals: volumes to report that several structures make up together.
        cascade: whether this is the fine stage of a cascade: behind the images, its network takes the
            probability of each structure that a coarse stage found in the whole scan.
    """

    name: str
    network: NetworkSpec
    facts: NetworkFacts
    channels: tuple[str, ...]
    structures: tuple[Structure, ...]
    preparation: PreparationSpec = field(default_factory=PreparationSpec)
    inference: InferenceSpec = field(default_factory=InferenceSpec)
    slices: SliceSpec = field(default_factory=SliceSpec)
    refinement: RefinementSpec | None = None
    postprocess: PostprocessSpec = field(default_factory=PostprocessSpec)
    training: Provenance = field(default_factory=Provenance)
    evidence: Evidence = field(default_factory=Evidence)
    totals: tuple[Total, ...] = ()
    cascade: bool = left_out(False)

    @property
    def structure_set(self) -> StructureSet:
        return StructureSet(self.structures)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's input channels, of each slice that it sees."""
        coarse = (f"coarse {s.name}" for s in self.structures) if self.cascade else ()
        return (*self.channels, *coarse)

    @property
    def coarse_twins(self) -> tuple[int, ...]:
        """For each channel of the coarse stage, the one that a left-right flip makes of it."""
        return coarse_twins(self.structure_set) if self.cascade else ()


def coarse_twins(structures: StructureSet) -> tuple[int, ...]:
    """For each structure, the number of the one it becomes under a left-right flip.

    >>> from medseg.core.structures import from_labels
    >>> coarse_twins(from_labels({1: "left eye", 2: "right eye", 3: "nose"}))
    (1, 0, 2)
    """
    outputs = structures.twin_channels()
    background = len(outputs) - len(structures)
    return tuple(n - background for n in outputs[background:])
