"""Predictor: from a prepared volume to probabilities, tile by tile, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, ModelError, ResourceError, SelfCheckError, UsageError
from medseg.core.stopwatch import Stopwatch
from medseg.core.structures import StructureSet
from medseg.inference import blend, slices, tta
from medseg.inference.engines.base import CardEngine, Engine, RowEngine
from medseg.inference.tiles import (
    MAPS_ALIVE,
    MAX_VOXELS,
    MOST_MAPS_ALIVE,
    FloatArray,
    Plan,
    Strategy,
    Tile,
    plan,
)
from medseg.model.spec import ModelSpec

USUAL_WIDTH = 32
"""Channels at full resolution where a model does not say."""

AT_ONCE = 2**15
"""Voxels of small tiles, such as slices, that an engine is given at once: one by one, calls cost more."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Runs engines over a volume, tile by tile.

    With several engines (an ensemble) or flips, each makes its own prediction of the volume and
    the probabilities are averaged. Overlapping tiles are blended as logits, before the softmax or
    sigmoid, and each tile is mirrored in its place.

    Attributes:
        engines: networks with the same stride, radius and outputs.
        stride: total stride per axis; two values where the network is 2D, which then sees each
            slice along K by itself.
        radius: half the receptive field per axis, in voxels.
        tile_independent: no statistics of the network depend on the tile.
        tile: sliding-window tile in voxels; two or three values, like `stride`.
        strategy, overlap, border, max_voxels: see `tiles.plan`.
        weight: blending weight of the sliding window.
        regions: sigmoid instead of softmax.
        twin_channels: for each output, the output it becomes under a left-right flip.
        coarse_twins: the same for the structures that a coarse stage found, the last channels of the image.
        flips: axes to mirror, one further prediction an entry.
        batch: tiles an engine is given at once, at least: of small ones, as many as make up `AT_ONCE`.
        slab_voxels: where not 0, a plan of one tile is answered in slabs of so many voxels.
        slice_axes: of a 2D network, the axes that slices are cut across; averaged where there are several.
        context: neighbours on each side of a slice that a 2D network is given as channels.
        maps: values per voxel of a tile that an engine stores at once (see `values_alive`).
        timed: within a time budget, so that the logits of tiles are kept (see `anytime`).
    """

    engines: Sequence[Engine]
    stride: tuple[int, ...]
    radius: tuple[int, ...]
    tile_independent: bool
    tile: tuple[int, ...]
    strategy: Strategy = "auto"
    overlap: float = 0.5
    border: tuple[int, ...] = (0, 0, 0)
    max_voxels: int = MAX_VOXELS
    weight: blend.Weight = "gaussian"
    regions: bool = False
    twin_channels: tuple[int, ...] = ()
    coarse_twins: tuple[int, ...] = ()
    flips: tuple[tuple[int, ...], ...] = ()
    batch: int = 1
    slab_voxels: int = 0
    slice_axes: tuple[int, ...] = (2,)
    context: int = 0
    maps: int = math.ceil(MOST_MAPS_ALIVE[1] * USUAL_WIDTH)
    timed: bool = False

    def __post_init__(self) -> None:
        mirrored = {axis for axes in self.flips for axis in axes}
        if mirrored and (0 in self.slice_axes or (self.context and mirrored & set(self.slice_axes))):
            raise UsageError(
                f"slices across the axes {self.slice_axes} cannot be averaged with mirrored slices",
                hint="predict without --tta",
            )
        if not self.engines or self.batch < 1:
            raise UsageError(
                f"a predictor needs at least 1 engine and a batch of at least 1, not {len(self.engines)} and "
                f"{self.batch}"
            )

    @classmethod
    def of(
        cls, spec: ModelSpec, engines: Sequence[Engine], *, max_voxels: int = MAX_VOXELS, batch: int = 1
    ) -> Predictor:
        """The predictor for a model."""
        structures, how = spec.structure_set, spec.inference
        return cls(
            engines=engines,
            stride=spec.facts.stride,
            radius=spec.facts.receptive_radius,
            tile_independent=spec.facts.tile_independent,
            tile=how.tile,
            strategy=how.strategy,
            overlap=how.overlap,
            max_voxels=max_voxels,
            weight=how.weight,
            regions=structures.are_regions,
            twin_channels=structures.twin_channels(),
            coarse_twins=spec.coarse_twins,
            flips=how.flips,
            batch=batch,
            slice_axes=spec.slices.axes,
            context=spec.slices.context,
            maps=values_alive(spec, engines[0].name) if engines else 0,
        )

    def plan(self, shape: Sequence[int]) -> Plan:
        """The tiles for an image of `shape` (i, j, k)."""
        return plan(
            shape,
            tile=_three(self.tile or self.stride, 1),
            stride=_three(self.stride, 1),
            radius=_three(self.radius, 0),
            tile_independent=self.tile_independent,
            strategy=self.strategy,
            overlap=self.overlap,
            border=_three(self.border, 0),
            max_voxels=self.max_voxels,
        )

    def rows(self, image: FloatArray, watch: Stopwatch | None = None) -> Iterator[tuple[slice, FloatArray]]:
        """Probabilities in runs of rows along axis i, first to last, each row once.

        Args:
            image: (C, i, j, k), prepared as in training; it is not changed.
            watch: counts the network's time as "engine".

        Yields:
            The rows, and their probabilities (K, rows, j, k).

        Raises:
            InputError: the image is not four-dimensional, or empty.
            SelfCheckError: an engine answered with values that are not finite.
            ModelError: an engine answered in another shape than asked for.
            UsageError, ResourceError: see `tiles.plan`.
        """
        if image.ndim != 4 or 0 in image.shape:
            raise InputError(f"an image must have the shape (C, i, j, k), not {image.shape}")
        if self.context or self.slice_axes != (2,):
            yield from self._sliced(image, watch)
            return
        cut = self.plan(image.shape[1:])
        if self.slab_voxels:
            yield from self._streamed(cut, image, watch or Stopwatch())
            return
        yield from self.activated(self._blended(cut, image, watch or Stopwatch()), image.shape[1:])

    def activated(
        self, runs: Iterable[tuple[slice, blend.Logits]], shape: Sequence[int]
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Probabilities of runs of blended logits of an image of `shape`, a few rows at a time."""
        for run, variants in runs:
            step = blend.rows_at_once(len(variants[0]), shape)
            for start in range(run.start, run.stop, step):
                stop = min(start + step, run.stop)
                part = slice(start - run.start, stop - run.start)
                yield slice(start, stop), blend.mean_probability([v[:, part] for v in variants], self.regions)

    def probabilities(self, image: FloatArray) -> FloatArray:
        """Probabilities (K, i, j, k) of the whole image (C, i, j, k); see `rows`."""
        whole: FloatArray | None = None
        for rows, part in self.rows(image):
            if whole is None:
                whole = np.empty((len(part), *image.shape[1:]), dtype=np.float32)
            whole[:, rows] = part
        if whole is None:
            raise SelfCheckError("the plan contains no tile")
        return whole

    def _sliced(self, image: FloatArray, watch: Stopwatch | None) -> Iterator[tuple[slice, FloatArray]]:
        """Probabilities of slices across other axes than the last, or with their neighbours.

        Slices across the first axis end in no row before all are done, so these are all held.
        """
        plain = replace(self, slice_axes=(2,), context=0)

        def runs(axis: int) -> Iterator[tuple[slice, FloatArray]]:
            return plain.rows(slices.with_neighbours(slices.turned(image, axis), self.context), watch)

        if self.slice_axes in ((1,), (2,)):
            (axis,) = self.slice_axes
            for rows, part in runs(axis):
                yield rows, slices.turned(part, axis)
            return
        mean = np.zeros((0,), np.float32)
        for axis in self.slice_axes:
            for rows, part in runs(axis):
                mean = mean if mean.size else np.zeros((len(part), *image.shape[1:]), np.float32)
                slices.turned(mean, axis)[:, rows] += part
        mean /= len(self.slice_axes)
        step = blend.rows_at_once(len(mean), image.shape[1:])
        for start in range(0, image.shape[1], step):
            stop = min(start + step, image.shape[1])
            yield slice(start, stop), mean[:, start:stop]

    def _blended(
        self, cut: Plan, image: FloatArray, watch: Stopwatch
    ) -> Iterator[tuple[slice, blend.Logits]]:
        """Rows of logits; summed on the accelerator where there is one and its memory suffices."""
        engine = self.engines[0]
        if len(self.engines) == 1 and not self.flips and isinstance(engine, CardEngine) and engine.on_card:
            done = 0
            try:
                tiles = self._card_logits(engine, cut, image, watch)
                for run, (logits,) in blend.rows(cut, tiles, self.weight, engine.adopt):
                    done = run.stop
                    yield run, [_finite(engine, engine.back(logits))]
                return
            except ResourceError:
                if done:
                    raise
        yield from blend.rows(cut, self.logits(cut, image, watch), self.weight)

    def _card_logits(
        self, engine: CardEngine, cut: Plan, image: FloatArray, watch: Stopwatch
    ) -> Iterator[tuple[Tile, Any]]:
        """Each tile with its logits, left where the engine made them; fewer at once where memory ends."""
        batch = max(self.batch, engine.batch_for(cut.tile_shape, self.maps))
        start = 0
        while start < len(cut.tiles):
            group = cut.tiles[start : start + batch]
            try:
                with watch.step("engine"):
                    logits = engine.there(np.stack([cut.read(image, tile) for tile in group]))
            except ResourceError:
                if batch == 1:
                    raise
                batch //= 2
                continue
            start += len(group)
            yield from ((tile, [answer]) for tile, answer in zip(group, logits, strict=True))

    @property
    def streams(self) -> bool:
        """Whether the engine can run in slabs: only for one engine and without mirrored scans."""
        return len(self.engines) == 1 and not self.flips and isinstance(self.engines[0], RowEngine)

    def _streamed(self, cut: Plan, image: FloatArray, watch: Stopwatch) -> Iterator[tuple[slice, FloatArray]]:
        """Probabilities of the one tile of a plan, row by row as the engine makes them."""
        (tile,), (engine,) = cut.tiles, self.engines
        if not isinstance(engine, RowEngine):
            raise UsageError(f"the engine {engine.name} cannot run in slabs", hint="allow more memory")
        stream = engine.rows(cut.read(image, tile)[None], self.slab_voxels)
        i, j, k = tile.keep.slices
        for rows, logits in watch.over("engine", stream):
            _finite(engine, logits)
            step = blend.rows_at_once(len(logits), image.shape[1:])
            for start in range(max(rows.start, i.start), min(rows.stop, i.stop), step):
                stop = min(start + step, rows.stop, i.stop)
                part = logits[:, start - rows.start : stop - rows.start, j, k]
                yield slice(start - i.start, stop - i.start), blend.mean_probability([part], self.regions)

    @property
    def views(self) -> tuple[tta.View, ...]:
        """The plain view of a tile, and one for each flip."""
        return tta.views(self.flips, self.twin_channels, self.coarse_twins)

    def at_once(self, cut: Plan) -> int:
        """Tiles of a plan that the engine is given at once."""
        return max(self.batch, AT_ONCE // math.prod(cut.tile_shape))

    def logits(
        self, cut: Plan, image: FloatArray, watch: Stopwatch, views: Sequence[tta.View] = ()
    ) -> Iterator[tuple[Tile, blend.Logits]]:
        """Each tile with the logits of every engine under every view, or under some.

        Of tiles that are nothing but one value a channel, such as the air around a head, only the first
        is computed: the same input has the same answer.
        """
        blank: dict[tuple[float, ...], blend.Logits] = {}
        tiles, batch = iter(cut.tiles), self.at_once(cut)
        while group := list(islice(tiles, batch)):
            contents = [cut.read(image, tile) for tile in group]
            constants = [_constants(content) for content in contents]
            first: dict[tuple[float, ...], int] = {}
            for n, values in enumerate(constants):
                if values is not None and values not in blank:
                    first.setdefault(values, n)
            fresh = [n for n, values in enumerate(constants) if values is None or first.get(values) == n]
            with watch.step("engine"):
                given = _together([contents[n] for n in fresh]) if fresh else None
                variants = [] if given is None else self._variants(given, views or self.views)
            answers = {n: [v[row] for v in variants] for row, n in enumerate(fresh)}
            blank |= {values: [logits.copy() for logits in answers[n]] for values, n in first.items()}
            for n, (tile, values) in enumerate(zip(group, constants, strict=True)):
                yield tile, answers[n] if values is None else blank[values]
            blank = dict(list(blank.items())[-1:])

    def _variants(self, content: FloatArray, views: Sequence[tta.View]) -> blend.Logits:
        """Logits (B, K, *tile) for tiles (B, C, *tile), of every engine under every view."""
        return [
            view.backward(_checked(engine, seen := view.forward(content), engine(seen)))
            for engine in self.engines
            for view in views
        ]


def values_alive(spec: ModelSpec, engine: str) -> int:
    """Values of feature maps, for each voxel of a tile, that the engine of a name stores at once."""
    openvino, torch = MAPS_ALIVE.get(spec.network.name, MOST_MAPS_ALIVE)
    maps = openvino if engine.startswith("openvino") else torch
    return math.ceil(maps * max(spec.network.widths[:1] or (USUAL_WIDTH,)))


def labels_from_probabilities(
    probabilities: FloatArray, structures: StructureSet
) -> NDArray[np.signedinteger | np.unsignedinteger]:
    """Label values (i, j, k) from probabilities (K, i, j, k), in the smallest suitable type.

    Labels: the most probable output, the earlier one where two are equal. Regions: each where
    its probability is above 0.5, painted in the order listed, later over earlier.

    Raises:
        ModelError: the structures need another number of outputs.
    """
    tta.require_outputs(len(probabilities), structures.output_channels)
    values = structures.values
    kind = np.result_type(*(np.min_scalar_type(v) for v in (0, *values)))
    labels = np.zeros(probabilities.shape[1:], dtype=kind)
    if structures.are_regions:
        for value, probability in zip(values, probabilities, strict=True):
            labels[probability > 0.5] = value
        return labels
    highest = probabilities[0].copy()
    for value, probability in zip(values, probabilities[1:], strict=True):
        labels[probability > highest] = value
        np.maximum(highest, probability, out=highest)
    return labels


def _constants(content: FloatArray) -> tuple[float, ...] | None:
    """The one value of each channel of a tile (C, i, j, k); None where there are more."""
    first = content[:, :1, :1, :1]
    if not (content[:, -1:, -1:, -1:] == first).all() or not (content == first).all():
        return None
    return tuple(first.ravel().tolist())


def _together(contents: Sequence[FloatArray]) -> FloatArray:
    """Tiles as one batch; a single one is not copied."""
    return contents[0][None] if len(contents) == 1 else np.stack(contents)


def _checked(engine: Engine, tiles: FloatArray, logits: FloatArray) -> FloatArray:
    """An engine's logits of tiles, if they have the right shape and are finite."""
    if logits.ndim != 5 or (len(logits), *logits.shape[2:]) != (len(tiles), *tiles.shape[2:]):
        raise ModelError(
            f"the engine {engine.name} returned the shape {logits.shape} for tiles of {tiles.shape}"
        )
    return _finite(engine, logits)


def _finite(engine: Engine, logits: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = bool(np.isfinite(logits.sum())) or bool(np.isfinite(np.sum(logits, dtype=np.float64)))
    if not finite:
        raise SelfCheckError(
            f"the network's output is not finite (engine {engine.name}, precision {engine.precision})",
            hint="predict in f32, and check the model's weights",
        )
    return logits


def _three(values: Sequence[int], last: int) -> tuple[int, int, int]:
    """Three values from two (a 2D network, with `last` for axis k) or three."""
    if len(values) not in (2, 3):
        raise UsageError(f"a setting per axis needs two or three values, not {tuple(values)}")
    i, j, k = (*values, last)[:3]
    return int(i), int(j), int(k)
