"""Axes along which scans look like mirror images, as heads do from left to right."""

from __future__ import annotations

from collections.abc import Sequence
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

Thumbnail = NDArray[np.float32]


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
