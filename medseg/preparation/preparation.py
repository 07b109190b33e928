"""Preparation: everything done to a scan before the network, in order, and the way back.

    oriented -> cropped -> resampled -> normalised

The crop comes before the resampling: zero voxels are found where they were written, not where
interpolation smeared them, and only what is kept is resampled. For the same reason a scan whose
background does not count in its normalisation is normalised before it is resampled. Training and
prediction both come through here, so a scan is never prepared in two ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import checked_spacing
from medseg.core.boxes import Box, whole
from medseg.core.errors import GeometryError
from medseg.core.specs import left_out
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.preparation.crop import corner_values, foreground_box, object_box
from medseg.preparation.intensity import NormalisationSpec, background_of, check_intensities, normalise
from medseg.preparation.orient import Reorientation, canonical
from medseg.preparation.resample import resample, resample_labels, resampled_grid

T = TypeVar("T", bound=np.generic)

AS_IT_IS = (1.0, 1.0, 1.0)
OBJECT_MARGIN_MM = 10.0
"""Kept around what stands out from the faces of a scan."""


@dataclass(frozen=True)
class PreparationSpec:
    """Settings of the preparation of a scan.

    Attributes:
        spacing_mm: voxel size along right, anterior, superior to resample to; None keeps it.
        crop: "nonzero" cuts to the box of voxels where any channel is not zero; "foreground" to those where
            any differs from the value that all corners of the scan share, and nothing where they share none;
            "object" to what stands out from the faces of the scan, with 10 mm around it.
        normalisation: what is done to the intensities.
        enlarged: the scan is made so many times larger along these axes, for a prediction at several scales.

    Raises:
        UsageError: a spacing is not positive and finite.
    """

    spacing_mm: tuple[float, float, float] | None = None
    crop: Literal["none", "nonzero", "foreground", "object"] = "none"
    normalisation: NormalisationSpec = field(default_factory=NormalisationSpec)
    enlarged: tuple[float, float, float] = left_out(AS_IT_IS)

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            checked_spacing(self.spacing_mm)

    @property
    def normalises_first(self) -> bool:
        """Whether intensities are normalised before the scan is resampled, which smears its background."""
        return self.resamples and self.normalisation.region != "all"

    @property
    def resamples(self) -> bool:
        """Whether voxels may get another size."""
        return self.spacing_mm is not None or self.enlarged != AS_IT_IS

    def spacing_for(self, grid: Grid) -> tuple[float, float, float]:
        """Voxel size in mm that a scan on a grid in RAS+ order is resampled to."""
        i, j, k = (mm / n for mm, n in zip(self.spacing_mm or grid.spacing_mm, self.enlarged, strict=True))
        return i, j, k


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared scan, with the inverse to its own grid.

    Attributes:
        array: (C, i, j, k) float32, contiguous.
        grid: the grid of `array`, RAS+.
        oriented_grid: the input's grid with its axes in RAS+ order.
        box: what was kept of it.
        reorientation: from the file's axis order to RAS+.
    """

    array: NDArray[np.float32]
    grid: Grid
    oriented_grid: Grid
    box: Box
    reorientation: Reorientation

    @property
    def oriented_shape(self) -> tuple[int, int, int]:
        """Sizes (I, J, K) of the input's grid in RAS+ order."""
        return self.oriented_grid.shape

    def restore(
        self, probabilities: NDArray[np.float32], rows: slice | None = None, *, background: bool
    ) -> NDArray[np.float32]:
        """Probabilities on the input's grid in RAS+ order, one slab at a time.

        Slabs, however they are cut, join to exactly the whole; only the slab is allocated. Where
        nothing was resampled the values come back bit for bit.

        Args:
            probabilities: (K, i, j, k) on `grid`.
            rows: which rows of the oriented grid's first axis; all by default.
            background: channel 0 is the background of a softmax, so it is 1 outside the crop;
                without it all channels are 0 there.

        Returns:
            (K, rows, J, K), newly allocated.

        Raises:
            GeometryError: the probabilities do not have the shape of `grid`.
        """
        if probabilities.shape[1:] != self.grid.shape:
            raise GeometryError(
                f"the probabilities have the shape {probabilities.shape[1:]}, but the prepared grid has "
                f"{self.grid.shape}"
            )
        first, last, _ = (rows or slice(None)).indices(self.oriented_shape[0])
        inside = slice(max(first, self.box.start[0]), min(last, self.box.stop[0]))
        wanted = slice(inside.start - self.box.start[0], max(inside.start, inside.stop) - self.box.start[0])
        if self.box.shape == self.oriented_shape:
            return resample(probabilities, self.box.shape, wanted)
        slab = np.zeros((len(probabilities), max(0, last - first), *self.oriented_shape[1:]), np.float32)
        if background:
            slab[0] = 1.0
        if inside.start < inside.stop:
            kept = (slice(inside.start - first, inside.stop - first), *self.box.slices[1:])
            slab[(slice(None), *kept)] = resample(probabilities, self.box.shape, wanted)
        return slab

    def to_input(self, labels: NDArray[T]) -> NDArray[T]:
        """Array (I, J, K) in RAS+ order, as a contiguous array in the file's own axis order.

        Raises:
            GeometryError: the array does not have the shape of the oriented grid.
        """
        if labels.shape != self.oriented_shape:
            raise GeometryError(
                f"the labels have the shape {labels.shape}, but the oriented scan has {self.oriented_shape}"
            )
        return np.ascontiguousarray(self.reorientation.backward(labels))


