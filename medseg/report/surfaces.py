"""Where two segmentations of one structure lie apart: signed distances over both surfaces.

The surfaces and their areas are those of `metrics.surfels`, so the share of the area within the
tolerance is the surface Dice, the mean size the ASSD, and the largest size the Hausdorff distance.
A distance is positive where the prediction's surface lies outside the reference, and negative where it
lies within.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from medseg.metrics import surfels
from medseg.structures import Structure, StructureSet
from medseg.volume import Grid

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Box = tuple[slice, slice, slice]
Point = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class SignedSurfaces:
    """Every point of both surfaces of one structure, the reference's first.

    Attributes:
        name: of the structure.
        colour: of the structure, `#rrggbb`.
        reference: of the structure, cut out to `box`.
        box: around both masks, in voxels of the grid.
        points_voxels: (N, 3); voxel centres are at whole numbers.
        mm: signed distance to the other surface, (N,).
        area: in mm^2, (N,); lengths in mm on a grid of one slice.
        on_reference: how many of the points are the reference's.
        worst: a voxel of the point furthest from the other surface.
    """

    name: str
    colour: str
    reference: Mask
    box: Box
    points_voxels: Numbers
    mm: Numbers
    area: Numbers
    on_reference: int
    worst: Point

    @property
    def largest_mm(self) -> float:
        """The distance at `worst`, with its sign."""
        return float(self.mm[np.abs(self.mm).argmax()])


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


Compared = tuple[Structure, SignedSurfaces | None]
"""A structure, and its surfaces where both maps have it."""


def compare(
    labels: Labels, reference: Labels, grid: Grid, structures: StructureSet, among: Iterable[Structure]
) -> list[Compared]:
    """`signed_surfaces` of several structures."""
    return [(s, signed_surfaces(labels, reference, grid, structures, s)) for s in among]


def signed_surfaces(
    labels: Labels, reference: Labels, grid: Grid, structures: StructureSet, structure: Structure
) -> SignedSurfaces | None:
    """Signed distances of one structure; None where one of the two has no voxel of it.

    Args:
        labels: label values of the prediction, (I, J, K).
        reference: label values of the reference, (I, J, K).
        grid: of both.
        structures: the set `structure` is of.
        structure: what to compare.
    """
    masks = structures.mask(reference, structure), structures.mask(labels, structure)
    if not (masks[0].any() and masks[1].any()):
        return None
    box = cast("Box", ndimage.find_objects((masks[0] | masks[1]).view(np.uint8))[0])
    here, there = masks[0][box], masks[1][box]
    axes = 2 if grid.shape[2] == 1 else 3
    flat = (here[..., 0], there[..., 0]) if axes == 2 else (here, there)
    spacing = grid.spacing_mm[:axes]
    area = surfels.areas_mm2(spacing)
    codes = surfels.codes(flat[0]), surfels.codes(flat[1])
    cells = [np.argwhere(area[code] > 0) for code in codes]
    areas = np.concatenate([area[code[tuple(at.T)]] for code, at in zip(codes, cells, strict=True)])
    mm = np.concatenate(
        [_signed(cells[0], cells[1], codes[1], spacing), -_signed(cells[1], cells[0], codes[0], spacing)]
    )
    start = np.array([s.start for s in box], dtype=np.float64)
    points = np.zeros((len(mm), 3))
    points[:, :axes] = np.concatenate(cells) - 0.5
    worst = int(np.abs(mm).argmax())
    owner = here if worst < len(cells[0]) else there
    nearest = _inside(owner, points[worst])
    voxel = cast("Point", tuple(int(n + s.start) for n, s in zip(nearest, box, strict=True)))
    return SignedSurfaces(
        structure.name, structure.colour, here, box, points + start, mm, areas, len(cells[0]), voxel
    )


def _signed(
    cells: NDArray[np.intp], others: NDArray[np.intp], codes: NDArray[np.uint8], spacing_mm: Iterable[float]
) -> Numbers:
    """Distance of each cell to the other surface; positive within the other mask, 0 on its surface."""
    spacing = np.asarray(tuple(spacing_mm))
    code = codes[tuple(cells.T)]
    inside = code == (1 << (1 << cells.shape[1])) - 1
    apart = inside | (code == 0)
    out = np.zeros(len(cells))
    if apart.any():
        tree = cKDTree(others * spacing, balanced_tree=False, compact_nodes=False)
        out[apart] = tree.query(cells[apart] * spacing)[0]
    return np.where(inside, out, -out)


def _inside(mask: Mask, centre: Numbers) -> NDArray[np.intp]:
    """A corner of the cell around `centre` that is in the mask."""
    low = np.floor(centre).astype(int)
    corners = low + np.argwhere(np.ones((2, 2, 2), bool))
    within = ((corners >= 0) & (corners < mask.shape)).all(axis=1)
    corners = corners[within]
    return np.asarray(corners[mask[tuple(corners.T)].argmax()], dtype=np.intp)


def place_of(found: SignedSurfaces, structure: Structure) -> Place:
    """The point furthest from the other surface, in words."""
    size = abs(found.largest_mm)
    side = "outside" if found.largest_mm > 0 else "inside"
    words = f"{structure.name}: surfaces {size:.1f} mm apart, the prediction {side} the reference"
    return Place(structure, found.worst, words, size)


def lonely_place(
    labels: Labels, reference: Labels, structures: StructureSet, structure: Structure
) -> Place | None:
    """The middle of a structure that one of the two lacks; None where both or neither have it."""
    masks = structures.mask(reference, structure), structures.mask(labels, structure)
    in_reference, in_labels = (bool(mask.any()) for mask in masks)
    if in_reference == in_labels:
        return None
    said = "in the reference, no voxels labelled" if in_reference else "labelled, not in the reference"
    middle = centre(masks[0] if in_reference else masks[1])
    return Place(structure, middle, f"{structure.name}: {said}", math.inf)


THIN_SHARE = 0.25
"""The central slice gives way to the fullest one when it holds less than this share of its voxels."""


def along(mask: Mask) -> tuple[NDArray[np.int64], ...]:
    """Voxels of a mask in each slice across I, J, K."""
    return tuple(
        np.asarray(np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)
    )


def centre(mask: Mask) -> Point:
    """The voxel at the centroid; along an axis where its slice holds little, the fullest slice's."""
    point = []
    for counts in along(mask):
        centroid = round(float(np.average(np.arange(len(counts)), weights=counts)))
        thin = counts[centroid] < THIN_SHARE * counts.max()
        point.append(int(counts.argmax()) if thin else centroid)
    return tuple(point)  # type: ignore[return-value]
