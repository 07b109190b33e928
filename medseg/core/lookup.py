"""What label values mean, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def looked_up(labels: NDArray[np.integer], meaning: Mapping[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """What each voxel's value means, 0 where that is not said; in the order in memory that the labels have.

    Args:
        labels: of any shape; negative and huge values are values like others.
        meaning: of a value.
        dtype: holds what they mean.

    >>> looked_up(np.array([[7, -2], [3, 7]]), {7: 1, -2: 5}, np.uint8).tolist()
    [[1, 5], [0, 1]]
    """
    if labels.dtype in (np.uint8, np.uint16):
        table = np.zeros(np.iinfo(labels.dtype).max + 1, dtype)
        for value, meant in meaning.items():
            if 0 <= value < table.size:
                table[value] = meant
        return np.asarray(table[labels])
    known = np.array(sorted(meaning) or [0])
    means = np.array([meaning.get(int(value), 0) for value in known], dtype)
    place = np.minimum(np.searchsorted(known, labels), known.size - 1)
    return np.where(known[place] == labels, means[place], np.zeros((), dtype))
