"""Corrections by hand: what a few scribbled voxels say of the voxels around them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation

from medseg.classical.graph_cut import Neighbours, in_units, least_energy
from medseg.classical.partition import FloatArray, gradient, scaled
from medseg.core.boxes import bounding_box, widened
from medseg.core.errors import UsageError, unknown_name

Labels = NDArray[np.integer[Any]]
Classes = NDArray[np.signedinteger[Any]]
"""Numbers (i, j, k) of classes from 0, the background; -1 where one is looked for."""

BINS, BLUR = 64, 3.0
"""Of the histograms of intensity, and the deviation that blurs them, in bins."""
LEAST = 1e-3
"""Share of every intensity in every class."""
DEEPER = 2.0
"""How many times as deep as a scribble in the region that it denies a voxel may lie to be in doubt."""
FAR_MM = 3.0
"""Distance from a class that costs as much as an intensity e times as rare in it."""
WEIGHT, EDGE = 3.0, 0.1
"""Of the cut: what a millimetre between two labels costs, and the step of intensity that makes an edge."""
BETA = 5000.0
"""Of the random walker: how much a step of intensity hinders it; with less, a few scribbled voxels are as
good as none beside the many beyond their reach."""
SPREADS, LEAST_SPREAD = 2.0, 0.02
"""Standard deviations of a structure's intensities that its region grows over, and the least deviation."""
NEAR = 0.003
"""Of the watershed: gradient that counts as much as a voxel of distance."""
STEEPNESS, ROUNDS, STEPS = 100.0, 3, 2
"""Of the level set: how much a gradient stops it, and steps between two looks at the scribbles."""


def refine(
    image: NDArray[np.generic],
    scribbles: Labels,
    start: Labels | None,
    spacing_mm: Sequence[float],
    method: str,
    *,
    background: int = 255,
    reach_mm: float = 10.0,
) -> Labels:
    """Labels (i, j, k) that follow scribbles, and the image around them.

    A scribbled voxel has the label that is scribbled. Without a start, each method decides on all voxels
    within reach of a scribble; with one, on those whose label a scribble within reach denies, unless they lie
    much deeper in their region than it, or nearer to a scribble that agrees. Such a voxel takes the label of
    a scribble that denied, or keeps its own. All other voxels keep the label of the start, and what is known
    around the others is evidence for them. The background of a start that lacks a scribbled structure says
    nothing, as if there were no start.

    Args:
        image: intensities.
        scribbles: label values; 0 where nothing is scribbled.
        start: label values; all background when None.
        spacing_mm: size of a voxel.
        method: a key of `METHODS`.
        background: value of scribbles on the background.
        reach_mm: distance from a scribble at which labels may change.

    Raises:
        UsageError: there is no such method, or only background is scribbled on and there is no start.
    """
    if method not in METHODS:
        raise unknown_name("method", method, tuple(METHODS))
    marked = scribbles != 0
    if start is None and marked.any() and (scribbles[marked] == background).all():
        raise UsageError(
            "only the background is scribbled on, so that nothing can be labelled",
            hint="scribble on a structure too, or give a segmentation to start from",
        )
    meant = np.where(scribbles == background, 0, scribbles)
    wrong = marked if start is None else marked & (meant != start)
    out = np.where(marked, meant, np.zeros_like(meant) if start is None else start)
    around = bounding_box(wrong)
    if around is None:
        return out
    box = widened(around, [math.ceil(reach_mm / mm) + 1 for mm in spacing_mm], image.shape)
    lacking = start is None or not np.isin(np.unique(meant[wrong & (meant != 0)]), start).all()
    stated = np.zeros_like(out[box]) if start is None else start[box]
    free = _in_doubt(stated, wrong[box], (marked & ~wrong)[box], spacing_mm, reach_mm, lacking) & ~marked[box]
    values, classes = np.unique(out[box][~free], return_inverse=True)
    known = np.full(free.shape, -1)
    known[~free] = classes
    at = np.searchsorted(values, out[box]).clip(max=len(values) - 1)
    before = np.where(values[at] == out[box], at, -1)
    if lacking:
        before[free & (out[box] == 0)] = -1
    picture = scaled(image[box])
    find = METHODS[method] if picture.any() and len(values) > 1 else _nearest
    found = values[find(picture, known, before, spacing_mm)]
    if not lacking:
        free &= np.isin(found, meant[wrong])
    out[box][free] = found[free]
    return out


def _in_doubt(
    start: NDArray[Any],
    wrong: NDArray[np.bool_],
    right: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    reach_mm: float,
    lacking: bool,
) -> NDArray[np.bool_]:
    """Voxels (i, j, k) whose label of a start is in doubt by scribbles, which contradict it or agree.

    They have the label that the nearest contradicting scribble denies, and lie at most `DEEPER` times as deep
    in its region as that scribble: an error at the border says little of the middle. Where nothing would be
    left of a label, only what is within half of that depth of the scribble is in doubt.
    """
    found = np.zeros(start.shape, np.bool_)
    agreeing = _distance_mm(right, spacing_mm)
    for value in np.unique(start[wrong]):
        own = start == value
        distance, nearest = ndimage.distance_transform_edt(
            ~(wrong & own), spacing_mm, return_distances=True, return_indices=True
        )
        near = own & (distance <= reach_mm)
        if not (lacking and value == 0):
            depth = _distance_mm(~own, spacing_mm)
            reached = depth[tuple(nearest)]
            near &= (distance < agreeing) & (depth <= DEEPER * reached)
            if near[own].all():
                near &= distance <= reached / DEEPER
        found |= near
    return found


