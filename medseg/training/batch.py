"""What a training is made of: prepared cases, and the patches of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from medseg.instances.objects import Objects, objects_of, sizes_of
from medseg.training.answers import Phase


@dataclass(frozen=True)
class TrainingCase:
    """One prepared case: image (C, I, J, K) float32, label indices (I, J, K) uint8.

    Of a label map that scans are made from, the image is empty and the indices are of tissues. A network that
    finds objects learns from codes instead, int32, see `instances.objects`.
    `unlabelled` are names of structures that are not labelled in it.
    """

    case_id: str
    image: Tensor
    labels: Tensor
    unlabelled: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Voxels of every object, by its code."""
        return sizes_of(self.labels)

    def objects_in(self, patch: Tensor) -> Objects:
        """The objects that codes of a patch show.

        Those of a slice are taken for whole, as it never holds most of an object of a volume.
        """
        return objects_of(patch, self.sizes if patch.ndim == 3 else {})


@dataclass(frozen=True)
class Batch:
    """What a step takes: images (B, C, *patch), label indices (B, *patch), the voxels to learn from.

    For a network that finds objects, also those of each patch.
    """

    case_ids: Sequence[str]
    images: Tensor
    labels: Tensor
    phase: Phase | None
    objects: Sequence[Objects] | None = None
