"""Surface distances of structures, in two definitions.

*Surfel* (primary): the surface is the cells of `surfels`, each weighted by its facet area, so a
thick slice counts for what it covers. *Voxel*: the surface is the voxels of the mask with a face
neighbour outside it, each counted once. What lies outside the image is outside the mask in both.

Distances run between cell (voxel) centres and are exact: `nearest` computes each from the integer
offset in float64, so that equal distances compare equal at a tolerance. The surfaces of all labels are
found, and their distances looked for, in one pass; what is shared by HD95, HD100, average and surface
Dice is one list for each direction.

A grid of one voxel along K is a 2D image: its surface is a contour, and the lengths along K play
no part.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import checked_spacing
from medseg.core.boxes import Slices, bounding_box, union
from medseg.core.errors import UsageError
from medseg.metrics import surfels
from medseg.metrics.borders import ByLabel, Labels, find_borders
from medseg.metrics.masks import require_same_shape
from medseg.metrics.nearest import frame_of, nearest_mm

Mode = Literal["surfel", "voxel"]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def require_mode(mode: str) -> None:
    """Refuse what is no definition of a surface.

    Raises:
        UsageError: it is none.
    """
    if mode not in get_args(Mode):
        raise UsageError(f"the surface mode is one of {', '.join(get_args(Mode))}, not {mode!r}")


def require_tolerance(tolerance_mm: float, of: str = "") -> None:
    """Refuse what is no tolerance; at 0 mm, surfaces must coincide.

    Args:
        tolerance_mm: distance up to which two surfaces count as the same.
        of: the structure that it was given for.

    Raises:
        UsageError: it is negative, infinite or NaN.
    """
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        what = f"the tolerance of {of!r}" if of else "a tolerance"
        raise UsageError(f"{what} must be 0 mm or more, not {tolerance_mm:g}")


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance from every point of each surface to the other surface, ascending.

    A list is empty when its mask is; the distances of the other list are then +inf.

    Attributes:
        reference_mm: from the reference's surface to the prediction's, (N,).
        reference_weight: area in mm^2 (length in mm in 2D; 1 for voxels) of those points, (N,).
        predicted_mm: from the prediction's surface to the reference's, (M,).
        predicted_weight: area of those points, (M,).
    """

    reference_mm: Numbers
    reference_weight: Numbers
    predicted_mm: Numbers
    predicted_weight: Numbers

    @property
    def directed(self) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        return (self.reference_mm, self.reference_weight), (self.predicted_mm, self.predicted_weight)

    @property
    def both_empty(self) -> bool:
        return not self.reference_mm.size and not self.predicted_mm.size

    @property
    def one_empty(self) -> bool:
        return not self.both_empty and not (self.reference_mm.size and self.predicted_mm.size)


@dataclass(frozen=True, eq=False)
class Counted:
    """Points of one surface, those of one distance and weight counted.

    Attributes:
        mm: distances, ascending, (N,).
        weight: of a point; ascends where distances are equal, (N,).
        count: how many points have both, (N,).
    """

    mm: Numbers
    weight: Numbers
    count: NDArray[np.intp]

    def listed(self) -> tuple[Numbers, Numbers]:
        """Distance and weight of each point."""
        return np.repeat(self.mm, self.count), np.repeat(self.weight, self.count)


@dataclass(frozen=True, eq=False)
class LabelDistances:
    """The distances of every label of two maps, label by label from 0, the background.

    Attributes:
        reference: of the reference's surfaces.
        predicted: of the prediction's surfaces.
    """

    reference: tuple[Counted, ...]
    predicted: tuple[Counted, ...]

    def of(self, label: int) -> SurfaceDistances:
        """Those of one label."""
        return SurfaceDistances(*self.reference[label].listed(), *self.predicted[label].listed())


def label_distances(
    reference: Labels,
    predicted: Labels,
    count: int,
    spacing_mm: Sequence[float],
    mode: Mode = "surfel",
    *,
    threads: int = 1,
) -> LabelDistances:
    """Distances between the surfaces of every label of two maps, in one pass over both.

    Args:
        reference: labels (I, J, K) from 0, the background, to `count`; a box around all labels in
            both maps gives the same answer sooner.
        predicted: labels of the same shape.
        count: the largest label.
        spacing_mm: distance between voxel centres along I, J, K.
        mode: what a surface is.
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: the spacing is none.
    """
    reference, predicted, spacing = _prepared(reference, predicted, spacing_mm)
    areas = surfels.areas_mm2(spacing) if mode == "surfel" else np.ones(1)
    threads = threads if threads > 0 else os.cpu_count() or 1
    frame = frame_of(reference.shape, spacing)
    with ThreadPoolExecutor(threads) as pool:
        both = (find_borders(m, frame, count, pool, surfel=mode == "surfel") for m in (reference, predicted))
        here, there = pool.map(partial(ByLabel.of, frame=frame), both)
        sides = [
            pool.map(
                partial(_counted, side, nearest_mm(side, other, spacing, pool, threads), areas),
                range(count + 1),
            )
            for side, other in ((here, there), (there, here))
        ]
        return LabelDistances(*map(tuple, sides))


def surfel_distances(
    reference: Mask, predicted: Mask, spacing_mm: Sequence[float], *, threads: int = 1
) -> SurfaceDistances:
    """Distances between the surfel surfaces of two masks.

    Args:
        reference: bool (I, J, K); a box around both masks gives the same answer sooner.
        predicted: bool, the same shape.
        spacing_mm: distance between voxel centres along I, J, K.
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: the spacing is none.
    """
    masks = reference.view(np.uint8), predicted.view(np.uint8)
    return label_distances(*masks, 1, spacing_mm, "surfel", threads=threads).of(1)


