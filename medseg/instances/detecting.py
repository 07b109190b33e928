"""What a network that finds objects is made of, and what a training and a prediction ask of it.

A `Detector` has an encoder and a pyramid, a branch that gives the label map of all, and a finder: the heads
that say where the objects are, learn it, and give their masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from medseg.instances.choice import Choice
from medseg.instances.heads import Dense
from medseg.instances.objects import Objects


class Instance(NamedTuple):
    """An object that was found in a patch: box (2n,) in its voxels, class from 0, score, and mask (*bins)."""

    box: Tensor
    label: int
    score: float
    mask: Tensor


class Lesson(NamedTuple):
    """What a batch teaches of objects.

    Attributes:
        codes: (B, *S), see `objects`.
        objects: of each patch.
    """

    codes: Tensor
    objects: Sequence[Objects]


class Outputs(NamedTuple):
    """What a network says of a batch before anything is chosen.

    Attributes:
        semantic: logits of the structures (B, K + 1, *S).
        pyramid: the maps (B, W, *S / stride), the finest first.
        dense: what the finder's head says at the points of each level it looks at.
        more: a further map (B, M, *S / stride) of the finder; of no channels without.
    """

    semantic: Tensor
    pyramid: list[Tensor]
    dense: list[Dense]
    more: Tensor

    def float(self) -> Outputs:
        """The same numbers as float32, in which losses are taken and boxes made."""
        return Outputs(
            self.semantic.float(),
            [x.float() for x in self.pyramid],
            [level.float() for level in self.dense],
            self.more.float(),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a patch, in voxels."""
        return tuple(self.semantic.shape[2:])


class Finder(Protocol):
    """Heads on a pyramid; those of one paper."""

    def begin(self) -> None:
        """Weights before anything is learnt, where they are not those of other layers."""

    def say(self, pyramid: list[Tensor]) -> tuple[list[Dense], Tensor | None]:
        """What is said at every point of each level, and a further map, of maps (B, W, *S)."""

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """The loss of what was said: a scalar."""

    def find(self, outputs: Outputs, choice: Choice) -> list[list[Instance]]:
        """The objects of each patch of a batch, the highest score first."""


@runtime_checkable
class Detecting(Protocol):
    """A network that finds objects; called as others are, it gives the label map's logits alone."""

    def taught(self, x: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Logits (B, K + 1, *S) of an image (B, C, *S), and the loss of its objects."""

    def found(self, x: Tensor, choice: Choice) -> list[list[Instance]]:
        """The objects of each patch (B, C, *S), the highest score first."""
