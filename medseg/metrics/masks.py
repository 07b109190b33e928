"""One structure in two plain arrays. Private: the functions of `medseg.metrics` are made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import GridMismatchError, UsageError

Mask = NDArray[np.bool_]


def masks_of(predicted: ArrayLike, reference: ArrayLike, label: int | None) -> tuple[Mask, Mask]:
    """One structure in both arrays.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: nothing says which structure, or an array has not two or three axes.
    """
    both = np.asarray(predicted), np.asarray(reference)
    require_same_shape(both[1], both[0])
    if both[0].ndim not in (2, 3):
        raise UsageError(f"masks are (I, J, K) or (I, J), not {both[0].shape}")
    if label is not None:
        return both[0] == label, both[1] == label
    values = sorted({int(v) for array in both for v in _values(array)} - {0})
    if len(values) > 1:
        raise UsageError(
            f"the arrays hold the labels {', '.join(map(str, values[:8]))}",
            hint="choose one with label=, or measure all with medseg.evaluate",
        )
    return both[0] != 0, both[1] != 0


def require_same_shape(reference: NDArray[Any], predicted: NDArray[Any]) -> None:
    """Refuse two arrays that are not on one grid.

    Raises:
        GridMismatchError: with both shapes.
    """
    if reference.shape != predicted.shape:
        raise GridMismatchError(f"reference has shape {reference.shape}, prediction {predicted.shape}")


def _values(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([array.any()]) if array.dtype == np.bool_ else np.unique(array)
