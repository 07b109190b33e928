"""Memory of a prediction, and tiles that keep it within a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medseg.core.boxes import Triple
from medseg.core.errors import ResourceError
from medseg.core.volume import Grid
from medseg.inference import anytime, crf, refine
from medseg.inference.blend import rows_at_once
from medseg.inference.engines.base import RowEngine
from medseg.inference.predictor import Predictor, values_alive
from medseg.inference.restore import SLAB_VALUES
from medseg.inference.tiles import Plan
from medseg.io.memory import available_bytes, held_bytes
from medseg.model.spec import ModelSpec
from medseg.preparation.orient import canonical
from medseg.preparation.resample import resampled_grid

FLOAT = 4
SIDES = (320, 288, 256, 224, 192, 160, 144, 128, 112, 96, 80, 64, 48, 32, 16)
"""Edges of the cubes that limit an overlap-tile tile, tried from the largest."""

SLAB_VOXELS = (5 * 2**18, 5 * 2**17, 5 * 2**16)
"""Voxels of a slab, tried from the largest."""

SLAB_SLACK = 1.4
"""What an engine holds in slabs beyond its maps, for reordering them: up to 1.35 was measured."""

ENGINE_BYTES = 2**24
"""What an engine takes before it sees a tile: its library, weights and compiled graph."""

COPIES_OF_LABELS = 4
"""Label maps there are at once when they are put in the file's order, counted and read back."""

NUMBERED_BYTES, WATERSHED_BYTES = 32, 96
"""Of a voxel of the scan while objects are numbered there: numbers and their copies, sizes; for a watershed
also depths, seeds and basins."""

FREE_SHARE = 0.8
"""Share of the free memory that is taken where no limit is given."""

MIB, GIB, UNLIMITED = 2**20, 2**30, 2**60


@dataclass(frozen=True)
class Load:
    """Bytes that a prediction needs in addition to the prepared scan.

    Attributes:
        network: one tile, its feature maps and its answer.
        rows: logits that wait for further tiles or, within a time budget, for the end, and probabilities on
            their way to labels, refined or not, with what random fields hold.
        labels: on the scan's grid.
        objects: while single objects are found and numbered.
    """

    network: int
    rows: int
    labels: int
    objects: int = 0

    @property
    def total(self) -> int:
        """The most at a time: while the network runs, when objects are told apart, or when the labels are
        counted and put in order."""
        told = self.objects + self.labels
        return max(self.network + self.rows + self.labels, told, COPIES_OF_LABELS * self.labels)


def load_with(predictor: Predictor, spec: ModelSpec, shape: Triple, scan_shape: Triple) -> Load:
    """An upper bound of the bytes that a predictor needs, in f32.

    Args:
        predictor: of the model, with its tiles.
        spec: of the model.
        shape: of the prepared image.
        scan_shape: of the scan's own grid.
    """
    plan, slab_bytes = predictor.plan(shape), 0
    if predictor.slab_voxels:
        slab_bytes = int(SLAB_SLACK * (_slab_bytes(predictor, plan) or 0))
    variants = len(predictor.engines) * (1 + len(predictor.flips))
    outputs = spec.structure_set.output_channels
    tile, plane = math.prod(plan.tile_shape), plan.shape[1] * plan.shape[2]
    whole_rows = plan.strategy == "overlap_tile" and plan.tile_shape[1:] == plan.extended[1:]
    waiting = 0 if whole_rows else min(plan.tile_shape[0], plan.shape[0])
    voxels, rows = math.prod(scan_shape), min(rows_at_once(outputs, plan.shape), plan.shape[0])
    itemsize = 1 if max(spec.structure_set.known_values) < 256 else 2
    largest = anytime.tile_voxels(predictor, shape) if predictor.timed else tile
    maps = FLOAT * largest * (predictor.maps + (1 + variants) * outputs)
    kept = anytime.bytes_held(predictor, shape, outputs) if predictor.timed else 0
    held = 0 if spec.slices.axes in ((1,), (2,)) else outputs * math.prod(plan.shape)
    if spec.refinement is None:
        painted = FLOAT * 3 * min(SLAB_VALUES, outputs * voxels)
    else:
        painted = refine.bytes_held(plan.shape, scan_shape)
    return Load(
        network=ENGINE_BYTES + 2 * FLOAT * largest * spec.network.in_channels + (slab_bytes or maps),
        rows=FLOAT * (outputs * plane * (variants * (waiting + rows) + 3 * rows) + held)
        + painted
        + kept
        + crf.bytes_held(spec, plan.shape),
        labels=itemsize * voxels,
        objects=_object_bytes(spec, shape, voxels),
    )


def _object_bytes(spec: ModelSpec, shape: Triple, scan_voxels: int) -> int:
    """What finding objects takes, by a network or in the label map; 0 where nobody asks for them."""
    if spec.network.finds_objects:
        from medseg.instances.whole import tile_of  # slow to import

        axes = spec.network.spatial_dims
        tile = math.prod(tile_of(shape[:axes], spec.inference.tile[:axes]))
        maps = FLOAT * tile * values_alive(spec, "torch")
        return ENGINE_BYTES + maps + FLOAT * math.prod(shape) + NUMBERED_BYTES * scan_voxels
    wanted = spec.postprocess.instances
    if wanted is None:
        return 0
    return (WATERSHED_BYTES if wanted.method == "watershed" else NUMBERED_BYTES) * scan_voxels


