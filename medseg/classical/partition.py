"""Supervoxels: parts of a scan that are near in position (mm) and alike in intensity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.cluster.vq import kmeans2
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage import segmentation

from medseg.core.errors import UsageError, unknown_name

FloatArray = NDArray[np.float32]
Parts = NDArray[np.integer[Any]]

SHOWN = (1.0, 99.5)
"""Percentiles of the intensities that become 0 and 1."""
BANDWIDTH = 0.6
"""Of the mean shift, in compactnesses: supervoxels side by side attract each other if they are alike."""
ROUNDS, SHIFTS = 10, 50
"""Steps of k-means, and most steps of the mean shift."""


def partition(
    image: NDArray[np.generic], spacing_mm: Sequence[float], method: str, parts: int, compactness: float = 0.1
) -> Parts:
    """Numbers from 1 of about as many parts as wanted, (i, j, k).

    Args:
        image: intensities, (i, j, k); they are scaled to [0, 1].
        spacing_mm: size of a voxel.
        method: a key of `METHODS`.
        parts: how many are wanted; of "meanshift", how many are merged.
        compactness: difference of scaled intensity that counts as much as the edge of a part.

    Raises:
        UsageError: there is no such method, or there are fewer voxels than parts.
    """
    if method not in METHODS:
        raise unknown_name("method", method, tuple(METHODS))
    if not 1 <= parts <= image.size:
        raise UsageError(
            f"{parts} parts are wanted of {image.size} voxels", hint="give -k from 1 to that number"
        )
    if not 0 < compactness < math.inf:
        raise UsageError(f"compactness must be positive, not {compactness}")
    found = METHODS[method](scaled(image), spacing_mm, parts, compactness)
    return np.unique(found, return_inverse=True)[1].reshape(image.shape) + 1


def scaled(image: NDArray[np.generic]) -> FloatArray:
    """Intensities from 0 to 1, but for outliers, which are cut off."""
    values = np.asarray(image, np.float32)
    low, high = np.percentile(values, SHOWN).tolist()
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), np.float32)


def gradient(image: FloatArray, spacing_mm: Sequence[float]) -> FloatArray:
    """Length of the gradient, a millimetre, of an image blurred by its smallest spacing."""
    deviations = [min(spacing_mm) / mm for mm in spacing_mm]
    blurred = ndimage.gaussian_filter(image, deviations)
    axes = [axis for axis, n in enumerate(image.shape) if n > 1]
    steps = [np.gradient(blurred, spacing_mm[axis], axis=axis) for axis in axes]
    return np.asarray(np.sqrt(sum(step**2 for step in steps)) + np.zeros_like(image), np.float32)


def _features(image: FloatArray, spacing_mm: Sequence[float], parts: int, compactness: float) -> FloatArray:
    """Position and intensity (N, 4); the edge of a part is as far as a compactness of intensity."""
    edge_mm = _edge(image.shape, spacing_mm, parts)
    places = np.indices(image.shape, np.float32).reshape(3, -1).T * np.asarray(spacing_mm, np.float32)
    return np.column_stack([places * np.float32(compactness / edge_mm), image.reshape(-1, 1)])


def _edge(shape: Sequence[int], spacing: Sequence[float], parts: int) -> float:
    """Of each of as many cubes as there are parts; of squares where the image is a slice."""
    sizes = [n * step for n, step in zip(shape, spacing, strict=True) if n > 1]
    return float((math.prod(sizes) / parts) ** (1 / max(1, len(sizes))))


def _kmeans(image: FloatArray, spacing_mm: Sequence[float], parts: int, compactness: float) -> Parts:
    """k-means of position and intensity (Lloyd 1982, doi:10.1109/TIT.1982.1056489), from a grid of seeds."""
    features = _features(image, spacing_mm, parts, compactness)
    seeds = np.random.default_rng(0).choice(len(features), parts, replace=False)
    with warnings.catch_warnings(action="ignore"):  # of a cluster that loses all its voxels
        return np.asarray(kmeans2(features, features[seeds], iter=ROUNDS, minit="matrix")[1])


def _slic(image: FloatArray, spacing_mm: Sequence[float], parts: int, compactness: float) -> Parts:
    """Simple linear iterative clustering (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120).

    Distances are in mm; seeds lie in a grid of voxels, so that parts of thick slices are long across them.
    """
    found = segmentation.slic(image, parts, compactness, channel_axis=None, spacing=spacing_mm, start_label=1)
    return np.asarray(found)


def _watershed(image: FloatArray, spacing_mm: Sequence[float], parts: int, compactness: float) -> Parts:
    """Basins of the gradient around seeds in a grid (Vincent and Soille 1991, doi:10.1109/34.87344).

    Where the gradient says nothing, the nearer seed has the voxel: an edge of distance counts as much as the
    gradient of one compactness in an edge (Neubert and Protzel 2014, doi:10.1109/ICPR.2014.181).
    """
    near = compactness / _edge(image.shape, spacing_mm, parts) / _edge(image.shape, (1, 1, 1), parts)
    return np.asarray(segmentation.watershed(gradient(image, spacing_mm), parts, compactness=near))


def _meanshift(image: FloatArray, spacing_mm: Sequence[float], parts: int, compactness: float) -> Parts:
    """Supervoxels that climb to one mode of their density (Comaniciu and Meer 2002, doi:10.1109/34.1000236).

    Equation 20, with a Gaussian kernel: x becomes sum_i n_i x_i g(|x - x_i|^2) / sum_i n_i g(|x - x_i|^2), of
    the means x_i of supervoxels with n_i voxels.
    """
    numbers = _slic(image, spacing_mm, parts, compactness).ravel()
    _, numbers, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    features = _features(image, spacing_mm, parts, compactness)
    means = np.stack([np.bincount(numbers, f) for f in features.T], axis=1) / counts[:, None]
    width = BANDWIDTH * compactness
    modes = means
    for _ in range(SHIFTS):
        weights = np.exp(-cdist(modes, means, "sqeuclidean") / (2 * width**2)) * counts
        before, modes = modes, weights @ means / weights.sum(axis=1, keepdims=True)
        if np.abs(modes - before).max() < 1e-2 * width:
            break
    pairs = cKDTree(modes).query_pairs(width / 2, output_type="ndarray")
    same = sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(len(modes), len(modes)))
    return np.asarray(connected_components(same, directed=False)[1])[numbers]


METHODS: Mapping[str, Callable[[FloatArray, Sequence[float], int, float], Parts]] = MappingProxyType(
    {"kmeans": _kmeans, "slic": _slic, "watershed": _watershed, "meanshift": _meanshift}
)
"""By name; each takes a scaled image, its spacing, the parts and the compactness."""
