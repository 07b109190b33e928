"""From probabilities on the network's grid to labels on the scan's own.

Labels are taken from interpolated probabilities, which never exist as a whole. An interpolated value is a
mean of its neighbours, so an output can only win where one of them is at least what a winner must have;
elsewhere it need not be interpolated, and the labels are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ModelError
from medseg.geometry.crop import Box
from medseg.geometry.resample import reached, resample
from medseg.inference.tiles import FloatArray
from medseg.preparation import Prepared
from medseg.structures import StructureSet

SLAB_VOXELS = 4_000_000
"""Output voxels restored at a time."""

ROUNDING = 1e-4
"""Share by which rounding may lift an interpolated value, or lower the sum of the outputs."""

Labels = NDArray[np.signedinteger | np.unsignedinteger]


def restored_labels(
    prepared: Sequence[Prepared], probabilities: Sequence[FloatArray], structures: StructureSet
) -> Labels:
    """Label values (I, J, K) on the scan's grid in RAS+ order, in the smallest type that holds them.

    They are those of `labels_from_probabilities` for the mean of what `Prepared.restore` gives.

    Args:
        prepared: the scan as each model saw it.
        probabilities: (K, i, j, k) of each model, on the grid it saw.
        structures: what the outputs are.

    Raises:
        ModelError: there are not as many outputs as the structures make.
    """
    outputs = structures.output_channels
    for found in probabilities:
        if len(found) != outputs:
            raise ModelError(f"{len(found)} outputs, where the structures make {outputs}")
    values = structures.values if structures.are_regions else (0, *structures.values)
    kind = np.result_type(*(np.min_scalar_type(v) for v in (0, *values)))
    shape = prepared[0].oriented_shape
    labels = np.zeros(shape, dtype=kind)
    regions = structures.are_regions
    least = 0.5 if regions else 1.0 / outputs
    places = [_place(prepared, probabilities, n, least * (1 - ROUNDING)) for n in range(outputs)]
    step = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        best = np.full((stop - start, *shape[1:]), 0.5 if regions else -1.0, np.float32)
        for n, (value, place) in enumerate(zip(values, places, strict=True)):
            if place is None or place.start[0] >= stop or place.stop[0] <= start:
                continue
            first, last = max(start, place.start[0]), min(stop, place.stop[0])
            part = Box((first, *place.start[1:]), (last, *place.stop[1:]))
            share = _mean_share(prepared, probabilities, n, part, background=n == 0 and not regions)
            inside = (slice(first - start, last - start), *part.slices[1:])
            wins = share > best[inside]
            labels[part.slices][wins] = value
            if not regions:
                np.maximum(best[inside], share, out=best[inside])
    return labels


def _place(
    prepared: Sequence[Prepared], probabilities: Sequence[FloatArray], output: int, least: float
) -> Box | None:
    """The box of the scan outside which an output cannot reach `least`; None if nowhere."""
    boxes = []
    for way, found in zip(prepared, probabilities, strict=True):
        if output == 0 and way.box.shape != way.oriented_shape:
            return Box((0, 0, 0), way.oriented_shape)
        high = found[output] >= least
        spans = []
        for axis, (n_in, n_out, first) in enumerate(
            zip(high.shape, way.box.shape, way.box.start, strict=True)
        ):
            used = np.flatnonzero(high.any(axis=tuple({0, 1, 2} - {axis})))
            if not used.size:
                break
            start, stop = reached(n_in, n_out, int(used[0]), int(used[-1]) + 1)
            spans.append((first + start, first + stop))
        else:
            boxes.append(spans)
    if not boxes:
        return None
    i, j, k = ((min(b[a][0] for b in boxes), max(b[a][1] for b in boxes)) for a in range(3))
    return Box((i[0], j[0], k[0]), (i[1], j[1], k[1]))


def _mean_share(
    prepared: Sequence[Prepared],
    probabilities: Sequence[FloatArray],
    output: int,
    part: Box,
    *,
    background: bool,
) -> FloatArray:
    """Mean of an output over the models, on one box of the scan."""
    total: FloatArray | None = None
    for way, found in zip(prepared, probabilities, strict=True):
        share = _share(way, found[output : output + 1], part, background=background)
        total = share if total is None else total + share
    if total is None:
        raise ModelError("no model was given")
    return total if len(probabilities) == 1 else total / np.float32(len(probabilities))


def _share(way: Prepared, output: FloatArray, part: Box, *, background: bool) -> FloatArray:
    """One output (1, i, j, k) on a box of the scan; outside the crop all is background."""
    starts = [max(a, b) for a, b in zip(part.start, way.box.start, strict=True)]
    stops = [min(a, b) for a, b in zip(part.stop, way.box.stop, strict=True)]
    rows, *plane = (
        slice(a - first, b - first) for a, b, first in zip(starts, stops, way.box.start, strict=True)
    )
    if any(a >= b for a, b in zip(starts, stops, strict=True)):
        return np.full(part.shape, float(background), np.float32)
    inner: FloatArray = resample(output, way.box.shape, rows, (plane[0], plane[1]))[0]
    if math.prod(part.shape) == inner.size:
        return inner
    share = np.full(part.shape, float(background), np.float32)
    share[tuple(slice(a - o, b - o) for a, b, o in zip(starts, stops, part.start, strict=True))] = inner
    return share
