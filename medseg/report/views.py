"""Which slices to show: where the structures are, where they are small, where two label maps differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import affine as aff
from medseg.structures import StructureSet
from medseg.volume import Grid

Image = NDArray[Any]

CLOSEUP_BELOW = 0.65
"""A close-up is added when the structures span less than this share of every slice they are on."""
CLOSEUP_MARGIN_MM = 12.0
THIN_SHARE = 0.25
"""The central slice gives way to the fullest one when it holds less than this share of its voxels."""


@dataclass(frozen=True, eq=False)
class View:
    """One row of the figure: what to show, and the voxel its three slices pass through."""

    heading: str
    image: Image
    labels: Image
    reference: Image | None
    grid: Grid
    point: tuple[int, int, int]
    start: tuple[int, int, int]
    full_shape: tuple[int, int, int]


def find_views(
    image: Image,
    labels: Image,
    reference: Image | None,
    grid: Grid,
    structures: StructureSet,
    *,
    closeup: bool,
) -> list[View]:
    known = [v for v in structures.known_values if v]
    marked = np.isin(labels, known)
    differs = None
    if reference is not None:
        in_reference = np.isin(reference, known)
        differs = (marked | in_reference) & (labels != reference)
        marked = marked | in_reference
    heading = (
        "Through the centre of the structures" if marked.any() else "Nothing labelled: centre of the scan"
    )
    whole = View(heading, image, labels, reference, grid, _centre(marked), (0, 0, 0), grid.shape)
    box = _box(marked, grid)
    small = box is not None and closeup and _is_small(box, grid.shape)
    rows = [whole]
    if small and box is not None:
        rows.append(_cropped(replace(whole, heading="Close-up of the same slices"), box))
    if differs is not None and differs.any():
        worst = replace(whole, heading="Where prediction and reference differ most", point=_fullest(differs))
        rows.append(_cropped(worst, box) if small and box is not None else worst)
    return rows


def _along(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Voxels of a mask in each slice across I, J, K."""
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        yield np.count_nonzero(mask, axis=others)


def _centre(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    if not mask.any():
        return tuple(n // 2 for n in mask.shape)
    point = []
    for counts in _along(mask):
        centroid = round(float(np.average(np.arange(len(counts)), weights=counts)))
        thin = counts[centroid] < THIN_SHARE * counts.max()
        point.append(int(counts.argmax()) if thin else centroid)
    return tuple(point)  # type: ignore[return-value]


def _fullest(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    return tuple(int(counts.argmax()) for counts in _along(mask))  # type: ignore[return-value]


def _box(mask: NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice] | None:
    """Voxels around the mask, a margin in millimetres added."""
    if not mask.any():
        return None
    box = []
    for counts, spacing in zip(_along(mask), grid.spacing_mm, strict=True):
        inside = np.flatnonzero(counts)
        margin = max(2, round(CLOSEUP_MARGIN_MM / spacing))
        box.append(slice(max(0, int(inside[0]) - margin), min(len(counts), int(inside[-1]) + 1 + margin)))
    return tuple(box)  # type: ignore[return-value]


def _is_small(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    shares = [(s.stop - s.start) / n for s, n in zip(box, shape, strict=True) if n > 1]
    return bool(shares) and sorted(shares)[-1] < CLOSEUP_BELOW


def _cropped(view: View, box: tuple[slice, slice, slice]) -> View:
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
