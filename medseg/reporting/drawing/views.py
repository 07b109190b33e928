"""Which slices to show: where the structures are, where they are small, where two label maps differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.boxes import Slices, bounding_box, middle_voxel, whole, widened
from medseg.core.lookup import looked_up
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid
from medseg.metrics.signed import Compared, Point, SignedSurfaces

Image = NDArray[Any]

CLOSEUP_BELOW = 0.65
"""A close-up is added when the structures span less than this share of every slice they are on."""
CLOSEUP_MARGIN_MM = 12.0


@dataclass(frozen=True, eq=False)
class View:
    """One row of the figure: what to show, and the voxel its three slices pass through.

    Attributes:
        heading: over the row.
        image, labels, reference: of what is shown, (I, J, K).
        grid: of these arrays.
        point: a voxel of them.
        start: which voxel of the whole scan their first one is.
        full_shape: of the whole scan.
        marked: whether a ring is drawn around the point.
    """

    heading: str
    image: Image
    labels: Image
    reference: Image | None
    grid: Grid
    point: Point
    start: Point
    full_shape: tuple[int, int, int]
    marked: bool = False


@dataclass(frozen=True)
class Place:
    """A voxel to show, and why.

    Attributes:
        structure: it is about.
        point: of the grid.
        words: what is there, a short sentence without a full stop.
        size_mm: distance of the surfaces; infinite where one of them does not exist.
    """

    structure: Structure
    point: Point
    words: str
    size_mm: float


def centre_views(
    image: Image,
    labels: Image,
    reference: Image | None,
    grid: Grid,
    structures: StructureSet,
    *,
    closeup: bool,
) -> list[View]:
    """Through the centre of all structures of either map; once more close up when they are small."""
    marked = _known(labels, structures)
    if reference is not None:
        marked = marked | _known(reference, structures)
    if not marked.any():
        middle: Point = tuple(n // 2 for n in grid.shape)  # type: ignore[assignment]
        heading = "Centre of the scan (no structure is labelled)"
        return [View(heading, image, labels, reference, grid, middle, (0, 0, 0), grid.shape)]
    heading = "Whole slices"
    whole = View(heading, image, labels, reference, grid, middle_voxel(marked), (0, 0, 0), grid.shape)
    box = _closeup(marked, grid)
    if closeup and _is_small(box, grid.shape):
        return [whole, _cropped(replace(whole, heading="The same slices, enlarged"), box)]
    return [whole]


def place_views(
    image: Image,
    labels: Image,
    reference: Image,
    grid: Grid,
    structures: StructureSet,
    places: Sequence[Place],
    *,
    closeup: bool,
) -> list[View]:
    """Through each place, close up when its structure is small in the scan."""
    views = []
    for place in places:
        view = View(
            place.words, image, labels, reference, grid, place.point, (0, 0, 0), grid.shape, marked=True
        )
        either = structures.mask(labels, place.structure) | structures.mask(reference, place.structure)
        box = _closeup(either, grid)
        views.append(_cropped(view, box) if closeup and _is_small(box, grid.shape) else view)
    return views


def worst_places(
    compared: Sequence[Compared], labels: Image, reference: Image, structures: StructureSet, *, most: int
) -> list[Place]:
    """Where the surfaces lie furthest apart, a place a structure, the worst first.

    A structure that only one of the two has comes before all distances. A place through which a worse
    one is shown already is left out, and so are structures whose surfaces agree.
    """
    places = []
    for structure, surfaces in compared:
        if surfaces is None:
            places.append(_only_in_one(labels, reference, structures, structure))
        elif surfaces.largest_mm:
            places.append(_place_of(surfaces, structure))
    ordered = sorted((p for p in places if p is not None), key=lambda p: -p.size_mm)
    first = {place.point: place for place in reversed(ordered)}
    return [place for place in ordered if first[place.point] is place][:most]


def _known(labels: Image, structures: StructureSet) -> NDArray[np.bool_]:
    return looked_up(labels, dict.fromkeys(structures.label_values, True), np.bool_)


def _closeup(mask: NDArray[np.bool_], grid: Grid) -> Slices:
    """Voxels around the mask, a margin in millimetres added; all where it has none."""
    return widened(bounding_box(mask) or whole(grid.shape).slices, _margins(grid), grid.shape)


def _margins(grid: Grid) -> list[int]:
    return [max(2, round(CLOSEUP_MARGIN_MM / spacing)) for spacing in grid.spacing_mm]


def _is_small(box: Slices, shape: tuple[int, ...]) -> bool:
    shares = [(s.stop - s.start) / n for s, n in zip(box, shape, strict=True) if n > 1]
    return bool(shares) and sorted(shares)[-1] < CLOSEUP_BELOW


def closeup_view(view: View, box: Slices, point: Point) -> View:
    """What lies in a box and a margin around it, through a voxel of the whole view."""
    return _cropped(replace(view, point=point), widened(box, _margins(view.grid), view.grid.shape))


def _cropped(view: View, box: Slices) -> View:
    start = tuple(s.start for s in box)
    point = tuple(p - s for p, s in zip(view.point, start, strict=True))
    image = view.image[box]
    return replace(
        view,
        image=image,
        labels=view.labels[box],
        reference=None if view.reference is None else view.reference[box],
        grid=Grid(image.shape, aff.shifted(view.grid.affine, start)),
        point=point,
        start=start,
    )


def window_of(image: Image) -> tuple[float, float]:
    """Intensities shown black and white: the 1st and 99.5th percentile of the finite voxels."""
    step = max(1, round((image.size / 2_000_000) ** (1 / 3)))
    sample = np.asarray(image[::step, ::step, ::step], dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, (1.0, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def _place_of(found: SignedSurfaces, structure: Structure) -> Place:
    """The point furthest from the other surface, in words."""
    size = abs(found.largest_mm)
    side = "outside" if found.largest_mm > 0 else "inside"
    words = f"{structure.name}: surfaces {size:.1f} mm apart, the prediction {side} the reference"
    return Place(structure, found.worst, words, size)


def _only_in_one(
    labels: Image, reference: Image, structures: StructureSet, structure: Structure
) -> Place | None:
    """The middle of a structure that one of the two lacks; None where both or neither have it."""
    masks = structures.mask(reference, structure), structures.mask(labels, structure)
    in_reference, in_labels = (bool(mask.any()) for mask in masks)
    if in_reference == in_labels:
        return None
    said = "in the reference, no voxels labelled" if in_reference else "labelled, not in the reference"
    middle = middle_voxel(masks[0] if in_reference else masks[1])
    return Place(structure, middle, f"{structure.name}: {said}", math.inf)
