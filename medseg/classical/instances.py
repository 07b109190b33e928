"""Instances of a mask: its connected components, or these cut where they are thin.

References:
    Meyer 1994, Topographic distance and watershed lines, doi:10.1016/0165-1684(94)90060-4;
    Soille 2003, Morphological Image Analysis, sections 6.3.4 (h-maxima) and 9.2.2 (touching objects).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import bounding_box, label_boxes
from medseg.core.components import components

Numbers = NDArray[np.uint32]


def separated(mask: NDArray[np.bool_], spacing_mm: Sequence[float], depth_mm: float | None = None) -> Numbers:
    """Number the instances of a mask from 1, the largest first; 0 in the background.

    Args:
        mask: (I, J, K).
        spacing_mm: of its voxels.
        depth_mm: cut a component where it is thinner, by this at least, than on both sides: the radius of the
            largest ball within falls by so much between the two. None leaves components whole.
    """
    numbers = np.zeros(mask.shape, np.uint32)
    box = bounding_box(mask)
    if box is not None:
        numbers[box] = _largest_first(_parts(mask[box], spacing_mm, depth_mm))
    return numbers


def _parts(mask: NDArray[np.bool_], spacing_mm: Sequence[float], depth_mm: float | None) -> Numbers:
    """Numbers of components, or of what they were cut into."""
    pieces = components(mask).astype(np.uint32)
    if depth_mm is not None:
        boxes = label_boxes(pieces, range(1, int(pieces.max(initial=0)) + 1))
        free = len(boxes) + 1
        for number, box in boxes.items():
            parts = _cut(pieces[box] == number, spacing_mm, depth_mm)
            further = parts > 1
            pieces[box][further] = parts[further] + np.uint32(free - 2)
            free += int(parts.max()) - 1
    return pieces


def _cut(mask: NDArray[np.bool_], spacing_mm: Sequence[float], depth_mm: float) -> Numbers:
    """The parts of one component, from 1."""
    from scipy import ndimage  # slow to import
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    inside = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    flooded = reconstruction(depth - depth_mm, depth, footprint=np.ones((3, 3, 3)))
    seeds = components(local_maxima(flooded, connectivity=3) & inside)
    parts = watershed(-depth, seeds, mask=inside) if seeds.max() > 1 else inside
    return np.asarray(parts[1:-1, 1:-1, 1:-1], dtype=np.uint32)


def _largest_first(numbers: Numbers) -> Numbers:
    """The same instances, renumbered by their size; equal ones keep their order."""
    sizes = np.bincount(numbers.ravel())
    order = 1 + np.argsort(-sizes[1:], kind="stable")
    renumbered = np.zeros(len(sizes), np.uint32)
    renumbered[order] = np.arange(1, len(sizes), dtype=np.uint32)
    return renumbered[numbers]
