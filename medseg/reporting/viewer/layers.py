"""Voxels as a page carries them: a scan in grey levels and label maps, small enough to send by mail."""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Slices, bounding_box, centroid, label_boxes, profiles, union
from medseg.core.lookup import looked_up
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid

Image = NDArray[Any]
Voxel = tuple[int, int, int]

BUDGET_BYTES = 6_000_000
"""What scan, labels and reference take together, compressed; base64 adds a third."""
LABEL_SHARE = 0.25
"""Most that one label map takes of it."""
MOST_VOXELS = 2**25
"""Voxels of the scan a page carries at most, however well they compress: a browser holds them all."""
MOST_LABELS = 2**27
"""As many of a label map, in the box around its labels."""
LEVELS = (256, 128)
"""Grey levels over twice the window; fewer of them before the scan loses resolution."""
SAMPLES = 8
"""Slabs, at least, from which it is guessed how small the scan will be."""
SURELY = 1.2
"""A guess this many times over the budget is believed."""
LEAST_BUDGET = 1000
"""Bytes that hold the coarsest scan whatever the budget."""
SEARCHED = 2**16
"""Voxels of a structure, about, among which the one nearest to its centroid is looked for."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Voxels of a page: element n along an axis covers the scan's voxels from start + n * factor on.

    Attributes:
        array: uint8 or little-endian uint16, (I', J', K').
        start, factors: voxels of the scan, along I, J, K.
        data: the array in C order, compressed by zlib; of a scan, the differences along K modulo 256.
        greys: intensities of the lowest and the highest grey, and how many there are; None for labels.
    """

    array: Image
    start: Voxel
    factors: Voxel
    data: bytes
    greys: tuple[float, float, int] | None = None

    def settings(self) -> dict[str, Any]:
        """What the page's script must know to unpack it."""
        said: dict[str, Any] = {
            "shape": self.array.shape,
            "start": self.start,
            "factors": self.factors,
            "bytes": self.array.dtype.itemsize,
            "differences": self.greys is not None,
        }
        if self.greys is not None:
            said |= dict(zip(("low", "high", "levels"), self.greys, strict=True))
        return said

    @property
    def is_whole(self) -> bool:
        """Whether every voxel of the scan is an element."""
        return max(self.factors) == 1


def image_layer(image: Image, grid: Grid, window: tuple[float, float], budget: int) -> Layer:
    """A scan in grey levels, at the finest resolution whose data take at most `budget` bytes.

    Args:
        image: intensities, (I, J, K); NaN becomes the lowest grey.
        grid: where the voxels are; blocks of them are averaged, as nearly cubes as whole voxels allow.
        window: intensities shown black and white; half its width more is kept on either side.
        budget: bytes of compressed data; the coarsest scan is kept even when it takes more.
    """
    low, high = _limits(image, window)
    for factors in blocks(grid.spacing_mm, grid.shape):
        if _elements(grid.shape, factors) > MOST_VOXELS:
            continue
        for levels in LEVELS:
            greys = (low, high, levels)
            if _guess(image, factors, greys) > SURELY * max(budget, LEAST_BUDGET):
                continue
            array = _greys(image, factors, greys)
            layer = Layer(array, (0, 0, 0), factors, _differences(array), greys)
            if len(layer.data) <= budget:
                return layer
    return layer


