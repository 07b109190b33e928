"""Dense CRF: every two voxels prefer one label, the more the nearer and the more alike they are.

Kraehenbuehl and Koltun 2011 (arXiv:1210.5644), equations 1 to 4, with Potts' compatibility:

    E(x) = sum_i -ln p_i(x_i) + sum_{i<j} [x_i != x_j] (w1 k1(i, j) + w2 k2(i, j))
    k1 = exp(-|p_i - p_j|^2 / 2 a^2 - |I_i - I_j|^2 / 2 b^2),  k2 = exp(-|p_i - p_j|^2 / 2 c^2)

Positions p are in mm. Kernels are normalised as in the authors' program, k(i, j) / sqrt(n_i n_j) with
n_i = sum_j k(i, j), so that a weight means the same for any width and voxel size. Mean field (algorithm 1):
Q_i(l) is proportional to p_i(l) exp(sum_m w_m sum_{j != i} k_m(i, j) Q_j(l)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from medseg.classical.spec import DenseCrfSpec
from medseg.core.errors import UsageError

FloatArray = NDArray[np.float32]
Kernel = Callable[[FloatArray], FloatArray]
"""Sums of values (K, N) over all voxels, weighted by a Gaussian around each."""

CELLS, FEWEST_CELLS = 1.5, 1.0
"""Cells of the bilateral grid to a standard deviation; fewer where it would be larger than `MOST_CELLS`."""
MOST_CELLS = 2**23
INTENSITY_CELLS = 64
"""Intensities further than half of this from the median are taken for the last within."""
REACH = 4.0
"""Standard deviations after which a Gaussian ends."""
LEAST = 1e-6
"""Least probability."""


def bytes_held(spec: DenseCrfSpec, outputs: int, shape: Sequence[int]) -> int:
    """An upper bound of what `dense_crf` holds beside its probabilities and images."""
    axes, voxels = 3 + max(1, len(spec.channels)), math.prod(shape)
    cells: int = min(MOST_CELLS, INTENSITY_CELLS ** (axes - 3) * math.prod(n + 1 for n in shape))
    return voxels * ((8 << axes) + 4 * axes + 24 * outputs) + 8 * cells * (outputs + 1)


def dense_crf(
    probabilities: FloatArray, images: FloatArray, spacing_mm: Sequence[float], spec: DenseCrfSpec
) -> FloatArray:
    """The mean field of a dense CRF, probabilities (K, i, j, k) that sum to 1.

    Args:
        probabilities: of K exclusive labels, (K, i, j, k).
        images: one or two channels, (C, i, j, k).
        spacing_mm: size of a voxel.
        spec: weights and widths.

    Raises:
        UsageError: the bilateral grid would have more cells than there is room for.
    """
    shape = probabilities.shape[1:]
    evidence = np.log(np.maximum(probabilities, LEAST)).reshape(len(probabilities), -1)
    terms = []
    if spec.bilateral_weight:
        terms.append((spec.bilateral_weight, _bilateral(images, spacing_mm, spec)))
    if spec.spatial_weight:
        terms.append((spec.spatial_weight, _spatial(shape, [spec.spatial_mm / mm for mm in spacing_mm])))
    messages = [(weight, *_normalised(kernel, evidence.shape[1])) for weight, kernel in terms]
    found = _softmax(evidence)
    for _ in range(spec.iterations if messages else 0):
        energy = evidence.copy()
        for weight, kernel, scale in messages:
            energy += weight * scale * (kernel(scale * found) - scale * found)  # voxel i itself is no j
        found = _softmax(energy)
    return found.reshape(probabilities.shape)


def _normalised(kernel: Kernel, voxels: int) -> tuple[Kernel, FloatArray]:
    """The kernel, and 1 / sqrt(n_i); a voxel counts itself, so that n_i is at least 1."""
    total = kernel(np.ones((1, voxels), np.float32))[0]
    return kernel, (1 / np.sqrt(np.maximum(total, 1))).astype(np.float32)


def _spatial(shape: Sequence[int], deviations: Sequence[float]) -> Kernel:
    def summed(values: FloatArray) -> FloatArray:
        return _blurred(values.reshape(-1, *shape), deviations).reshape(values.shape)

    return summed


def _bilateral(images: FloatArray, spacing_mm: Sequence[float], spec: DenseCrfSpec) -> Kernel:
    """Sums in a grid of position and intensity: linear weights into it, a blur, linear weights out of it.

    Both linear weights blur by 1/6 of a squared cell, which the blur between them leaves out; what they take
    from its peak is given back.
    """
    shape = images.shape[1:]
    places = np.meshgrid(
        *(np.arange(n) * (mm / spec.bilateral_mm) for n, mm in zip(shape, spacing_mm, strict=True)),
        indexing="ij",
        sparse=True,
    )
    greys = (images - np.median(images, axis=(1, 2, 3), keepdims=True)) / spec.intensity
    features = [*places, *greys]
    cells, sizes = _cells(features)
    weights = _linear_weights(features, cells, sizes, math.prod(shape))
    within = math.sqrt(cells**2 - 1 / 3)
    peak = np.float32((cells / within) ** len(sizes))

    def summed(values: FloatArray) -> FloatArray:
        grid = (weights.T @ values.T).T.reshape(-1, *sizes)
        blurred = _blurred(grid, [within] * len(sizes)).reshape(len(values), -1)
        return np.asarray((weights @ blurred.T).T * peak, np.float32)

    return summed


def _cells(features: list[FloatArray]) -> tuple[float, list[int]]:
    """Cells to a standard deviation, and along each axis; features are cut off and moved to start at 0.

    Raises:
        UsageError: there would be too many.
    """
    most = INTENSITY_CELLS / 2 / CELLS
    for n, feature in enumerate(features):
        cut = np.clip(feature, -most, most) if n >= 3 else feature
        features[n] = cut - cut.min()
    for cells in np.linspace(CELLS, FEWEST_CELLS, 6).tolist():
        sizes = [int(f.max() * cells) + 2 for f in features]
        if math.prod(sizes) <= MOST_CELLS:
            return cells, sizes
    raise UsageError(
        f"the grid of the dense CRF would have {math.prod(sizes)} cells, and may have {MOST_CELLS}",
        hint="raise dense_crf.bilateral_mm or dense_crf.intensity",
    )


def _linear_weights(
    features: Sequence[FloatArray], cells: float, sizes: Sequence[int], voxels: int
) -> sparse.csr_array:
    """Shares (N, cells) of each voxel in the corners of the cell it lies in."""
    axes = len(sizes)
    scaled = [f * cells for f in features]
    lows = [s.astype(np.int32) for s in scaled]
    above = [(s - low).astype(np.float32) for s, low in zip(scaled, lows, strict=True)]
    steps = np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)
    share = np.empty((voxels, 2**axes), np.float32)
    place = np.empty((voxels, 2**axes), np.int32)
    first = sum(low * step for low, step in zip(lows, steps, strict=True))
    for number, corner in enumerate(product((0, 1), repeat=axes)):
        shares = (a if up else 1 - a for a, up in zip(above, corner, strict=True))
        share[:, number] = math.prod(shares, start=np.ones((), np.float32)).ravel()
        place[:, number] = (first + int(np.dot(corner, steps))).ravel()
    short = np.int32 if share.size < 2**31 else np.int64  # of one type with `place`, which is then not copied
    ends = np.arange(0, share.size + 1, 2**axes, dtype=short)
    return sparse.csr_array((share.ravel(), place.ravel(), ends), shape=(voxels, math.prod(sizes)))


def _blurred(values: FloatArray, deviations: Sequence[float]) -> FloatArray:
    """Sums with the weight exp(-d^2 / 2 s^2) along all axes but the first."""
    for axis, deviation in enumerate(deviations, start=1):
        reach = max(1, math.ceil(REACH * deviation))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
        values = ndimage.correlate1d(values, weights, axis, mode="constant")
    return values


def _softmax(energy: FloatArray) -> FloatArray:
    powers = np.exp(energy - energy.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0), np.float32)
