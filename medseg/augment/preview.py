"""Previews of augmentation on one scan; NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.augment import published
from medseg.augment.compose import Augmenter, Params
from medseg.augment.contrast import ContrastParams
from medseg.augment.spec import AugmentSpec
from medseg.core.structures import StructureSet


@dataclass(frozen=True, eq=False)
class Drawn:
    """An augmented patch.

    Attributes:
        params: what was drawn.
        image: (C, i, j, k) float32.
        labels: label indices (i, j, k) uint8.
        positions_voxels: which voxel of the scan each was read at, (3, i, j, k), kept to the scan.
    """

    params: Params
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    positions_voxels: NDArray[np.float32]


class Preview:
    """Draws changes of one patch of one scan.

    Args:
        what: a recipe's section, or the name of a deformation as published, which is then always applied.
        structures: what the label indices mean.
        image: (C, I, J, K) float32, prepared.
        labels: label indices (I, J, K) uint8.
        spacing_mm: voxel size.
        start: first voxel of the patch.
        shape: its voxels.

    Raises:
        UsageError: as `Augmenter` raises.
    """

    def __init__(
        self,
        what: AugmentSpec | str,
        structures: StructureSet,
        image: NDArray[np.float32],
        labels: NDArray[np.uint8],
        *,
        spacing_mm: tuple[float, float, float],
        start: Sequence[int],
        shape: Sequence[int],
    ) -> None:
        self.what = what
        spec = AugmentSpec(elastic=what) if isinstance(what, str) else what
        self.augmenter = Augmenter(spec, structures, spacing_mm)
        self.image, self.labels = torch.from_numpy(image), torch.from_numpy(labels)
        self.centre = [s + (n - 1) / 2 for s, n in zip(start, shape, strict=True)]
        self.shape = tuple(shape)

    def draws(self, count: int, seed: int) -> Iterator[Drawn]:
        """The patch as it is, then `count` draws; the first few are the same however many there are."""
        generator = torch.Generator().manual_seed(seed)
        yield self._applied(Params())
        for _ in range(count):
            yield self._applied(self._sampled(generator))

    def _sampled(self, generator: torch.Generator) -> Params:
        if isinstance(self.what, str):
            spacing_mm = self.augmenter.spacing_mm
            return Params(elastic=published.sample(self.what, generator, self.shape, spacing_mm))
        return self.augmenter.sample(generator, self.shape, len(self.image))

    def _applied(self, params: Params) -> Drawn:
        image, labels = self.augmenter.apply(params, self.image, self.labels, self.centre, self.shape)
        moves = replace(params, contrast=ContrastParams())
        axes = [torch.arange(n, dtype=torch.float32) for n in self.labels.shape]
        everywhere = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        positions, _ = self.augmenter.apply(moves, everywhere, None, self.centre, self.shape)
        return Drawn(params, _plain(image), _plain(labels), _plain(positions))


def _plain(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.numpy()
    return array