def label_layer(labels: Image, grid: Grid, structures: StructureSet) -> Layer:
    """Labels as indices into `index_values`, in the box around them.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: what the values mean; others become background.
    """
    box = bounding_box(labels) or (slice(0, 1),) * 3
    start: Voxel = tuple(int(s.start) for s in box)  # type: ignore[assignment]
    indices = _indices(labels[box], index_values(structures))
    for factors in blocks(grid.spacing_mm, indices.shape):
        middle = tuple(
            slice(min(f // 2, n - 1), None, f) for n, f in zip(indices.shape, factors, strict=True)
        )
        array = np.ascontiguousarray(indices[middle])
        for strategy in (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY):  # the first is faster, the second smaller
            layer = Layer(array, start, factors, _packed(array, strategy))
            if array.size <= MOST_LABELS and len(layer.data) <= LABEL_SHARE * BUDGET_BYTES:
                return layer
    return layer


def index_values(structures: StructureSet) -> tuple[int, ...]:
    """The label value each index of a layer stands for, the background first."""
    return (0, *(value for value in structures.index_values if value))


def indices_of(structure: Structure, structures: StructureSet) -> tuple[int, ...]:
    """The indices of a layer that belong to a structure."""
    values = index_values(structures)
    return tuple(values.index(value) for value in structure.label_values)


def blocks(spacing_mm: Sequence[float], shape: Sequence[int]) -> Iterator[Voxel]:
    """Ever larger blocks of voxels, each a voxel longer along its shortest side; the last is everything.

    >>> from itertools import islice
    >>> list(islice(blocks((0.5, 0.5, 2.0), (512, 512, 20)), 4))
    [(1, 1, 1), (1, 2, 1), (2, 2, 1), (2, 3, 1)]
    """
    sides = [1, 1, 1]
    yield 1, 1, 1
    while growing := [axis for axis in (2, 1, 0) if sides[axis] < shape[axis]]:
        shortest = min(growing, key=lambda axis: round(sides[axis] * spacing_mm[axis], 3))
        sides[shortest] += 1
        yield sides[0], sides[1], sides[2]


def middles(
    structures: StructureSet, layer: Layer, grid: Grid, known: Container[str] = ()
) -> dict[str, Voxel]:
    """For each structure in a label layer, by name, its voxel nearest to its centroid; not for `known`."""
    boxes = label_boxes(layer.array, range(1, len(index_values(structures))))
    found = {}
    for structure in structures:
        members = indices_of(structure, structures)
        inside = [boxes[n] for n in members if n in boxes]
        if inside and structure.name not in known:
            box = union(inside)
            part = layer.array[box]
            mask = np.logical_or.reduce([part == member for member in members])
            point = _middle(mask, grid.spacing_mm)
            found[structure.name] = _voxel(point, box, layer, grid)
    return found


def middle_of_all(layer: Layer, grid: Grid) -> Voxel | None:
    """The labelled voxel nearest to the centroid of all; None where nothing is labelled."""
    labelled = layer.array != 0
    if not labelled.any():
        return None
    return _voxel(_middle(labelled, grid.spacing_mm), (slice(0, None),) * 3, layer, grid)


def _voxel(point: Sequence[int], box: Slices, layer: Layer, grid: Grid) -> Voxel:
    """A place in the box of a layer as a voxel of the scan."""
    inside = zip(point, box, layer.start, layer.factors, grid.shape, strict=True)
    i, j, k = (min(n - 1, start + (p + b.start) * f + f // 2) for p, b, start, f, n in inside)
    return i, j, k


def _middle(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """The voxel of a mask nearest to its centroid."""
    middle = centroid(profiles(mask))
    nearest = tuple(round(c) for c in middle)
    if mask[nearest]:
        return nearest
    flat = np.flatnonzero(mask)
    points = np.stack(np.unravel_index(flat[:: max(1, flat.size // SEARCHED)], mask.shape), axis=1)
    away = (((points - middle) * spacing_mm) ** 2).sum(axis=1)
    return tuple(points[away.argmin()].tolist())


def _indices(labels: Image, values: Sequence[int]) -> Image:
    index = {value: n for n, value in enumerate(values)}
    return looked_up(labels, index, np.uint8 if len(values) <= 256 else "<u2")


def _limits(image: Image, window: tuple[float, float]) -> tuple[float, float]:
    """Intensities of the lowest and the highest grey: the window, and half of it more on either side."""
    black, white = window
    half = (white - black) / 2
    least, most = float(image.min()), float(image.max())
    if not math.isfinite(most - least):
        least, most = np.inf, -np.inf
        for slab in image:
            finite = slab[np.isfinite(slab)]
            if finite.size:
                least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    return min(black, max(black - half, least)), max(white, min(white + half, most))


def _elements(shape: Voxel, factors: Voxel) -> int:
    return int(np.prod([-(-n // f) for n, f in zip(shape, factors, strict=True)]))


def _guess(image: Image, factors: Voxel, greys: tuple[float, float, int]) -> float:
    """Bytes the scan would take, from a share of its slabs."""
    starts = range(0, image.shape[0], factors[0])
    step = max(1, len(starts) // SAMPLES)
    slabs = [image[start : start + factors[0]] for start in starts[step // 2 :: step]]
    sample = _greys(np.concatenate(slabs), factors, greys)
    return len(_differences(sample)) * len(starts) / len(sample)


def _greys(image: Image, factors: Voxel, greys: tuple[float, float, int]) -> Image:
    """Blocks of voxels averaged, in grey levels; slab by slab along the axis that is slowest in memory."""
    if image.strides[0] < image.strides[-1]:
        return np.ascontiguousarray(_greys(image.T, factors[::-1], greys).T)
    low, high, levels = greys
    number = np.result_type(image.dtype, np.float32)
    out = np.empty([-(-n // f) for n, f in zip(image.shape, factors, strict=True)], np.uint8)
    for n, into in enumerate(out):
        slab = image[n * factors[0] : (n + 1) * factors[0]].astype(number)
        if not np.isfinite(slab).all():
            slab = np.nan_to_num(slab, nan=low, posinf=high, neginf=low)
        mean = slab[0] if len(slab) == 1 else slab.mean(axis=0)
        for axis, factor in enumerate(factors[1:]):
            mean = _averaged(mean, factor, axis)
        mean = (mean.clip(low, high) - low) * ((levels - 1) / (high - low))
        into[...] = np.rint(mean, out=mean)
    return out


def _averaged(plane: Image, factor: int, axis: int) -> Image:
    """Means of every `factor` elements along an axis; the last of what is left."""
    if factor == 1:
        return plane
    starts = np.arange(0, plane.shape[axis], factor)
    counts = np.diff(np.append(starts, plane.shape[axis]))
    total: Image = np.add.reduceat(plane, starts, axis=axis)
    return total / (counts[:, None] if axis == 0 else counts)


def _differences(array: Image) -> bytes:
    """Differences along K modulo 256, compressed: of a noisy scan a tenth smaller than its greys."""
    steps = np.empty_like(array)
    np.subtract(array.ravel()[1:], array.ravel()[:-1], out=steps.ravel()[1:])
    steps[..., 0] = array[..., 0]
    return _packed(steps, zlib.Z_RLE)


def _packed(array: Image, strategy: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return packer.compress(array.data) + packer.flush()
