"""What the loss is taken of: the logits of every voxel, of one phase of them, or of every head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from medseg.instances.detecting import Detecting, Lesson
from medseg.instances.objects import indices_of
from medseg.networks.layers import Phased, Segmenter, Supervised

Phase = tuple[int, ...]


class Answer(NamedTuple):
    """What a part of the loss is taken of.

    Attributes:
        share: of the loss.
        logits: (B, K, *S).
        labels: (B, *S) of those voxels.
        steps: every n-th voxel of a patch, per axis.
    """

    share: float
    logits: Tensor
    labels: Tensor
    steps: Phase


class Asked(nn.Module):
    """A network as a training asks it: one call, whichever of its answers the loss is taken of.

    Args:
        network: that is trained.
        every_head: whether the loss is taken of every head of a network that has several.
    """

    def __init__(self, network: Segmenter, *, every_head: bool) -> None:
        super().__init__()
        self.network = network
        self.every_head = every_head and isinstance(network, Supervised)

    def forward(
        self, images: Tensor, phase: Phase | None, lesson: Lesson | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Logits (B, K, *S) of images (B, C, *S): of every head, of one phase, or of all voxels.

        Of a network that finds objects, the loss of what `lesson` teaches of them too.
        """
        if isinstance(self.network, Detecting) and lesson is not None:
            logits, loss = self.network.taught(images, lesson)
            return [logits], loss
        if self.every_head and isinstance(self.network, Supervised):
            return list(self.network.heads(images)), None
        if phase is not None and isinstance(self.network, Phased):
            return [self.network.at_phase(images, phase)], None
        return [self.network(images)], None

    def answers(self, logits: Sequence[Tensor], labels: Tensor, phase: Phase | None) -> list[Answer]:
        """The logits that a call gave, with the labels of their voxels, of labels (B, *S)."""
        labels = indices_of(labels)
        if self.every_head and isinstance(self.network, Supervised):
            shares = zip(self.network.head_weights, logits, strict=True)
            return [_thinned(share, found, labels) for share, found in shares]
        if phase is None or not isinstance(self.network, Phased):
            return [Answer(1.0, logits[0], labels, ())]
        steps = self.network.phases
        taken = (slice(None), *(slice(p, None, s) for p, s in zip(phase, steps, strict=True)))
        return [Answer(1.0, logits[0], labels[taken], steps)]


def _thinned(share: float, logits: Tensor, labels: Tensor) -> Answer:
    """The logits (B, K, *S / n) of a head, and of labels (B, *S) those of every n-th voxel."""
    steps = tuple(n // m for n, m in zip(labels.shape[1:], logits.shape[2:], strict=True))
    return Answer(share, logits, labels[(slice(None), *(slice(None, None, n) for n in steps))], steps)
