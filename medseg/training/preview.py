"""`medseg augment`: a picture of augmentations of one scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.augment.compose import Params
from medseg.augment.preview import Drawn, Preview
from medseg.augment.slices import turned
from medseg.augment.spec import AugmentSpec
from medseg.core import affine as aff
from medseg.core.boxes import centroid, profiles
from medseg.core.errors import MedsegError, UsageError
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.data.cards import load_card
from medseg.io import ReadOptions, files_of, read_labels, read_volume
from medseg.io.atomic import atomic_write, refuse_existing
from medseg.preparation.preparation import Preparation, PreparationSpec, Prepared
from medseg.reporting.drawing.draws import Column, draws_png, panel_of
from medseg.reporting.drawing.planes import Plane, planes
from medseg.reporting.drawing.views import window_of
from medseg.segmentation.label_sources import known_structures
from medseg.training.recipe import load_recipe

Triple = tuple[int, int, int]

LARGEST_PATCH = 160
"""Voxels an axis that are shown of a scan where no recipe says what a patch is."""

CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "blur_sigma_mm": "blur",
        "low_resolution": "low resolution",
        "bias_field": "bias field",
        "gamma": "gamma",
        "linear_scale": "contrast",
        "noise_sigma": "noise",
    }
)
"""What people call the changes of `ContrastParams`."""


@dataclass(frozen=True)
class Plan:
    """What a preview shows.

    Attributes:
        name: what to call it.
        what: a recipe's section, or a deformation as published.
        preparation: what happens to the scan first.
        patch: voxels of a patch; None takes the whole scan, at most `LARGEST_PATCH` an axis.
        across: the one axis whose slices a 2D network sees; None in 3D.
        structures: what labels mean; None asks the label file.
    """

    name: str
    what: AugmentSpec | str
    preparation: PreparationSpec = field(default_factory=PreparationSpec)
    patch: Triple | None = None
    across: int | None = None
    structures: StructureSet | None = None


class _Scene(NamedTuple):
    """A prepared scan, its label indices, and the part of it that is shown."""

    prepared: Prepared
    indices: NDArray[np.uint8]
    structures: StructureSet
    start: Triple
    shape: Triple
    point: Triple
    views: tuple[Plane, ...]


def plan_of_preset(name: str) -> Plan:
    """A deformation as published, on the scan's own voxels.

    Raises:
        UsageError: the preset does not exist.
    """
    AugmentSpec(elastic=name)
    return Plan(name, name)


def plan_of_recipe(name: str | Path) -> Plan:
    """All of a recipe's augmentation, on a patch of its size of the scan as it prepares it.

    Raises:
        UsageError: the recipe or its card does not exist, or it synthesises its scans.
    """
    recipe = load_recipe(name)
    card = load_card(recipe.card)
    if recipe.synthesis is not None:
        raise UsageError(
            f"the recipe {recipe.name} synthesises its scans from label maps, so it has no augmentation",
            hint="give a recipe with an [augmentation] section",
        )
    i, j, k = recipe.training.patch
    across = None
    if recipe.network.spatial_dims == 2:
        across = recipe.slices.axes[0]
        i, j, k = turned((i, j, 1 + 2 * recipe.slices.context), across)
    return Plan(recipe.name, recipe.augmentation, recipe.preparation, (i, j, k), across, card.structure_set)


def augment(
    scan: Path,
    plan: Plan,
    *,
    out: Path,
    labels: Path | None = None,
    reading: ReadOptions | None = None,
    count: int = 3,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[Params, ...]:
    """Draw what a plan makes of the middle of a scan, or of where its labels are.

    Args:
        scan: a file or a DICOM folder; the first channel is shown.
        plan: what is done.
        out: the picture, a `.png` file.
        labels: a segmentation on the scan's grid, outlined.
        reading: decisions the scan's file leaves open.
        count: how many draws.
        seed: decides them.
        overwrite: whether an existing picture may be replaced.

    Returns:
        What was drawn, in the order of the columns.

    Raises:
        MedsegError: a file cannot be read, labels do not fit the scan or the recipe's card, or the
            picture cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UsageError("the picture must be a PNG", source=out, hint="give a name that ends in .png")
    inputs = [*files_of(scan), *(files_of(labels) if labels else ())]
    refuse_existing(out, overwrite, inputs)
    try:
        scene = _scene(scan, labels, plan, reading or ReadOptions())
        preview = Preview(
            plan.what,
            scene.structures,
            scene.prepared.array,
            scene.indices,
            spacing_mm=scene.prepared.grid.spacing_mm,
            start=scene.start,
            shape=scene.shape,
        )
        drawn = [(one.params, _column(n, one, scene)) for n, one in enumerate(preview.draws(count, seed))]
    except MedsegError as fault:
        if fault.source is None and not isinstance(fault, UsageError):
            fault.source = str(scan)
        raise
    columns = [column for _, column in drawn]
    picture = draws_png(
        columns,
        scene.structures,
        window=window_of(scene.prepared.array[0]),
        heading=f"{plan.name}, seed {seed}: a patch of {' x '.join(map(str, scene.shape))} voxels",
    )
    with atomic_write(out, overwrite, inputs=inputs) as temporary:
        temporary.write_bytes(picture)
    return tuple(params for params, _ in drawn[1:])


