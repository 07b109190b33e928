"""The coarse stage of a cascade: what it finds in the whole scan, as channels of the fine stage's network.

A network that sees a part of a scan at full resolution cannot know what decides a structure's name outside
that part. A coarse stage sees the whole scan in long voxels; the fine stage is given its probabilities
beside the image (nnU-Net's 3d_lowres and 3d_cascade_fullres, which hand over labels: Isensee et al. 2021,
doi:10.1038/s41592-020-01008-z). They are made here, for training and prediction alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medseg.core.volume import Volume
from medseg.inference import planner
from medseg.inference.predictor import Predictor
from medseg.model.spec import ModelSpec
from medseg.preparation.preparation import Preparation, Prepared
from medseg.preparation.resample import resample

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CascadePreparation(Preparation):
    """Prepares a scan for the fine stage: the images, and behind them a channel for each structure.

    Attributes:
        coarse: the coarse stage, which crops as the fine stage does.
        predictor: runs it.
        max_memory: bytes that this process may use; None takes most of what is free.
    """

    coarse: ModelSpec
    predictor: Predictor
    max_memory: int | None = None

    def apply(self, volume: Volume) -> Prepared:
        """As `Preparation.apply`; the last channels are probabilities in [0, 1], one a structure."""
        prepared = super().apply(volume)
        seen = Preparation(self.coarse.preparation).apply(volume)
        return replace(prepared, array=self._joined(prepared.array, seen.array, prepared.oriented_shape))

    def mirrored(self, volume: Volume, prepared: Prepared) -> FloatArray:
        """As `Preparation.mirrored`; the coarse stage looks at the mirrored scan too."""
        images = prepared.array[: len(volume.channels), ::-1]
        seen = Preparation(self.coarse.preparation).apply(volume)
        return self._joined(images, np.ascontiguousarray(seen.array[:, ::-1]), prepared.oriented_shape)

    def _joined(self, images: FloatArray, seen: FloatArray, scan_shape: tuple[int, int, int]) -> FloatArray:
        """Images (C, i, j, k) and the probability of each structure on their grid, in one array.

        Both stages see the same box of the world, so that the grids fill the same box.
        """
        shape = seen.shape[1], seen.shape[2], seen.shape[3]
        room = planner.room(self.max_memory)
        fitted = planner.with_tiles_that_fit(
            self.predictor, self.coarse, shape, scan_shape, room, self.max_memory
        )
        found = fitted.probabilities(seen)[-len(self.coarse.structures) :]
        joined = np.empty((len(images) + len(found), *images.shape[1:]), np.float32)
        joined[: len(images)] = images
        i, j, k = images.shape[1:]
        joined[len(images) :] = resample(found, (i, j, k))
        return joined