def voxel_distances(
    reference: Mask, predicted: Mask, spacing_mm: Sequence[float], *, threads: int = 1
) -> SurfaceDistances:
    """Distances between the border voxels of two masks; arguments as `surfel_distances`."""
    masks = reference.view(np.uint8), predicted.view(np.uint8)
    return label_distances(*masks, 1, spacing_mm, "voxel", threads=threads).of(1)


def solid(box: Slices, shape: Sequence[int]) -> Slices:
    """A box of one slice made two slices long where the image has more: cut out, it is no 2D image.

    >>> solid((slice(0, 4), slice(0, 4), slice(7, 8)), (9, 9, 8))[2]
    slice(6, 8, None)
    """
    last = box[-1]
    if last.stop - last.start > 1 or shape[-1] == 1:
        return box
    start = min(last.start, shape[-1] - 2)
    return (*box[:-1], slice(start, start + 2))


def solid_box(labels: Mask | Labels) -> Slices | None:
    """The smallest `solid` box around what is not 0; None where all is.

    >>> solid_box(np.eye(3, dtype=bool)[:2])
    (slice(0, 2, None), slice(0, 2, None))
    """
    box = bounding_box(labels)
    return None if box is None else solid(box, labels.shape)


def box_around_both(reference: Mask | Labels, predicted: Mask | Labels) -> Slices:
    """The smallest `solid` box around what is not 0 in either of two maps; a small one where all is.

    >>> box_around_both(np.eye(3, dtype=bool)[:2], np.zeros((2, 3), dtype=bool))
    (slice(0, 2, None), slice(0, 2, None))
    """
    boxes = [box for box in map(solid_box, (reference, predicted)) if box is not None]
    return union(boxes) if boxes else tuple(slice(0, min(n, 2)) for n in reference.shape)


def hausdorff_mm(distances: SurfaceDistances, percent: float = 100.0) -> float:
    """Surfel percentile Hausdorff distance: the larger of the two directed percentiles.

    A directed percentile is the smallest distance within which at least `percent` of the
    surface's area lies (no interpolation). NaN when both masks are empty, +inf when one is.

    References:
        arXiv:1809.04430 and its implementation `compute_robust_hausdorff`.
    """
    if distances.both_empty or distances.one_empty:
        return _empty(distances)
    return max(_area_percentile(mm, weight, percent) for mm, weight in distances.directed)


def average_mm(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: all distances of both surfaces, weighted by area.

    NaN when both masks are empty, +inf when one is. For voxels, all weigh the same.
    """
    if distances.both_empty or distances.one_empty:
        return _empty(distances)
    total = sum(float(np.sum(mm * weight)) for mm, weight in distances.directed)
    return total / sum(float(np.sum(weight)) for _, weight in distances.directed)


def normalised_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of both surfaces' area within `tolerance_mm` (inclusive) of the other, in [0, 1].

    NaN when both masks are empty, 0 when one is.

    References:
        arXiv:1809.04430, "surface DSC".
    """
    if distances.both_empty:
        return math.nan
    near = sum(float(np.sum(weight[mm <= tolerance_mm])) for mm, weight in distances.directed)
    return near / sum(float(np.sum(weight)) for _, weight in distances.directed)


def voxel_hausdorff_mm(distances: SurfaceDistances, percent: float = 100.0) -> float:
    """Larger of the two directed percentiles, linearly interpolated; empty rules as `hausdorff_mm`."""
    if distances.both_empty or distances.one_empty:
        return _empty(distances)
    return max(float(np.percentile(mm, percent)) for mm, _ in distances.directed)


def pooled_hausdorff_mm(distances: SurfaceDistances, percent: float = 95.0) -> float:
    """Percentile, linearly interpolated, of the distances of both surfaces in one list."""
    if distances.both_empty or distances.one_empty:
        return _empty(distances)
    return float(np.percentile(np.concatenate((distances.reference_mm, distances.predicted_mm)), percent))


def mean_of_means_mm(distances: SurfaceDistances) -> float:
    """Mean average surface distance (MASD): the mean of the two directed mean distances."""
    if distances.both_empty or distances.one_empty:
        return _empty(distances)
    return sum(float(np.average(mm, weights=weight)) for mm, weight in distances.directed) / 2


def _prepared(
    reference: Labels, predicted: Labels, spacing_mm: Sequence[float]
) -> tuple[Labels, Labels, tuple[float, ...]]:
    require_same_shape(reference, predicted)
    spacing = checked_spacing(spacing_mm, reference.ndim)
    if reference.ndim == 3 and reference.shape[2] == 1:
        return reference[..., 0], predicted[..., 0], spacing[:2]
    return reference, predicted, spacing


def _counted(points: ByLabel, mm: Numbers, areas: Numbers, label: int) -> Counted:
    which = points.part(label)
    (known, length), (weights, kind) = _ranked(mm[which]), _ranked(areas)
    count = np.bincount(length * weights.size + kind[points.borders.codes[which]])
    some = np.flatnonzero(count)
    return Counted(known[some // weights.size], weights[some % weights.size], count[some])


def _ranked(values: Numbers) -> tuple[Numbers, NDArray[np.intp]]:
    """The values there are, ascending, and the place of each among them."""
    known = np.unique(values)
    return known, np.searchsorted(known, values)


def _area_percentile(mm: Numbers, weight: Numbers, percent: float) -> float:
    share = np.cumsum(weight) / np.sum(weight)
    at = int(np.searchsorted(share, percent / 100.0))
    return float(mm[min(at, mm.size - 1)])


def _empty(distances: SurfaceDistances) -> float:
    return math.nan if distances.both_empty else math.inf