def _distance_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """To the nearest voxel of a mask; infinite without one."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask, spacing_mm))


def _nearest(image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]) -> Classes:
    """The class of the nearest voxel whose class is known."""
    at = ndimage.distance_transform_edt(known < 0, spacing_mm, return_distances=False, return_indices=True)
    return np.asarray(known[tuple(at)])


def _graph_cut(image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]) -> Classes:
    """The grid CRF (see `graph_cut`) of intensity's share in each class and of the distance to it."""
    bins = np.minimum((image * BINS).astype(np.intp), BINS - 1)
    classes = range(int(known.max()) + 1)
    shares = np.stack([np.bincount(bins[before == n], minlength=BINS) / (before == n).sum() for n in classes])
    shares = ndimage.gaussian_filter1d(shares, BLUR, mode="nearest") + LEAST
    far = np.stack([_distance_mm(known == n, spacing_mm) for n in classes]) / FAR_MM
    costs = far - np.log(shares[:, bins])
    data = in_units(costs - costs.min(axis=0)).reshape(len(classes), -1)
    pairs = Neighbours.of(image, spacing_mm, weight=WEIGHT, intensity=EDGE)
    labels, free = known.ravel().copy(), known.ravel() < 0
    for first, second in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        for n in classes:  # a known neighbour is a cost of all other classes
            differ = free[first] & ~free[second] & (labels[second] != n)
            np.add.at(data[n], first[differ], pairs.cost[differ])
    voxels = np.flatnonzero(free)
    labels[voxels] = least_energy(data[:, voxels], pairs.within(voxels, free.size))
    return labels.reshape(known.shape)


def _random_walker(
    image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]
) -> Classes:
    """The class that a random walk is likeliest to reach first (Grady 2006, doi:10.1109/TPAMI.2006.233)."""
    with warnings.catch_warnings(action="ignore"):  # of a solution within the tolerance of its own test
        found = segmentation.random_walker(image, known + 1, BETA, mode="cg_j", spacing=spacing_mm)
    return np.asarray(found) - 1


def _grow(image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]) -> Classes:
    """Regions of like intensity that hang together with what is known of each class.

    Alike is what lies within `SPREADS` deviations of the median, by the median deviation from it. Voxels that
    no region has, or several, go to the nearest class.
    """
    import SimpleITK as sitk  # slow to import

    scan = sitk.GetImageFromArray(image)
    regions = []
    for n in range(int(known.max()) + 1):
        values = image[before == n]
        middle = float(np.median(values))
        spread = SPREADS * max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(values - middle))))
        seeds = np.argwhere(known == n)[:, ::-1].tolist()
        region = sitk.ConnectedThreshold(scan, seeds, middle - spread, middle + spread)
        regions.append(sitk.GetArrayFromImage(region) > 0)
    one = np.sum(regions, axis=0) == 1
    return np.where(one, np.argmax(regions, axis=0), _nearest(image, known, before, spacing_mm))


def _watershed(image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]) -> Classes:
    """Basins of the gradient (Vincent and Soille 1991, doi:10.1109/34.87344) around what is known."""
    edges = gradient(image, spacing_mm)
    return np.asarray(segmentation.watershed(edges, known + 1, compactness=NEAR)) - 1


def _levelset(image: FloatArray, known: Classes, before: Classes, spacing_mm: Sequence[float]) -> Classes:
    """A contour of each structure, from where it is the nearest class to edges of the image.

    Morphological geodesic active contours (Marquez-Neila et al. 2014, doi:10.1109/TPAMI.2013.106).
    """
    nearest = _nearest(image, known, before, spacing_mm)
    thin = [(int(n == 1),) * 2 for n in image.shape]  # a slice is repeated, for what needs three axes
    edges = segmentation.inverse_gaussian_gradient(np.pad(image, thin, "edge"), STEEPNESS, 1.0)
    known, nearest = np.pad(known, thin, "edge"), np.pad(nearest, thin, "edge")
    found = np.maximum(known, 0)
    for n in range(1, int(known.max()) + 1):
        inside = nearest == n
        for _ in range(ROUNDS):
            moved = segmentation.morphological_geodesic_active_contour(edges, STEPS, inside, smoothing=1)
            inside = np.where(known < 0, moved > 0, known == n)
        found[inside] = n
    return found[tuple(slice(before, n - before) for (before, _), n in zip(thin, found.shape, strict=True))]


METHODS: Mapping[str, Callable[[FloatArray, Classes, Classes, Sequence[float]], Classes]] = MappingProxyType(
    {
        "graph_cut": _graph_cut,
        "random_walker": _random_walker,
        "grow": _grow,
        "watershed": _watershed,
        "levelset": _levelset,
    }
)
"""By name; each takes a scaled image, the classes that are known and those of the start, and the spacing."""