def words(params: Params) -> tuple[str, ...]:
    """The random parameters as short text.

    >>> words(Params())
    ('no spatial change',)
    """
    moves = {
        "deformed": params.elastic is not None,
        "rotated and scaled": params.affine is not None,
        "mirrored": bool(params.flips),
    }
    lines = [", ".join(word for word, there in moves.items() if there) or "no spatial change"]
    if params.elastic is not None:
        least = params.elastic.min_jacobian
        lines.append(f"smallest Jacobian {least:.2f}{'' if least > 0 else ', so the field folds'}")
    changes = [word for name, word in CHANGES.items() if getattr(params.contrast, name) is not None]
    return (*lines, ", ".join(changes)) if changes else tuple(lines)


def _scene(scan: Path, labels: Path | None, plan: Plan, reading: ReadOptions) -> _Scene:
    """Read and prepare the scan and its labels, and choose the patch."""
    volume = read_volume(scan, options=reading)
    preparation = Preparation(plan.preparation)
    prepared = preparation.apply(volume)
    structures = plan.structures or from_labels({})
    indices = np.zeros(prepared.grid.shape, np.uint8)
    if labels is not None:
        structures = plan.structures or known_structures(labels, reading=reading).structures
        indices = _encoded(labels, structures, preparation, prepared, reading.of_labels())
    i, j, k = plan.patch or (min(n, LARGEST_PATCH) for n in indices.shape)
    shape = (i, j, k)
    start, point = _part(indices, shape)
    affine = aff.shifted(prepared.grid.affine, start)
    views = planes(Grid(shape, affine), orientation_known=volume.form.orientation_known)
    if plan.across is not None:
        views = tuple(view for view in views if view.axis == plan.across)
    return _Scene(prepared, indices, structures, start, shape, point, views)


def _encoded(
    labels: Path, structures: StructureSet, preparation: Preparation, prepared: Prepared, reading: ReadOptions
) -> NDArray[np.uint8]:
    """Label indices on the prepared grid; errors name the label file."""
    given = read_labels(labels, options=reading)
    try:
        return structures.encode(preparation.apply_labels(given, prepared))
    except MedsegError as fault:
        fault.source = fault.source or str(labels)
        raise


def _part(indices: NDArray[np.uint8], shape: Sequence[int]) -> tuple[Triple, Triple]:
    """First voxel of the patch, and the voxel of it that the slices pass through.

    The patch lies around the labels' centroid, or the middle of the scan, as far as the scan has room.
    """
    marked = indices != 0
    middle = (
        [round(c) for c in centroid(profiles(marked))] if marked.any() else [n // 2 for n in indices.shape]
    )
    start, point = [], []
    for m, n, size in zip(middle, indices.shape, shape, strict=True):
        first = min(max(0, m - size // 2), n - size) if size <= n else -((size - n) // 2)
        start.append(first)
        point.append(m - first)
    return (start[0], start[1], start[2]), (point[0], point[1], point[2])


def _column(number: int, drawn: Drawn, scene: _Scene) -> Column:
    """The slices of one draw; number 0 is the scan as it is."""
    values = np.array(scene.structures.index_values)[drawn.labels]
    panels = (
        panel_of(view, scene.point[view.axis], drawn.image[0], values, drawn.positions_voxels)
        for view in scene.views
    )
    title, lines = (f"draw {number}", words(drawn.params)) if number else ("original", ())
    return Column(title, lines, tuple(panels))
