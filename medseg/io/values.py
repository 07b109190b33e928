"""From stored numbers to image values and labels: scaled, finite, without loss or wrapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, plural

LABEL_TOLERANCE = 1e-3
"""Labels stored as numbers this close to an integer are that integer."""
CHUNK = 2**20
LABEL_DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)

Array = NDArray[np.generic]


def image_values(
    array: Array, slope: float, inter: float, fill_nan: float | None, source: Path
) -> tuple[Array, tuple[str, ...]]:
    """Stored voxels as image values: integers of up to 32 bits where unscaled, else float32.

    Args:
        array: voxels as stored, any shape.
        slope: factor, and
        inter: summand, from stored to image value.
        fill_nan: value for NaN and infinite voxels; None refuses them.
        source: the file, for the message.

    Returns:
        The values and warnings; the array itself where nothing had to change.

    Raises:
        InputError: voxels are not finite, or 64-bit integers would lose digits.
    """
    if (slope, inter) != (1.0, 0.0):
        values: NDArray[Any] = _scaled(array, slope, inter)
    elif array.dtype.kind in "iu":
        return (_narrowed(array, source) if array.dtype.itemsize == 8 else array), ()
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = array.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if finite.all():
        return values, ()
    return _filled(values, finite, fill_nan, source)


def label_values(array: Array, slope: float, inter: float, source: Path) -> tuple[Array, tuple[str, ...]]:
    """Stored voxels as integer labels; numbers within 1e-3 of an integer are rounded, never cut.

    Raises:
        InputError: a value is not finite, not near an integer, or beyond 32 bits.
    """
    if (slope, inter) == (1.0, 0.0) and array.dtype.kind in "iu":
        return array, ()
    whole = np.empty_like(array, dtype=np.int32)
    worst = 0.0
    for part, out in _chunks(array, whole):
        with np.errstate(over="ignore", invalid="ignore"):
            values = part.astype(np.float64) * slope + inter
        if not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise InputError(
                f"at least {bad} labels are NaN or infinite", source=source, hint="export it again"
            )
        rounded = np.rint(values)
        if np.abs(rounded).max(initial=0) > np.iinfo(np.int32).max:
            raise InputError("labels exceed 32 bits", source=source, hint="renumber them")
        off = np.abs(values - rounded)
        worst = max(worst, float(off.max(initial=0)))
        if worst > LABEL_TOLERANCE:
            raise InputError(
                f"a label is {values[int(off.argmax())]:.6g}, which is not an integer (tolerance "
                f"{LABEL_TOLERANCE})",
                source=source,
                hint="give a label map, not an image",
            )
        out[...] = rounded.astype(np.int32)
    small = whole.astype(smallest_dtype(whole, source))
    if worst == 0.0:
        return small, ()
    return small, (f"Labels were stored up to {worst:.1g} away from integers, and were rounded.",)


def smallest_dtype(array: NDArray[np.integer], source: Path) -> np.dtype[np.integer[Any]]:
    """The smallest integer type, unsigned first, that holds every value of `array`.

    Raises:
        InputError: values exceed 32 bits, which not every format and reader can hold.

    >>> smallest_dtype(np.array([0, 256]), Path("a")).name, smallest_dtype(np.array([-1]), Path("a")).name
    ('uint16', 'int8')
    """
    low, high = int(array.min()), int(array.max())
    for dtype in LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise InputError(f"labels from {low} to {high} exceed 32 bits", source=source, hint="renumber them")


def _scaled(array: Array, slope: float, inter: float) -> NDArray[np.float32]:
    """slope * stored + inter, computed in float64, chunk by chunk, and rounded once."""
    out = np.empty_like(array, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, target in _chunks(array, out):
            target[...] = part.astype(np.float64) * slope + inter
    return out


def _chunks(array: Array, out: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Matching flat pieces of two arrays, in memory order; what is written to the second stays."""
    pieces = np.nditer(
        [array, out],
        flags=["external_loop", "buffered"],
        op_flags=[["readonly"], ["writeonly"]],
        buffersize=CHUNK,
        order="K",
    )
    with pieces:
        yield from pieces


def _narrowed(array: Array, source: Path) -> Array:
    low, high = int(array.min()), int(array.max())
    for dtype in (np.int32, np.uint32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise InputError(
        f"64-bit voxels from {low} to {high} cannot be stored without loss",
        source=source,
        hint="convert the image to float32",
    )


def _filled(
    values: NDArray[Any], finite: NDArray[np.bool_], fill_nan: float | None, source: Path
) -> tuple[Array, tuple[str, ...]]:
    nan = int(np.isnan(values).sum())
    infinite = int(values.size - finite.sum()) - nan
    what = (
        f"{nan} of {values.size} voxels {plural(nan, 'is', 'are')} NaN and {infinite} "
        f"{plural(infinite, 'is', 'are')} infinite or beyond float32"
    )
    if fill_nan is None:
        raise InputError(what, source=source, hint="repair the image, or give a value with --fill-nan")
    filled = np.where(finite, values, np.float32(fill_nan))
    return filled, (f"{what[0].upper()}{what[1:]}; they were set to {fill_nan:g}.",)
