"""Cases of a dataset that has label maps and no images: scans are made from the maps."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.augment.spec import SynthesisSpec
from medseg.augment.synthesis import Synthesiser, TissueTable, whole_scan
from medseg.core.boxes import bounding_box, relative, widened
from medseg.core.errors import InputError
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.cards import Card
from medseg.data.layouts import CaseFiles
from medseg.io import read_labels
from medseg.model.evidence import SpacingRange
from medseg.preparation.orient import canonical

FINEST_MM = 0.5
"""Voxels as fine as these are seen as well as any, for they are averaged first."""

MARGIN_MM = 24.0
"""Air kept around a head."""


@dataclass(frozen=True)
class SyntheticCases:
    """Label maps as training material, and scans made from them as cases to measure on.

    Args:
        card: of the dataset.
        spec: how scans are made.
        seed: with the name of a case, decides the scan that is made of it.
        acquired_mm: voxel size of the scanner; None draws one.
    """

    card: Card
    spec: SynthesisSpec
    seed: int = 0
    acquired_mm: tuple[float, float, float] | None = None

    @property
    def table(self) -> TissueTable:
        return TissueTable(self.card.tissues, self.card.structure_set)

    def synthesiser(self, spacing_mm: tuple[float, float, float]) -> Synthesiser:
        """What makes the scans of a training, from maps of 1 mm at another voxel size."""
        return Synthesiser(self.spec, self.table, spacing_mm)

    def read(self, files: CaseFiles) -> tuple[Volume, LabelMap]:
        """A scan of the map's own, whole anatomy at its own voxel size, and its labels."""
        indices, grid = self._head(files)
        seed = zlib.crc32(f"{self.seed} {files.case_id}".encode())
        image, target = whole_scan(self.spec, self.table, indices, grid.spacing_mm, seed, self.acquired_mm)
        values = np.asarray(self.card.structure_set.index_values)
        smallest = np.min_scalar_type(int(values.max()))
        labels = values.astype(smallest)[target]
        return Volume(image, grid, self.card.channels), LabelMap(labels, grid)

    def generation_map(self, files: CaseFiles) -> NDArray[np.uint8]:
        """A map's generation indices (I, J, K) in voxels of 1 mm, from which a scan is made at every step.

        Raises:
            InputError: the map's voxels are not of 1 mm.
        """
        indices, grid = self._head(files)
        self.require_one_mm(grid, files)
        return indices

    def require_one_mm(self, grid: Grid, files: CaseFiles) -> None:
        """Refuse a map that no scan can be made from at every step.

        Raises:
            InputError: its voxels are not of 1 mm.
        """
        sides = canonical(grid).grid(grid).spacing_mm
        if not np.allclose(sides, 1.0, atol=0.01):
            raise InputError(
                f"has voxels of {' x '.join(f'{mm:.3g}' for mm in sides)} mm, but label maps need 1 mm",
                source=files.image,
                hint="resample it to 1 mm",
            )

    @property
    def spacing_range(self) -> SpacingRange:
        """Voxel sizes that are simulated, sorted: finer ones than the network's own are averaged into it."""
        pixel, thick = self.spec.voxel_mm[1], self.spec.slice_mm[1]
        return SpacingRange((FINEST_MM,) * 3, (pixel, pixel, max(pixel, thick)))

    def _head(self, files: CaseFiles) -> tuple[NDArray[np.uint8], Grid]:
        """Generation indices (I, J, K) uint8 in RAS+ order, cut to the head and some air around it.

        Raises:
            InputError: the map is empty, or holds a value that no tissue has.
        """
        labels = read_labels(files.image, options=files.reading.of_labels())
        reorientation = canonical(labels.grid)
        grid = reorientation.grid(labels.grid)
        indices = self.table.encode(np.ascontiguousarray(reorientation.forward(labels.array)))
        box = bounding_box(indices)
        if box is None:
            raise InputError("contains no label", source=files.image)
        room = [math.ceil(MARGIN_MM / mm) for mm in grid.spacing_mm]
        wanted = tuple(slice(s.start - r, s.stop + r) for s, r in zip(box, room, strict=True))
        there = widened(box, room, indices.shape)
        padded = np.zeros([s.stop - s.start for s in wanted], dtype=np.uint8)
        padded[relative(there, wanted)] = indices[there]
        affine = grid.affine.copy()
        affine[:3, 3] += grid.affine[:3, :3] @ np.array([s.start for s in wanted])
        i, j, k = padded.shape
        return padded, Grid((i, j, k), affine)