def scan_bytes(spec: ModelSpec, scan_shape: Triple, prepared_shape: Triple, itemsize: int) -> tuple[int, int]:
    """Bytes of a scan and what is made of it: while it is prepared, and afterwards.

    While it is prepared there is a copy of the scan in RAS+ order, and one of what is made; and one of its
    normalised voxels, where they are resampled afterwards.
    """
    images, given = len(spec.channels), len(spec.inputs) * spec.slices.slices_seen
    scan, prepared = itemsize * math.prod(scan_shape), FLOAT * math.prod(prepared_shape)
    joined = len(spec.inputs) * prepared if spec.cascade else 0
    normalised = FLOAT * math.prod(scan_shape) if spec.preparation.normalises_first else 0
    return images * (2 * (scan + prepared) + normalised) + joined, images * scan + given * prepared


@dataclass(frozen=True)
class Forecast:
    """How a scan would be predicted.

    Attributes:
        plans: of each model, on the grid it would see if nothing were cropped away.
        in_slabs: which of them have one tile that is too large for its maps, and runs in slabs.
        bytes: memory that the process would use, including the libraries and models it uses now.
    """

    plans: tuple[Plan, ...]
    in_slabs: tuple[bool, ...]
    bytes: int


def room(limit: int | None) -> int:
    """Bytes that this process may still allocate: up to a limit, or 80 % of free memory."""
    if limit is not None:
        return limit - held_bytes()
    free = available_bytes()
    return UNLIMITED if free is None else int(FREE_SHARE * free)


def forecast(
    members: Sequence[tuple[ModelSpec, Predictor]], grid: Grid, itemsize: int, limit: int | None
) -> Forecast:
    """Estimate how a scan would be predicted, from its header.

    Args:
        members: the models, and how they predict.
        grid: of the scan.
        itemsize: bytes of a voxel.
        limit: bytes that the process may use; None for most of what is free.

    Raises:
        ResourceError: there is not enough memory for it.
    """
    oriented = canonical(grid).grid(grid)
    plans, loads, scans, preparing, slabs = [], [], [], [], []
    free = room(limit)
    for spec, predictor in members:
        prepared = spec.preparation
        at = resampled_grid(oriented, prepared.spacing_for(oriented)) if prepared.resamples else oriented
        shape = at.shape
        while_prepared, kept = scan_bytes(spec, grid.shape, shape, itemsize)
        preparing.append(while_prepared)
        scans.append(kept)
        left = (free - kept) // len(members)
        chosen = with_tiles_that_fit(
            predictor, spec, shape, oriented.shape, left, limit if len(members) == 1 else None
        )
        plans.append(chosen.plan(shape))
        loads.append(load_with(chosen, spec, shape, oriented.shape).total)
        slabs.append(chosen.slab_voxels > 0)
    most = max(max(preparing), max(scans) + sum(loads))
    if most > free:
        raise _too_much(most, free, "reading and preparing it", limit)
    return Forecast(tuple(plans), tuple(slabs), held_bytes() + most)


def with_tiles_that_fit(
    predictor: Predictor,
    spec: ModelSpec,
    shape: Triple,
    scan_shape: Triple,
    room: int,
    limit: int | None = None,
) -> Predictor:
    """The predictor with the largest tiles for which there is room; a sliding window's are given.

    Args:
        predictor: how the model predicts.
        spec: of the model.
        shape: of the prepared image (i, j, k).
        scan_shape: of the scan's own grid.
        room: bytes.
        limit: of the process, for the message where there is too little room.

    Raises:
        ResourceError: there is too little memory for the smallest plan; the error states how much is needed.
    """
    least = None
    for candidate in _candidates(predictor, shape):
        try:
            load = load_with(candidate, spec, shape, scan_shape).total
        except ResourceError:
            break
        if load <= room:
            return candidate
        least = load if least is None else min(least, load)
    what = f"predicting an image of {'x'.join(map(str, shape))} voxels with {spec.name}"
    raise _too_much(least or 0, room, what, limit, " in addition to the scan")


def _too_much(needed: int, room: int, what: str, limit: int | None = None, beside: str = "") -> ResourceError:
    """What is too large, and the least limit that suffices where one was given."""
    enough = "raise --max-memory"
    if limit is not None:
        enough = f"give --max-memory {math.ceil((limit + needed - room) / MIB)}M"
    return ResourceError(
        f"{what} needs {needed / GIB:.2f} GiB{beside}, but only {max(0, room) / GIB:.2f} GiB are left",
        hint=f"{enough}, or close other programs",
    )


def _slab_bytes(predictor: Predictor, plan: Plan) -> int | None:
    """What the engine holds for the one tile of a plan in slabs; None where it cannot."""
    engine = predictor.engines[0]
    if not predictor.streams or not isinstance(engine, RowEngine):
        return None
    return engine.slab_bytes(plan.tile_shape, predictor.slab_voxels)


def _candidates(predictor: Predictor, shape: Triple) -> Iterator[Predictor]:
    """The same prediction in ever less memory: everything at once, in slabs, in ever smaller tiles."""
    if predictor.plan(shape).strategy == "sliding_window":
        yield predictor
        return
    whole = replace(predictor, max_voxels=2 * math.prod(shape) + 64**3)
    yield whole
    if predictor.streams and math.prod(shape) > SLAB_VOXELS[0]:
        for voxels in SLAB_VOXELS:
            slabs = replace(whole, slab_voxels=voxels)
            if _slab_bytes(slabs, slabs.plan(shape)) is None:
                break
            yield slabs
    for side in SIDES:
        yield replace(predictor, max_voxels=side**3)
