"""Resampling between grids that fill the same box of the world.

Voxels are little boxes: the outer edges of the first and last voxel stay where they are, and
the centres move. Every axis is one small matrix (n_out, n_in), so an image is resampled by
matrix products, and any band of output rows can be made without the others.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.boxes import label_boxes
from medseg.core.errors import GeometryError, ResourceError
from medseg.core.volume import Grid

Triple = tuple[int, int, int]
Weights = NDArray[np.float32]

MAX_VOXELS = 2**33
"""A resampled grid beyond this (32 GiB a channel) is refused before anything is allocated."""

EVERYTHING = slice(None)

TIE = np.float32(1e-5)
"""Two labels' shares of a voxel that differ by less are equal but for rounding."""


def resampled_grid(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """The grid over the same box whose spacing is as near to `spacing_mm` as whole voxels allow.

    Raises:
        GeometryError: a spacing is not positive and finite.
        ResourceError: the new grid would have more than 2^33 voxels.
    """
    if not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise GeometryError(f"spacing must be positive, not {spacing_mm} mm")
    i, j, k = (
        max(1, math.floor(n * old / new + 0.5))
        for n, old, new in zip(grid.shape, grid.spacing_mm, spacing_mm, strict=True)
    )
    if i * j * k > MAX_VOXELS:
        raise ResourceError(
            f"resampling {grid.shape} voxels of {grid.spacing_mm} mm to {spacing_mm} mm would make "
            f"{i}x{j}x{k}, more than {MAX_VOXELS:,} voxels",
            hint="choose a coarser spacing",
        )
    return Grid((i, j, k), aff.rescaled(grid.affine, grid.shape, (i, j, k)))


@lru_cache(maxsize=64)
def axis_weights(n_in: int, n_out: int) -> Weights:
    """Linear interpolation along one axis as a matrix (n_out, n_in) whose rows sum to 1.

    Output voxel o has its centre at x = (o + 1/2) n_in / n_out - 1/2 in input voxels, and takes
    voxel i with weight max(0, 1 - |i - x| / w), w = max(1, n_in / n_out): plain interpolation
    when the grid becomes finer, a triangle as wide as the new voxels, against aliasing, when it
    becomes coarser. Beyond the edge the last voxel is repeated.

    The matrix is shared, and cannot be changed.

    >>> axis_weights(2, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    step = n_in / n_out
    width = max(1.0, step)
    centres = (np.arange(n_out) + 0.5) * step - 0.5
    reach = math.ceil(width)
    taps = np.floor(centres).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
    values = np.clip(1.0 - np.abs(taps - centres[:, None]) / width, 0.0, None)
    matrix = np.zeros((n_out, n_in))
    np.add.at(matrix, (np.arange(n_out)[:, None], np.clip(taps, 0, n_in - 1)), values)
    found = np.asarray(matrix / matrix.sum(axis=1, keepdims=True), dtype=np.float32)
    found.flags.writeable = False
    return found


BLOCK = 32
"""Rows of a matrix that are multiplied together, with the columns that any of them takes."""


class Bands:
    """A matrix along one axis, each of whose rows takes few neighbouring columns, as in interpolation.

    Products are those of the whole matrix to the last bit: what is left out is zeros.

    Args:
        weights: the matrix (n_out, n_in).
    """

    def __init__(self, weights: Weights) -> None:
        self.rows = len(weights)
        self._blocks: list[tuple[slice, slice, Weights, Weights]] = []
        for start in range(0, len(weights), BLOCK):
            rows = slice(start, min(start + BLOCK, len(weights)))
            used = np.flatnonzero(weights[rows].any(axis=0))
            taken = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
            block = np.ascontiguousarray(weights[rows, taken])
            self._blocks.append((rows, taken, block, np.ascontiguousarray(block.T)))

    def along_last(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products along the last axis of (..., n_in)."""
        out = np.empty((*array.shape[:-1], self.rows), np.float32)
        for rows, taken, _, block in self._blocks:
            np.matmul(array[..., taken], block, out=out[..., rows])
        return out

    def along_rows(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products along the last axis but one of (..., n_in, k)."""
        out = np.empty((*array.shape[:-2], self.rows, array.shape[-1]), np.float32)
        for rows, taken, block, _ in self._blocks:
            np.matmul(block, array[..., taken, :], out=out[..., rows, :])
        return out


def resample(
    array: NDArray[np.generic],
    shape: Triple,
    rows: slice = EVERYTHING,
    plane: tuple[slice, slice] = (EVERYTHING, EVERYTHING),
    *,
    part_of: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Linear interpolation of (C, I, J, K) to `shape` over the same box.

    An axis whose size does not change is copied bit for bit. Every output row along I is
    computed by itself, so slabs, however they are cut, join to exactly the whole.

    Args:
        array: (C, I, J, K), real numbers of any type.
        shape: the three sizes of the whole result.
        rows: make only these rows of the result's first axis (step 1).
        plane: and only this part of its other axes.
        part_of: what the array's rows are where it has not all of them: the first, and of how many.

    Returns:
        (C, *shape), or the part asked for; float32, contiguous, newly allocated.
    """
    first, last, _ = rows.indices(shape[0])
    held, n_in = part_of or (0, array.shape[1])
    along_i = _weights(n_in, shape[0])
    (along_j, used_j), (along_k, used_k) = (
        _bands(n, m, *part.indices(m)[:2])
        for n, m, part in zip(array.shape[2:], shape[1:], plane, strict=True)
    )
    array = array[:, :, used_j, used_k]
    sizes = [len(range(n)[part]) for n, part in zip(shape[1:], plane, strict=True)]
    out = np.empty((array.shape[0], max(0, last - first), *sizes), dtype=np.float32)
    k_first = sizes[1] * array.shape[2] < sizes[0] * array.shape[3]
    for n, row in enumerate(range(first, last)):
        content = _row(array, along_i, row, held)
        if k_first and along_k is not None:
            content = along_k.along_last(content)
        if along_j is not None:
            content = along_j.along_rows(content)
        if not k_first and along_k is not None:
            content = along_k.along_last(content)
        out[:, n] = content
    return out


def reached(n_in: int, n_out: int, start: int, stop: int) -> tuple[int, int]:
    """First and behind the last of the output voxels that input voxels `start` to `stop` have a part in."""
    if n_in == n_out:
        return start, stop
    _, first, last = _reached(axis_weights(n_in, n_out), slice(start, stop))
    return first, last


def resample_labels(labels: NDArray[np.integer], shape: Triple) -> NDArray[np.integer]:
    """Labels (I, J, K) on `shape` over the same box: each voxel takes the value that fills most of it.

    Every value's mask is resampled as `resample` does an image, and the largest wins; an exact
    tie goes to the larger value on every other voxel, as on a chessboard. So labels keep their
    volume and their place when the grid becomes coarser (the nearest voxel would shift them by up
    to half an input voxel), and no new value appears.
    """
    if labels.shape == shape:
        return labels.copy()
    values = np.unique(labels)
    indices = np.searchsorted(values, labels).astype(np.int32) + 1
    matrices = [axis_weights(n, m) for n, m in zip(labels.shape, shape, strict=True)]
    i, j, k = np.indices(shape, sparse=True)
    margin = np.where((i + j + k) % 2 == 0, -TIE, TIE)
    best = np.full(shape, -1.0, dtype=np.float32)
    out = np.full(shape, values[0], dtype=labels.dtype)
    for number, box in label_boxes(indices, range(1, len(values) + 1)).items():
        parts = [_reached(matrix, where) for matrix, where in zip(matrices, box, strict=True)]
        target = tuple(slice(a, b) for _, a, b in parts)
        share = _vote((indices[box] == number).astype(np.float32), [part for part, _, _ in parts])
        wins = share > best[target] + margin[target]
        best[target][wins] = share[wins]
        out[target][wins] = values[number - 1]
    return out


def _weights(n_in: int, n_out: int) -> Weights | None:
    return None if n_in == n_out else axis_weights(n_in, n_out)


def sources(n_in: int, n_out: int, start: int, stop: int) -> tuple[int, int]:
    """First and behind the last of the input voxels that output voxels `start` to `stop` are made of."""
    if n_in == n_out:
        return start, stop
    used = np.flatnonzero(axis_weights(n_in, n_out)[start:stop].any(axis=0))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)


@lru_cache(maxsize=256)
def _bands(n_in: int, n_out: int, start: int, stop: int) -> tuple[Bands | None, slice]:
    """What makes output voxels `start` to `stop` of an axis, and the input voxels it takes."""
    if n_in == n_out:
        return None, slice(start, stop)
    first, last = sources(n_in, n_out, start, stop)
    return Bands(axis_weights(n_in, n_out)[start:stop, first:last]), slice(first, last)


def _row(array: NDArray[np.generic], weights: Weights | None, row: int, held: int) -> NDArray[np.float32]:
    """Plane (C, J, K) of output row `row`, made of the input rows it touches only; the first is `held`."""
    if weights is None:
        return array[:, row - held].astype(np.float32)
    used = np.flatnonzero(weights[row])
    band = array[:, used[0] - held : used[-1] + 1 - held].astype(np.float32)
    taps = weights[row, used[0] : used[-1] + 1]
    flat: NDArray[np.float32] = np.matmul(taps, band.reshape(*band.shape[:2], -1))
    return flat.reshape(band.shape[0], *band.shape[2:])


def _reached(weights: Weights, where: slice) -> tuple[Weights, int, int]:
    """Columns `where` of a matrix, cut to the rows they reach, and which rows those are."""
    columns = weights[:, where]
    rows = np.flatnonzero(columns.any(axis=1))
    return columns[rows[0] : rows[-1] + 1], int(rows[0]), int(rows[-1]) + 1


def _vote(mask: NDArray[np.float32], parts: list[Weights]) -> NDArray[np.float32]:
    along_i, along_j, along_k = map(Bands, parts)
    planes = along_i.along_rows(mask.reshape(mask.shape[0], -1)).reshape(-1, *mask.shape[1:])
    return along_k.along_last(along_j.along_rows(planes))
