"""Instances: the single lesions, nodules or vertebrae of which a structure has several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Box, Triple, label_boxes, middle_voxel
from medseg.core.structures import Structure
from medseg.core.volume import FileForm, Grid, LabelMap

FEW_POINTS = 500
"""Points whose distances are all computed; of more, only those of their convex hull."""


@dataclass(frozen=True)
class Instance:
    """One object of a structure.

    Attributes:
        number: its value in the map of instances, from 1.
        value, structure: value and name of the structure.
        box: of its voxels.
        middle: the voxel to show it at, see `middle_voxel`.
        voxels, volume_ml: how large it is.
        longest_mm: between the two corners of its voxels that lie farthest apart; on a grid of one slice, in
            the plane.
        score: how sure a detector is, in [0, 1]; None where no detector found it.
    """

    number: int
    value: int
    structure: str
    box: Box
    middle: Triple
    voxels: int
    volume_ml: float
    longest_mm: float
    score: float | None = None

    def box_mm(self, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Where its box begins and ends, in mm along the axes of the array, from the edge of voxel 0."""
        ends = (self.box.start, self.box.stop)
        low, high = (tuple(n * side for n, side in zip(end, grid.spacing_mm, strict=True)) for end in ends)
        return low, high


@dataclass(frozen=True, eq=False)
class InstanceMap:
    """The instances of a scan.

    Attributes:
        labels: the number of each voxel's instance, 0 where there is none.
        items: the instances, in the order of their numbers.
    """

    labels: LabelMap
    items: tuple[Instance, ...]

    def __len__(self) -> int:
        return len(self.items)


def instance_map(
    numbers: NDArray[np.integer[Any]],
    owners: Mapping[int, Structure],
    grid: Grid,
    form: FileForm | None = None,
    scores: Mapping[int, float] | None = None,
) -> InstanceMap:
    """Measure numbered instances.

    Args:
        numbers: (I, J, K), of each voxel's instance; 0 in the background.
        owners: the structure of each number; a number without a voxel is left out.
        grid: of the voxels.
        form: of the file that the scan came from.
        scores: of those that a detector found.
    """
    boxes = label_boxes(numbers, owners)
    flat = tuple(axis for axis, n in enumerate(grid.shape) if n == 1)
    items = []
    for number in sorted(boxes):
        box = Box.of(boxes[number])
        mask = numbers[box.slices] == number
        i, j, k = (start + n for start, n in zip(box.start, middle_voxel(mask), strict=True))
        voxels = int(np.count_nonzero(mask))
        items.append(
            Instance(
                number,
                owners[number].value,
                owners[number].name,
                box,
                (i, j, k),
                voxels,
                grid.volume_ml(voxels),
                longest_mm(mask, grid.affine[:3, :3], flat),
                None if scores is None else scores.get(number),
            )
        )
    return InstanceMap(LabelMap(numbers, grid, form or FileForm()), tuple(items))


def longest_mm(mask: NDArray[np.bool_], to_mm: NDArray[np.floating[Any]], flat: Sequence[int] = ()) -> float:
    """The largest distance between two corners of the voxels of a mask.

    Args:
        mask: (I, J, K), with a voxel at least.
        to_mm: 3x3, from steps of voxels to mm.
        flat: axes along which a voxel has no length.

    >>> longest_mm(np.ones((3, 4, 1), bool), np.eye(3), flat=[2])
    5.0
    """
    rows = mask.any(axis=2)
    first, last = mask.argmax(axis=2)[rows], mask.shape[2] - mask[:, :, ::-1].argmax(axis=2)[rows]
    i, j = np.nonzero(rows)
    ends = np.concatenate([
        np.stack((i + a, j + b, end), axis=1) for a, b in product((0, 1), repeat=2) for end in (first, last)
    ])  # fmt: skip
    ends[:, list(flat)] = 0
    points = np.unique(ends, axis=0)
    if len(points) > FEW_POINTS:
        from scipy.spatial import ConvexHull  # slow to import

        solid = [axis for axis in range(3) if axis not in flat]
        points = points[ConvexHull(points[:, solid]).vertices]
    placed = points @ np.asarray(to_mm, dtype=np.float64).T
    squared = (placed**2).sum(axis=1)
    between = squared[:, None] + squared[None] - 2 * placed @ placed.T
    return float(np.sqrt(max(0.0, float(between.max()))))
