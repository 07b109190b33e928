"""Slices of a volume for a 2D network: across a chosen axis, with their neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.inference.tiles import FloatArray


def turned(array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The array (N, I, J, K) with spatial `axis` and the last one exchanged, a view; its own inverse.

    >>> turned(np.zeros((1, 3, 4, 5), np.float32), 0).shape
    (1, 5, 4, 3)
    """
    return np.swapaxes(array, axis + 1, 3)


def with_neighbours(image: FloatArray, context: int) -> FloatArray:
    """The image (C, I, J, K) with the neighbours along K of each slice as further channels.

    Args:
        image: as prepared.
        context: slices on each side; beyond the first and the last slice these are repeated.

    Returns:
        ((1 + 2 context) C, I, J, K): all channels of the slice furthest before it first.

    >>> with_neighbours(np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3), 1)[:, 0, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    """
    if not context:
        return image
    place = np.arange(image.shape[3])
    offsets = range(-context, context + 1)
    shifted = [image[..., np.clip(place + offset, 0, len(place) - 1)] for offset in offsets]
    return np.concatenate(shifted)
