"""Signed distances between the surfaces of two segmentations of one structure.

The surfaces and their weights are those of `metrics.surface`, in either mode, so the mean size is the
ASSD, the largest size the Hausdorff distance and, of surfels, the share of the area within the tolerance
the surface Dice.
A distance is positive where the prediction's surface lies outside the reference, and negative where it
lies within.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Slices, bounding_box, union
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid
from medseg.metrics import surfels
from medseg.metrics.surface import Mode

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
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
        area: in mm^2, (N,); lengths in mm on a grid of one slice; 1 for border voxels.
        on_reference: how many of the points are the reference's.
        worst: a voxel of the point furthest from the other surface.
    """

    name: str
    colour: str
    reference: Mask
    box: Slices
    points_voxels: Numbers
    mm: Numbers
    area: Numbers
    on_reference: int
    worst: Point

    @property
    def largest_mm(self) -> float:
        """The distance at `worst`, with its sign."""
        return float(self.mm[np.abs(self.mm).argmax()])


Compared = tuple[Structure, SignedSurfaces | None]
"""A structure, and its surfaces where both maps have it."""


def compare(
    labels: Labels,
    reference: Labels,
    grid: Grid,
    structures: StructureSet,
    among: Iterable[Structure],
    mode: Mode = "surfel",
) -> list[Compared]:
    """`signed_surfaces` of several structures."""
    return [(s, signed_surfaces(labels, reference, grid, structures, s, mode)) for s in among]


def signed_surfaces(
    labels: Labels,
    reference: Labels,
    grid: Grid,
    structures: StructureSet,
    structure: Structure,
    mode: Mode = "surfel",
) -> SignedSurfaces | None:
    """Signed distances of one structure; None where one of the two has no voxel of it.

    Args:
        labels: label values of the prediction, (I, J, K).
        reference: label values of the reference, (I, J, K).
        grid: of both.
        structures: the set `structure` is of.
        structure: what to compare.
        mode: what a surface is, as in `metrics.surface`.
    """
    masks = structures.mask(reference, structure), structures.mask(labels, structure)
    boxes = bounding_box(masks[0]), bounding_box(masks[1])
    if boxes[0] is None or boxes[1] is None:
        return None
    box = union((boxes[0], boxes[1]))
    here, there = masks[0][box], masks[1][box]
    axes = 2 if grid.shape[2] == 1 else 3
    flat = (here[..., 0], there[..., 0]) if axes == 2 else (here, there)
    measured = _between_cells if mode == "surfel" else _between_voxels
    found, mm, areas = measured(*flat, grid.spacing_mm[:axes])
    start = np.array([s.start for s in box], dtype=np.float64)
    points = np.zeros((len(mm), 3))
    points[:, :axes] = np.concatenate(found)
    worst = int(np.abs(mm).argmax())
    owner = here if worst < len(found[0]) else there
    nearest = _inside(owner, points[worst])
    voxel = cast("Point", tuple(int(n + s.start) for n, s in zip(nearest, box, strict=True)))
    return SignedSurfaces(
        structure.name, structure.colour, here, box, points + start, mm, areas, len(found[0]), voxel
    )


_Measured = tuple[list[Numbers], Numbers, Numbers]
"""Points of the reference and of the prediction, their signed distances and their weights."""


def _between_cells(here: Mask, there: Mask, spacing_mm: Sequence[float]) -> _Measured:
    """Of the surfel mode: cells of voxel centres, weighted by the area of their surface."""
    area = surfels.areas_mm2(spacing_mm)
    codes = surfels.codes(here), surfels.codes(there)
    cells = [np.argwhere(area[code] > 0) for code in codes]
    areas = np.concatenate([area[code[tuple(at.T)]] for code, at in zip(codes, cells, strict=True)])
    outwards = _signed(cells[0], cells[1], codes[1], spacing_mm)
    inwards = _signed(cells[1], cells[0], codes[0], spacing_mm)
    points = [at.astype(np.float64) - 0.5 for at in cells]
    return points, np.concatenate([outwards, -inwards]), areas


def _between_voxels(here: Mask, there: Mask, spacing_mm: Sequence[float]) -> _Measured:
    """Of the voxel mode: voxels with a face neighbour outside the mask, each counted once."""
    from scipy import ndimage  # slow to import, as the next
    from scipy.spatial import cKDTree

    voxels = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (here, there)]
    points = [at.astype(np.float64) for at in voxels]
    places = [at * np.asarray(spacing_mm) for at in points]
    away = [cKDTree(places[1 - n]).query(places[n])[0] for n in (0, 1)]
    within = [mask[tuple(at.T)] for mask, at in zip((there, here), voxels, strict=True)]
    outwards, inwards = (np.where(w, a, -a) for w, a in zip(within, away, strict=True))
    mm = np.concatenate([outwards, -inwards])
    return points, mm, np.ones(len(mm))


def _signed(
    cells: NDArray[np.intp], others: NDArray[np.intp], codes: NDArray[np.uint8], spacing_mm: Iterable[float]
) -> Numbers:
    """Distance of each cell to the other surface; positive within the other mask, 0 on its surface."""
    from scipy.spatial import cKDTree  # slow to import

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
