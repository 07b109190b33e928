"""What a prediction holds in memory, and the tiles that keep it within a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medseg.errors import ResourceError
from medseg.geometry.crop import Triple
from medseg.geometry.orient import canonical
from medseg.geometry.resample import resampled_grid
from medseg.inference.predictor import MAX_ROWS, Predictor
from medseg.inference.restore import SLAB_VALUES
from medseg.inference.tiles import MAPS_ALIVE, Plan
from medseg.io.memory import available_bytes, held_bytes
from medseg.model import ModelSpec
from medseg.volume import Grid

FLOAT = 4
SIDES = (320, 288, 256, 224, 192, 160, 144, 128, 112, 96, 80, 64, 48, 32, 16)
"""Edges of the cubes that limit an overlap-tile tile, tried from the largest."""

FREE_SHARE = 0.8
"""Share of the free memory that is taken where no limit is given."""

GIB, UNLIMITED = 2**30, 2**60


@dataclass(frozen=True)
class Load:
    """Bytes that a prediction holds beyond the scan.

    Attributes:
        network: one tile, its feature maps and its answer.
        rows: logits that wait for further tiles, and probabilities on their way to labels.
        labels: on the prepared grid, on the scan's, and in the file's order.
    """

    network: int
    rows: int
    labels: int

    @property
    def total(self) -> int:
        return self.network + self.rows + self.labels


def load_of(plan: Plan, spec: ModelSpec, scan_shape: Triple) -> Load:
    """What predicting by a plan holds; an upper bound, for f32.

    Args:
        plan: of the prepared image.
        spec: of the model.
        scan_shape: of the scan's own grid.
    """
    outputs = spec.structure_set.output_channels
    tile, plane = math.prod(plan.tile_shape), plan.shape[1] * plan.shape[2]
    width = max(spec.network.widths[:1] or (32,))
    whole_rows = plan.strategy == "overlap_tile" and plan.tile_shape[1:] == plan.extended[1:]
    waiting = 0 if whole_rows else min(plan.tile_shape[0], plan.shape[0])
    voxels, rows = math.prod(scan_shape), min(MAX_ROWS, plan.shape[0])
    itemsize = 1 if max(spec.structure_set.known_values) < 256 else 2
    return Load(
        network=FLOAT * tile * (MAPS_ALIVE * width + 2 * outputs + 2 * len(spec.channels)),
        rows=FLOAT * (outputs * plane * (2 * waiting + 4 * rows) + 3 * min(SLAB_VALUES, outputs * voxels)),
        labels=itemsize * (math.prod(plan.shape) + 3 * voxels),
    )


def scan_bytes(spec: ModelSpec, scan_shape: Triple, prepared_shape: Triple, itemsize: int) -> int:
    """Bytes of a scan, its copy in RAS+ order, and what preparation makes of it."""
    channels = len(spec.channels)
    return channels * (2 * itemsize * math.prod(scan_shape) + 2 * FLOAT * math.prod(prepared_shape))


@dataclass(frozen=True)
class Forecast:
    """How a scan would be predicted.

    Attributes:
        plans: of each model, on the grid it would see if nothing were cropped away.
        bytes: what the process would hold, the libraries and models it holds now included.
    """

    plans: tuple[Plan, ...]
    bytes: int


def room(limit: int | None) -> int:
    """Bytes this process may still take: up to a limit, or most of what is free."""
    if limit is not None:
        return limit - held_bytes()
    free = available_bytes()
    return UNLIMITED if free is None else int(FREE_SHARE * free)


def forecast(
    members: Sequence[tuple[ModelSpec, Predictor]], grid: Grid, itemsize: int, limit: int | None
) -> Forecast:
    """How a scan would be predicted, from what its header says.

    Args:
        members: the models, and how they predict.
        grid: of the scan.
        itemsize: bytes of a voxel.
        limit: bytes the process may hold; None for most of what is free.

    Raises:
        ResourceError: there is no room for it.
    """
    oriented = canonical(grid).grid(grid)
    plans, loads, scans = [], [], []
    for spec, predictor in members:
        wanted = spec.preparation.spacing_mm
        shape = (resampled_grid(oriented, wanted) if wanted else oriented).shape
        scans.append(scan_bytes(spec, grid.shape, shape, itemsize))
        left = (room(limit) - scans[-1]) // len(members)
        plan = fitted(predictor, spec, shape, oriented.shape, left).plan(shape)
        plans.append(plan)
        loads.append(load_of(plan, spec, oriented.shape).total)
    return Forecast(tuple(plans), held_bytes() + max(scans) + sum(loads))


def fitted(predictor: Predictor, spec: ModelSpec, shape: Triple, scan_shape: Triple, room: int) -> Predictor:
    """The predictor with the largest tiles for which there is room; a sliding window's are given.

    Args:
        predictor: how the model predicts.
        spec: of the model.
        shape: of the prepared image (i, j, k).
        scan_shape: of the scan's own grid.
        room: bytes.

    Raises:
        ResourceError: there is too little for the smallest plan; it says how much is needed.
    """
    least = None
    for candidate in _candidates(predictor, shape):
        try:
            load = load_of(candidate.plan(shape), spec, scan_shape).total
        except ResourceError:
            break
        if load <= room:
            return candidate
        least = load if least is None else min(least, load)
    raise ResourceError(
        f"predicting an image of {'x'.join(map(str, shape))} voxels with {spec.name} needs "
        f"{(least or 0) / GIB:.2f} GiB beside the scan, and {max(0, room) / GIB:.2f} GiB are left",
        mend="raise --max-memory, or close other programs",
    )


def _candidates(predictor: Predictor, shape: Triple) -> Iterator[Predictor]:
    """The same prediction in ever smaller tiles."""
    if predictor.plan(shape).strategy == "sliding_window":
        yield predictor
        return
    for voxels in (2 * math.prod(shape) + 64**3, *(side**3 for side in SIDES)):
        yield replace(predictor, max_voxels=voxels)