@dataclass(frozen=True)
class Preparation:
    """The steps of a `PreparationSpec`, applied.

    All 48 ways to store one scan give bit-identical prepared arrays: axes are put in order, in
    memory too, before any arithmetic.
    """

    spec: PreparationSpec = field(default_factory=PreparationSpec)

    def apply(self, volume: Volume) -> Prepared:
        """Prepare a scan.

        Raises:
            InputError: a voxel is not finite, or a channel has nothing but one value.
            ResourceError: the spacing asks for an absurd number of voxels.
        """
        reorientation = canonical(volume.grid)
        oriented_grid = reorientation.grid(volume.grid)
        oriented = reorientation.forward(volume.array)
        check_intensities(oriented, volume.channels)
        box = self._box(oriented, oriented_grid)
        array = np.ascontiguousarray(oriented[(..., *box.slices)])
        grid = box.grid(oriented_grid)
        settings = self.spec.normalisation
        background = background_of(oriented, settings)
        if self.spec.resamples:
            check_intensities(array, volume.channels)
            grid = resampled_grid(grid, self.spec.spacing_for(grid))
        if self.spec.normalises_first:
            array = normalise(array, settings, volume.channels, background)
        if array.shape[1:] != grid.shape:
            array = resample(array, grid.shape)
        if not self.spec.normalises_first:
            array = normalise(array, settings, volume.channels, background)
        return Prepared(array, grid, oriented_grid, box, reorientation)

    def mirrored(self, volume: Volume, prepared: Prepared) -> NDArray[np.float32]:
        """What the network would be given of the scan with left and right exchanged, (C, i, j, k).

        Args:
            volume: the scan.
            prepared: from it.
        """
        return np.ascontiguousarray(prepared.array[:, ::-1])

    def _box(self, oriented: NDArray[np.generic], grid: Grid) -> Box:
        """What is kept of a scan (C, I, J, K)."""
        if self.spec.crop == "none":
            i, j, k = oriented.shape[1:]
            return whole((i, j, k))
        if self.spec.crop == "object":
            return object_box(oriented, [math.ceil(OBJECT_MARGIN_MM / mm) for mm in grid.spacing_mm])
        background = corner_values(oriented) if self.spec.crop == "foreground" else ()
        return foreground_box(oriented, background=background)

    def apply_labels(self, labels: LabelMap, prepared: Prepared) -> NDArray[np.integer]:
        """A scan's labels on the grid it was prepared to, for training.

        Returns:
            (i, j, k) in the dataset's own values, contiguous, newly allocated.

        Raises:
            GridMismatchError: the labels do not have the scan's grid (in any axis order).
        """
        reorientation = canonical(labels.grid)
        prepared.oriented_grid.require(reorientation.grid(labels.grid), "image and labels")
        oriented = np.ascontiguousarray(reorientation.forward(labels.array)[prepared.box.slices])
        return resample_labels(oriented, prepared.grid.shape)
