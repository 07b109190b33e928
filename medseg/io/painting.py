"""Masks painted into one label map, and their overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import counted, plural
from medseg.core.structures import value_counts
from medseg.core.volume import Lacking

MOST_NAMED = 8
"""Overlaps told one by one; of more, only their number."""


class Painting:
    """A label map (I, J, K) in the making: later masks lie over earlier ones, and overlaps are counted.

    Args:
        shape: of the map.
        dtype: which holds every value that will be painted.
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype[np.integer[Any]]) -> None:
        self.array: NDArray[np.integer] = np.zeros(shape, dtype=dtype)
        self._names: dict[int, str] = {}
        self._hidden: Counter[tuple[int, int]] = Counter()

    def add(self, name: str, value: int, mask: NDArray[np.bool_]) -> None:
        """Paint one mask."""
        for below, count in value_counts(self.array[mask]).items():
            if below not in (0, value):
                self._hidden[below, value] += count
        self._names[value] = name
        self.array[mask] = value

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence on each pair of masks that overlap, the largest overlap first."""
        pairs, told = self._hidden.most_common(), [text for _, text in self.lacking]
        if len(pairs) > MOST_NAMED:
            rest = sum(count for _, count in pairs[MOST_NAMED:])
            told.append(
                f"{counted(rest, 'further voxel')} {plural(rest, 'lies', 'lie')} in "
                f"{counted(len(pairs) - MOST_NAMED, 'other pair')} of masks."
            )
        return tuple(told)

    @property
    def lacking(self) -> Lacking:
        """Of those sentences, each that names a pair, with the value of the mask that lies below."""
        return tuple(
            (
                below,
                f"{counted(count, 'voxel')} {plural(count, 'lies', 'lie')} in both {self._names[below]} and "
                f"{self._names[above]}, and {plural(count, 'counts', 'count')} as {self._names[above]}.",
            )
            for (below, above), count in self._hidden.most_common(MOST_NAMED)
        )
