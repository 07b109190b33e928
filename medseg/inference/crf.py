"""Random fields that smooth a network's probabilities by the scan, on the prepared grid, where a model asks.

Elsewhere rows of probabilities become labels as they come; here they are all held first. Fields whose labels
exclude each other are one problem, overlapping regions one of two labels each. Voxels that are background for
certain are left out, but for those around the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from medseg.classical.spec import DenseCrfSpec, GridCrfSpec
from medseg.core.boxes import Slices, bounding_box, widened
from medseg.core.errors import unknown_name
from medseg.inference.restore import Rows
from medseg.inference.tiles import FloatArray
from medseg.inference.tta import require_outputs
from medseg.model.spec import ModelSpec
from medseg.preparation.preparation import Prepared

CERTAIN = 1e-3
"""Probability of a structure up to which a voxel is background for certain."""
MARGIN = 3.0
"""Widths of the bilateral kernel that a dense field sees around the others."""
LEAST = 1e-6


def bytes_held(spec: ModelSpec, shape: Sequence[int]) -> int:
    """An upper bound of what `smoothed` holds for a prepared grid of this shape; 0 where it does nothing."""
    how, voxels = spec.postprocess, math.prod(shape)
    outputs = spec.structure_set.output_channels
    together = 2 if spec.structure_set.are_regions else outputs
    held = []
    if how.dense_crf is not None:
        from medseg.classical import dense_crf  # slow to import, as the next

        held.append(dense_crf.bytes_held(how.dense_crf, together, shape))
    if how.grid_crf is not None:
        from medseg.classical import graph_cut

        held.append(graph_cut.bytes_held(how.grid_crf.neighbours, voxels) + 16 * together * voxels)
    return 4 * voxels * (outputs + together) + max(held) if held else 0


def smoothed(rows: Rows, prepared: Prepared, spec: ModelSpec) -> Rows:
    """The rows as they are, or all at once after the fields that the model asks for.

    Args:
        rows: probabilities of a model.
        prepared: the scan as it saw it.
        spec: of the model.

    Raises:
        UsageError: a field is to see a channel that the scan does not have, or needs too fine a grid.
    """
    asked = (spec.postprocess.dense_crf, spec.postprocess.grid_crf)
    return _whole(rows, prepared, spec, [a for a in asked if a is not None]) if any(asked) else rows


def _whole(
    rows: Rows, prepared: Prepared, spec: ModelSpec, asked: Sequence[DenseCrfSpec | GridCrfSpec]
) -> Rows:
    whole = np.empty((spec.structure_set.output_channels, *prepared.grid.shape), np.float32)
    for run, part in rows:
        require_outputs(len(part), len(whole))
        whole[:, run] = part
    for how in asked:
        for part in _problems(whole, spec.structure_set.are_regions):
            inside = bounding_box(np.asarray((part[1:] > CERTAIN).any(axis=0)))
            if inside is not None:
                box = _around(inside, how, prepared)
                part[(slice(None), *box)] = _field(part[(slice(None), *box)], box, how, prepared, spec)
    yield slice(0, whole.shape[1]), whole


def _problems(whole: FloatArray, regions: bool) -> Iterator[FloatArray]:
    """Probabilities of labels that exclude each other, background first; what is written there is kept."""
    if not regions:
        yield whole
        return
    for output in whole:
        pair = np.stack([1 - output, output])
        yield pair
        output[:] = pair[1]


def _around(inside: Slices, how: DenseCrfSpec | GridCrfSpec, prepared: Prepared) -> Slices:
    """A box with what its field sees around it."""
    reach_mm = MARGIN * how.bilateral_mm if isinstance(how, DenseCrfSpec) else 0.0
    voxels = [max(1, math.ceil(reach_mm / mm)) for mm in prepared.grid.spacing_mm]
    return widened(inside, voxels, prepared.grid.shape)


def _field(
    found: FloatArray, box: Slices, how: DenseCrfSpec | GridCrfSpec, prepared: Prepared, spec: ModelSpec
) -> FloatArray:
    """Probabilities in a box after one field."""
    named = how.channels if isinstance(how, DenseCrfSpec) else (how.channel,) if how.channel else ()
    for name in named:
        if name not in spec.channels:
            raise unknown_name("channel", name, spec.channels)
    numbers = [spec.channels.index(name) for name in named] or [0]
    images, spacing_mm = prepared.array[numbers][(slice(None), *box)], prepared.grid.spacing_mm
    if isinstance(how, DenseCrfSpec):
        from medseg.classical.dense_crf import dense_crf

        return dense_crf(found, images, spacing_mm, how)
    from medseg.classical.graph_cut import Neighbours, in_units, least_energy

    flat = found.reshape(len(found), -1).copy()
    costs = in_units(-np.log(np.maximum(flat, LEAST)))
    pairs = Neighbours.of(
        images[0], spacing_mm, weight=how.weight, intensity=how.intensity, neighbours=how.neighbours
    )
    labels, best = least_energy(costs, pairs, moves=how.moves), flat.argmax(axis=0)
    at = np.flatnonzero(labels != best)
    flat[labels[at], at], flat[best[at], at] = flat[best[at], at], flat[labels[at], at]
    return flat.reshape(found.shape)
