"""What a training and a prediction ask of a network that finds objects beside its label map."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from medseg.instances.heads import Dense
from medseg.instances.one_stage import Choice


class Instance(NamedTuple):
    """An object that was found in a patch: box (2n,) in its voxels, class from 0, score, and mask (*bins)."""

    box: Tensor
    label: int
    score: float
    mask: Tensor


class Outputs(NamedTuple):
    """What all heads say of a batch.

    Attributes:
        semantic: logits of the structures (B, K + 1, *S).
        dense: of each level of the pyramid.
        bases: the maps of which masks are mixtures (B, count, *S / stride).
    """

    semantic: Tensor
    dense: list[Dense]
    bases: Tensor

    def float(self) -> Outputs:
        """The same numbers as float32, in which losses are taken."""
        dense = [level.float() for level in self.dense]
        return Outputs(self.semantic.float(), dense, self.bases.float())


@runtime_checkable
class Detecting(Protocol):
    """A network that finds objects; called as others are, it gives the label map's logits alone."""

    def outputs(self, x: Tensor) -> Outputs:
        """What all heads say of an image (B, C, *S)."""

    def loss(self, outputs: Outputs, codes: Tensor) -> Tensor:
        """What the heads of objects have to learn, beside the loss of the label map, of codes (B, *S)."""

    def instances(self, outputs: Outputs, shape: tuple[int, ...], choice: Choice) -> list[list[Instance]]:
        """The objects of each patch of a batch, whose patches have a shape; the highest score first."""
