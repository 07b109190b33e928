"""Features of a scan and its segmentation, to compare it with the calibration cases.

The names are words that a sentence can hold. Lengths and volumes come as logarithms, so that twice and half
are equally far; places in mm from the middle of all that was found, so that the position in the scanner does
not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Slices, centroid, faces_reached, profiles
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid

MOST_VOXELS = 2_000_000
"""More are looked at in steps."""

BLOCK = 4
"""Voxels of a side of a region whose mean brightness is looked at: small enough for a small tumour."""

AXES = ("right to left", "front to back", "top to bottom")
"""What the axes of a scan in canonical order run along, whichever way."""

EXTREMES = {"darkest voxels": 0.1, "median": 50.0, "brightest voxels": 99.9}
"""Percentiles of the intensities the network is given."""

Features = dict[str, float]


def features_of(
    prepared: NDArray[np.float32],
    seen: NDArray[np.integer],
    labels: NDArray[np.integer],
    grid: Grid,
    structures: StructureSet,
    channels: Sequence[str],
    estimated_dice: Mapping[str, float],
) -> Features:
    """All of them.

    Args:
        prepared: what the network was given, (C, i, j, k).
        seen: label values on its grid.
        labels: label values on the scan's, in canonical axis order.
        grid: of `labels`.
        structures: what the values mean.
        channels: names of the C.
        estimated_dice: what the model's own probabilities promise for each structure.
    """
    return {
        **image_features(prepared, channels),
        **brightness_features(prepared, seen, structures, channels),
        **shape_features(labels, grid, structures),
        **{f"confidence in {name}": value for name, value in estimated_dice.items()},
    }


def image_features(image: NDArray[np.float32], channels: Sequence[str]) -> Features:
    """Intensities, sharpness and noise of a prepared scan (C, i, j, k), one set a channel."""
    out: Features = {}
    for name, channel in zip(channels, image, strict=True):
        whose = f" of {name}" if len(channels) > 1 else ""
        out |= {f"{what}{whose}": value for what, value in _of_channel(channel)}
    return out


def _of_channel(channel: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    sparse = channel[_steps(channel.shape)]
    yield from zip(EXTREMES, np.percentile(sparse, list(EXTREMES.values())).tolist(), strict=True)
    means = _block_means(channel)
    yield "darkest region", float(means.min())
    yield "brightest region", float(means.max())
    spread = float(sparse.std()) or 1.0
    edges, grain = [], []
    for axis in (a for a in range(3) if channel.shape[a] > 2):
        lines = np.moveaxis(channel, axis, 0)
        lines = lines[(slice(None), *_steps(lines.shape)[1:])]
        first = np.diff(lines, axis=0)
        edges.append(float(np.abs(first).mean()))
        grain.append(_median(np.abs(np.diff(first, axis=0)).ravel()))
    if edges:
        yield "sharpness", _log(float(np.mean(edges)) / spread)
        yield "noise", _log(float(np.mean(grain)) / spread)


def _median(values: NDArray[np.float32]) -> float:
    """What `numpy.median` gives, bit for bit, where every value is a number; in half its time."""
    middle = values.size // 2
    ordered = np.partition(values, middle)
    upper = ordered[middle]
    return float(upper if values.size % 2 else (ordered[:middle].max() + upper) / np.float32(2))


def _block_means(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of blocks of `BLOCK` voxels a side, or of as many as an axis has; the rest is left out."""
    size = [min(BLOCK, n) for n in channel.shape]
    whole = channel[tuple(slice(0, n - n % b) for n, b in zip(channel.shape, size, strict=True))]
    split = [part for n, b in zip(whole.shape, size, strict=True) for part in (n // b, b)]
    return np.asarray(whole.reshape(split).mean(axis=(1, 3, 5)))


def brightness_features(
    image: NDArray[np.float32], labels: NDArray[np.integer], structures: StructureSet, channels: Sequence[str]
) -> Features:
    """Mean and standard deviation of the prepared intensities in every structure that was found.

    Args:
        image: prepared scan (C, i, j, k).
        labels: label values on its grid, (i, j, k).
        structures: what the values mean.
        channels: names of the C.
    """
    steps = _steps(labels.shape)
    sparse = labels[steps]
    flat = sparse.ravel()
    voxels = np.bincount(flat, minlength=int(max(structures.known_values)) + 1)
    out: Features = {}
    for name, channel in zip(channels, image, strict=True):
        whose = f" in {name}" if len(channels) > 1 else ""
        values = channel[steps].ravel().astype(np.float64)
        total, squares = (np.bincount(flat, v, minlength=voxels.size) for v in (values, values * values))
        for structure in structures:
            own = list(structure.label_values)
            n = int(voxels[own].sum())
            if n:
                mean = total[own].sum() / n
                out[f"brightness of {structure.name}{whose}"] = float(mean)
                out[f"texture of {structure.name}{whose}"] = _log(
                    math.sqrt(max(0.0, squares[own].sum() / n - mean**2))
                )
    return out


def shape_features(labels: NDArray[np.integer], grid: Grid, structures: StructureSet) -> Features:
    """Volume, extent and place of every structure that was found.

    Args:
        labels: label values in canonical axis order, (i, j, k).
        grid: of `labels`.
        structures: what the values mean.
    """
    steps = _steps(labels.shape)
    sparse = labels[steps]
    thin = Grid(sparse.shape, grid.affine @ np.diag([*(step.step for step in steps), 1]))
    boxes = structures.boxes(sparse)
    masks = {name: structures.mask(sparse[box], structures[name]) for name, box in boxes.items()}
    found = {name: _form(mask, boxes[name], thin) for name, mask in masks.items()}
    middle = np.mean([f.place_mm for f in found.values()], axis=0) if found else np.zeros(3)
    out: Features = {}
    for name, form in found.items():
        out[f"volume of {name}"] = _log(form.ml)
        out[f"contact of {name} with the edge of the scan"] = form.contact
        for axis, size, place in zip(AXES, form.size_mm, form.place_mm - middle, strict=True):
            out[f"extent of {name} ({axis})"] = _log(size)
            if len(found) > 1:
                out[f"place of {name} ({axis})"] = float(place)
    return out


@dataclass(frozen=True, eq=False)
class _Form:
    """Volume, extent and centre of one structure.

    `contact` is its area on the faces of the scan over the area of a face of a cube of its volume.
    """

    ml: float
    size_mm: NDArray[np.float64]
    place_mm: NDArray[np.float64]
    contact: float


def _form(mask: NDArray[np.bool_], box: Slices, grid: Grid) -> _Form:
    """Of a structure's mask, cut out to a box of a grid."""
    spacing, voxel_mm3 = np.asarray(grid.spacing_mm), grid.voxel_volume_mm3
    along = profiles(mask)
    centre = np.array(centroid(along)) + [s.start for s in box]
    voxels = int(mask.sum())
    ends = [(along[a][end], voxel_mm3 / spacing[a]) for a, end in faces_reached(box, grid.shape)]
    contact = sum(float(n) * mm2 for n, mm2 in ends) / (voxels * voxel_mm3) ** (2 / 3)
    return _Form(grid.volume_ml(voxels), np.array(mask.shape) * spacing, centre * spacing, contact)


def _steps(shape: Sequence[int]) -> tuple[slice, ...]:
    step = max(1, math.ceil((math.prod(shape) / MOST_VOXELS) ** (1 / 3)))
    return tuple(slice(None, None, step if n > 1 else 1) for n in shape)


def _log(value: float) -> float:
    return math.log(max(float(value), 1e-6))
