"""Axes along which scans look like mirror images, as heads do from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 24
"""Voxels along each axis of a thumbnail."""

LEAST_LIKENESS = 0.5
"""Correlation of a scan and its mirror image below which they are not alike."""

LONE_LIKENESS = 0.8
"""Correlation of two patients' scans that is assumed where there is one patient."""

TOLERANCE = 0.05
"""By which another's mirror image may be less like a scan than the other is."""

MOST_SCANS = 16
"""Scans that are compared with one another; more would not change a median by much."""

CLEAR = 0.5
"""Part of their spreads by which the centres of two structures are at least apart, for one to be beside the
other rather than around it."""

NEARLY_ALL = 0.9
"""Share of the patients with both structures in which one is on the same side of the other."""

ENOUGH = 5
"""Patients with both structures that it takes to say so; all, where there are fewer."""

MIDDLE = "the middle"
"""What a structure can be on one side of, beside the others."""

Thumbnail = NDArray[np.float32]
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """Where a structure is along each axis, as shares of the scan's extent.

    Attributes:
        centre: the mean of its voxels.
        spread: their standard deviation.
    """

    centre: Shares
    spread: Shares


def place(mask: NDArray[np.bool_], start: Sequence[int], extent: Sequence[int]) -> Place:
    """Where a structure is.

    Args:
        mask: of its voxels (I, J, K), in a box around it.
        start: first voxel of that box along each axis, counted from the scan's first.
        extent: voxels of the scan along each axis.
    """
    centres, spreads = [], []
    for axis, (first, size) in enumerate(zip(start, extent, strict=True)):
        weights = mask.sum(axis=tuple({0, 1, 2} - {axis}))
        at = (first + np.arange(len(weights)) + 0.5) / size
        centre = float(np.average(at, weights=weights))
        centres.append(centre)
        spreads.append(float(np.sqrt(np.average((at - centre) ** 2, weights=weights))))
    return Place((centres[0], centres[1], centres[2]), (spreads[0], spreads[1], spreads[2]))


def one_sided(places: Sequence[Mapping[str, Place]], axis: int) -> tuple[str, str] | None:
    """A structure that nearly always lies on one side of another, or of the middle: no mirror image does.

    Args:
        places: of the structures of different patients, by name.
        axis: along which they are compared.

    Returns:
        Their names, `MIDDLE` for the middle; None where there are none.
    """
    names = [MIDDLE, *dict.fromkeys(name for held in places for name in held)]
    centres = np.full((len(places), len(names)), np.nan)
    spreads = centres.copy()
    centres[:, 0], spreads[:, 0] = 0.5, 0.0
    for row, held in enumerate(places):
        for name, there in held.items():
            column = names.index(name)
            centres[row, column], spreads[row, column] = there.centre[axis], there.spread[axis]
    for first in range(len(names)):
        apart = centres[:, first + 1 :] - centres[:, first : first + 1]
        clear = CLEAR * (spreads[:, first + 1 :] + spreads[:, first : first + 1])
        known = np.isfinite(apart).sum(axis=0)
        most = np.maximum((apart > clear).sum(axis=0), (apart < -clear).sum(axis=0))
        found = (known >= min(len(places), ENOUGH)) & (most >= NEARLY_ALL * known)
        if found.any():
            return names[first + 1 + int(found.argmax())], names[first]
    return None


def thumbnail(channel: NDArray[Any]) -> Thumbnail:
    """A scan (I, J, K) in few voxels (SIDE, SIDE, SIDE), its outliers clipped, of mean 0 and norm 1."""
    steps = tuple(slice(None, None, max(1, n // (2 * SIDE))) for n in channel.shape)
    few = channel[steps].astype(np.float32)
    few = ndimage.zoom(few, [SIDE / n for n in few.shape], order=1, grid_mode=True, mode="nearest")
    few = np.clip(few, *np.percentile(few, [0.5, 99.5]))
    few -= few.mean()
    norm = float(np.linalg.norm(few))
    return few / norm if norm > 0 else few


def mirror_axes(scans: Sequence[Thumbnail]) -> tuple[int, ...]:
    """Axes along which a mirrored scan could be another patient's.

    Likeness is the correlation of voxels, a median over scans or pairs of them. A scan must be as like its
    own mirror image as it is like another patient's scan, and as like another's mirror image.

    Args:
        scans: thumbnails of different patients.
    """
    some = scans[:MOST_SCANS]
    pairs = list(combinations(some, 2))
    others = _likeness(pairs) if pairs else LONE_LIKENESS
    found = []
    for axis in range(3):
        own = _likeness([(a, np.flip(a, axis)) for a in some])
        crossed = _likeness([(a, np.flip(b, axis)) for a, b in pairs]) if pairs else others
        if own >= max(others, LEAST_LIKENESS) and others - crossed <= TOLERANCE:
            found.append(axis)
    return tuple(found)


def _likeness(pairs: Sequence[tuple[Thumbnail, Thumbnail]]) -> float:
    return float(np.median([float((a * b).sum()) for a, b in pairs]))
