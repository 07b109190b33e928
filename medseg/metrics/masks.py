"""One structure in two plain arrays. Private: the functions of `medseg.metrics` are made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import GridMismatchError, UsageError

Mask = NDArray[np.bool_]

WHOLE_HINT = (
    "give a mask or labels; make them of probabilities by a threshold (p > 0.5), of logits by logit > 0"
)


def masks_of(predicted: ArrayLike, reference: ArrayLike, label: int | None) -> tuple[Mask, Mask]:
    """One structure in both arrays.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: nothing says which structure, an array has not two or three axes, or it holds
            probabilities, logits or NaN.
    """
    both = np.asarray(predicted), np.asarray(reference)
    require_same_shape(both[1], both[0])
    if both[0].ndim not in (2, 3):
        raise UsageError(f"masks are (I, J, K) or (I, J), not {both[0].shape}")
    for array, what in zip(both, ("prediction", "reference"), strict=True):
        _require_whole(array, what)
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


def _require_whole(array: NDArray[Any], what: str) -> None:
    """Refuse numbers that no mask and no label map holds."""
    if array.dtype.kind in "biu":
        return
    if array.dtype.kind != "f":
        raise UsageError(f"the {what} holds {array.dtype}, and labels are integers", hint=WHOLE_HINT)
    odd = array[~np.isfinite(array) | (array != np.rint(array))]
    if odd.size:
        raise UsageError(f"the {what} holds {odd[0]:.6g}, which is not an integer", hint=WHOLE_HINT)


def _values(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([array.any()]) if array.dtype == np.bool_ else np.unique(array)
