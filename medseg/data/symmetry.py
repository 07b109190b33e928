"""Axes along which scans look like their own mirror images, as heads do from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 24
"""Voxels along each axis of a thumbnail."""

LONE_LIKENESS = 0.5
"""Correlation with another patient's scan that is assumed where there is none."""

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
    """Axes along which a scan and its mirror image are far more alike than two patients' scans are.

    Likeness is the correlation of voxels, a median over scans; that with the mirror image must lie in the
    upper half of what two patients' leaves up to 1.

    Args:
        scans: thumbnails of different patients.
    """
    some = scans[:MOST_SCANS]
    others = [float((a * b).sum()) for a, b in combinations(some, 2)]
    likeness = float(np.median(others)) if others else LONE_LIKENESS
    mirrored = [np.median([float((a * np.flip(a, axis)).sum()) for a in some]) for axis in range(3)]
    return tuple(axis for axis, own in enumerate(mirrored) if own >= (1.0 + likeness) / 2.0)
