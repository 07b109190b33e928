"""Flip test-time augmentation: views of a tile, and the way back from each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import ModelError, UsageError
from medseg.inference.tiles import FloatArray

LEFT_RIGHT = 0
"""The axis that runs from left to right in canonical (RAS+) order."""


@dataclass(frozen=True)
class View:
    """A tile mirrored along some axes; () is the tile itself.

    Attributes:
        axes: spatial axes mirrored.
        twins: for each network output, the output it becomes when left and right are swapped;
            empty where none does.
        coarse_twins: the same for the last inputs, the structures that a coarse stage found.
    """

    axes: tuple[int, ...] = ()
    twins: tuple[int, ...] = ()
    coarse_twins: tuple[int, ...] = ()

    def forward(self, tiles: FloatArray) -> FloatArray:
        """The mirrored tiles (B, C, I, J, K), a view of what is given where no channels trade places."""
        if not self.axes:
            return tiles
        tiles = np.flip(tiles, tuple(a + 2 for a in self.axes))
        if LEFT_RIGHT not in self.axes or not self.coarse_twins:
            return tiles
        images = tiles.shape[1] - len(self.coarse_twins)
        return tiles[:, [*range(images), *(images + n for n in self.coarse_twins)]]

    def backward(self, logits: FloatArray) -> FloatArray:
        """The outputs (B, K, I, J, K) where and what they would be on the tile itself.

        Raises:
            ModelError: the network has another number of outputs than `twins` has.
        """
        if not self.axes:
            return logits
        logits = np.flip(logits, tuple(a + 2 for a in self.axes))
        if LEFT_RIGHT not in self.axes or not self.twins:
            return logits
        require_outputs(logits.shape[1], len(self.twins))
        return logits[:, list(self.twins)]


def require_outputs(outputs: int, needed: int) -> None:
    """Check that a network has as many outputs as its structures need.

    Raises:
        ModelError: it has another number.
    """
    if outputs != needed:
        raise ModelError(f"the network has {outputs} outputs, but its structures need {needed}")


def views(
    flips: Sequence[Sequence[int]], twins: Sequence[int], coarse_twins: Sequence[int] = ()
) -> tuple[View, ...]:
    """The plain view, and one for each flip.

    Raises:
        UsageError: a flip names no axis, an axis twice, an axis that is not 0, 1 or 2, or two
            flips are the same.

    >>> [view.axes for view in views(((0,), (1, 2)), ())]
    [(), (0,), (1, 2)]
    """
    sets = [frozenset(axes) for axes in flips]
    wrong = any(len(s) != len(axes) or not s or s - {0, 1, 2} for s, axes in zip(sets, flips, strict=True))
    if wrong or len(set(sets)) != len(sets):
        raise UsageError(
            f"flips must differ, and each must list distinct axes among 0, 1, 2, not {tuple(flips)}"
        )
    return (View(), *(View(tuple(sorted(s)), tuple(twins), tuple(coarse_twins)) for s in sets))
