"""Prediction that may be ended early: a quick look at the whole scan, then tiles where that was unsure.

An anytime algorithm (Zilberstein 1996, doi:10.1609/aimag.v17i3.1232): a result exists soon, and more time
makes a better one. The quick look computes each voxel about once: of a sliding window in as few large tiles
as hold the image, of overlap-tile in its own, in both cases of the plain view. Then the tiles of the whole
prediction follow, those of the plain view first, in the order of what they are expected to change. Where a
tile is missing the quick look takes its place with a small share of its weight, so that it counts where no
other tile lies. With no tile missing the sums are those of a prediction without haste, in their order.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Triple
from medseg.core.stopwatch import Stopwatch
from medseg.inference import blend
from medseg.inference.predictor import Predictor
from medseg.inference.restore import Rows
from medseg.inference.tiles import MAX_VOXELS, FloatArray, Plan, Tile

STAND_IN = 0.05
"""Share of its weight with which the quick look stands for a tile that is missing."""

ADDED, DIVIDED = 4, 3
"""Passes over the values of a tile that is blended, and over those of the image: measured, about."""

FLOAT = 4


def quick(predictor: Predictor, shape: Triple) -> Predictor:
    """What looks at an image of `shape` (i, j, k) about once, and not at its mirror image."""
    plain = replace(predictor, flips=())
    own = plain.plan(shape)
    if own.strategy == "overlap_tile":
        return plain
    pieces = [1, 1, 1]
    while math.prod(tile := _tile(shape, pieces, predictor.stride)) > MAX_VOXELS:
        pieces[int(np.argmax(tile))] += 1
    few = replace(plain, tile=tile, overlap=0.0)
    return few if few.plan(shape).redundancy < own.redundancy else plain


def _tile(shape: Triple, pieces: Sequence[int], stride: Sequence[int]) -> Triple:
    """The tile of which so many along each axis hold an image of `shape`."""
    i, j, k = (-(-n // (p * s)) * s for n, p, s in zip(shape, pieces, stride, strict=True))
    return i, j, k


def tile_voxels(predictor: Predictor, shape: Triple) -> int:
    """Voxels of the largest tile that is computed."""
    own, few = predictor.plan(shape), quick(predictor, shape).plan(shape)
    return max(math.prod(own.tile_shape), math.prod(few.tile_shape))


def bytes_held(predictor: Predictor, shape: Triple, outputs: int) -> int:
    """An upper bound of the bytes of logits that wait for the end; 0 where nothing follows the quick look."""
    plan, few = predictor.plan(shape), quick(predictor, shape).plan(shape)
    if plan == few and not predictor.flips:
        return 0
    tiles = (1 + len(predictor.flips)) * len(plan.tiles) * math.prod(plan.tile_shape)
    return FLOAT * (outputs * (tiles + 3 * math.prod(few.shape)) + 2 * math.prod(shape))


class Anytime:
    """The prediction of one image, which gets better with each step.

    Args:
        predictor: what predicts without haste, with one engine.
        image: (C, i, j, k), prepared as in training.
        watch: counts the time.

    Attributes:
        quick: the predictor of the quick look.
        parts: what is still to be computed, first to last: a view, and tiles of the plan by number.
        done: logits of the tiles that were computed, by view and number.
        looking_seconds: what the quick look took.
    """

    def __init__(self, predictor: Predictor, image: FloatArray, watch: Stopwatch) -> None:
        self.predictor, self.image, self.watch = predictor, image, watch
        self.shape: Triple = (image.shape[1], image.shape[2], image.shape[3])
        self.quick = quick(predictor, self.shape)
        self.plan, self._few = predictor.plan(self.shape), self.quick.plan(self.shape)
        self.views = predictor.views
        self.done: dict[tuple[int, int], FloatArray] = {}
        self.parts: list[tuple[int, range]] = []
        self._seen: FloatArray | None = None
        self._paces: list[float] = []
        self._blending = 0.0
        self._advanced = False
        self.looking_seconds = 0.0

    @property
    def of(self) -> int:
        """Tiles that there are, each counted once a view."""
        return len(self.views) * len(self.plan.tiles)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those of the tiles at full quality, from 0; all where the quick look was the whole."""
        if self._is_whole:
            return tuple(range(self.of))
        return tuple(sorted(view * len(self.plan.tiles) + number for view, number in self.done))

    @property
    def _is_whole(self) -> bool:
        return self.plan == self._few and len(self.views) == 1

    @property
    def next_seconds(self) -> float:
        """What the next part is expected to take, at the slower pace of the last two."""
        return max(self._paces[-2:]) * len(self.parts[0][1]) * math.prod(self.plan.tile_shape)

    @property
    def blending_seconds(self) -> float:
        """What blending all tiles is expected to take."""
        passes, looked = (ADDED * plan.redundancy + DIVIDED for plan in (self.plan, self._few))
        return self._blending * len(self.views) * passes / looked

    def look(self) -> None:
        """Take the quick look, where it is not the whole prediction."""
        if self._is_whole:
            return
        began = self.watch.elapsed
        found = list(self.quick.logits(self._few, self.image, self.watch, self.views[:1]))
        looked = self.watch.elapsed
        self._paces.append((looked - began) / (len(found) * math.prod(self._few.tile_shape)))
        if self.plan == self._few:
            self.done = {(0, number): logits for number, (_, (logits,)) in enumerate(found)}
        runs = blend.rows(self._few, found, self.quick.weight)
        self._seen = np.concatenate([logits for _, (logits,) in runs], axis=1)
        self._blending = self.watch.elapsed - looked
        self.looking_seconds = self.watch.elapsed - began
        size, count = self.predictor.at_once(self.plan), len(self.plan.tiles)
        parts = [range(first, min(first + size, count)) for first in range(0, count, size)]
        views = range(len(self.views))
        self.parts = [(view, part) for view in views for part in parts if (view, part[0]) not in self.done]

    def order(self) -> None:
        """Put the parts in order: the plain view first, and of a view what is expected to change most."""
        if not self.parts:
            return
        unsure, winner = np.empty(self.shape, np.float32), np.empty(self.shape, np.int16)
        for rows, part in self._quick_rows():
            unsure[rows], winner[rows] = _unsure(part, self.predictor.regions)
        shares = 1 / np.maximum(np.bincount(winner.ravel()), 1)
        shares[0] = 0
        unsure *= shares.astype(np.float32)[winner]
        weights = np.ones(self.plan.tile_shape, np.float32)
        if self.plan.strategy == "sliding_window":
            weights = blend.importance(self.plan.tile_shape, self.predictor.weight)
        order = _by_gain(self.plan, list(dict.fromkeys(part for _, part in self.parts)), unsure, weights)
        self.parts.sort(key=lambda part: (part[0], order.index(part[1])))

    def _quick_rows(self) -> Rows:
        runs = [] if self._seen is None else [(slice(0, self.shape[0]), [self._seen])]
        return self.predictor.activated(runs, self.shape)

    def keep(self, numbers: Collection[int]) -> None:
        """Leave out all parts but those with these tiles, see `numbers`."""
        count = len(self.plan.tiles)
        self.parts = [(view, part) for view, part in self.parts if view * count + part[0] in numbers]

    def advance(self) -> None:
        """Compute the next part."""
        self._advanced = True
        view, numbers = self.parts.pop(0)
        tiles = tuple(self.plan.tiles[number] for number in numbers)
        began = self.watch.elapsed
        found = self.predictor.logits(
            replace(self.plan, tiles=tiles), self.image, self.watch, self.views[view : view + 1]
        )
        for number, (_, (logits,)) in zip(numbers, found, strict=True):
            self.done[view, number] = logits
        self._paces.append((self.watch.elapsed - began) / (len(tiles) * math.prod(self.plan.tile_shape)))

    def rows(self) -> Rows:
        """Probabilities of all that was computed, as `Predictor.rows` gives them."""
        if self._is_whole:
            return self.predictor.rows(self.image, self.watch)
        if not self._advanced:
            return self._quick_rows()
        filled = (
            (tile, [self._logits(view, number, tile) for view in range(len(self.views))])
            for number, tile in enumerate(self.plan.tiles)
        )
        missing = {tile for number, tile in enumerate(self.plan.tiles) if (0, number) not in self.done}
        runs = blend.rows(
            self.plan, filled, self.predictor.weight, share=lambda tile: STAND_IN if tile in missing else 1.0
        )
        return self.predictor.activated(runs, self.shape)

    def unfinished(self) -> NDArray[np.bool_]:
        """Where (i, j, k) no tile of the plan was computed."""
        found = np.full(self.shape, self.plan != self._few)
        for view, number in self.done:
            if view == 0:
                found[self.plan.tiles[number].write.slices] = False
        return found

    def _logits(self, view: int, number: int, tile: Tile) -> FloatArray:
        """Of a tile, or what stands for it: its plain view, or the quick look."""
        found = self.done.get((view, number), self.done.get((0, number)))
        if found is None and self._seen is not None:
            found = np.empty((len(self._seen), *self.plan.tile_shape), np.float32)
            found[(slice(None), *tile.keep.slices)] = self._seen[(slice(None), *tile.write.slices)]
        return np.empty(0, np.float32) if found is None else found


def _unsure(probabilities: FloatArray, regions: bool) -> tuple[FloatArray, NDArray[np.intp]]:
    """How far each voxel (i, j, k) is from a certain answer; the structure that wins, from 1, or 0."""
    best: FloatArray = probabilities.max(axis=0)
    winner = probabilities.argmax(axis=0)
    if not regions:
        return 1 - best, winner
    nearest = np.abs(probabilities - np.float32(0.5)).min(axis=0)
    return np.float32(0.5) - nearest, np.where(best > 0.5, winner + 1, 0)


def _by_gain(plan: Plan, parts: Sequence[range], unsure: FloatArray, weights: FloatArray) -> list[range]:
    """Parts by what each adds to those before it.

    A voxel is as well known as its weight in the best tile that saw it. A tile gains what it raises that by,
    times how unsure the voxel is, as a share of its structure, which is what a Dice counts. Gains
    only fall, so the first of the last known is asked again until it stays the first (Minoux 1978,
    doi:10.1007/BFb0006528).
    """
    known = np.zeros_like(unsure)

    def gain(part: range) -> float:
        total = 0.0
        for tile in (plan.tiles[number] for number in part):
            raised = np.maximum(weights[tile.keep.slices] - known[tile.write.slices], 0)
            total += float((unsure[tile.write.slices] * raised).sum(dtype=np.float64))
        return total

    left = [(-gain(part), number) for number, part in enumerate(parts)]
    heapq.heapify(left)
    order = []
    while left:
        number = left[0][1]
        now = (-gain(parts[number]), number)
        if now > left[0]:
            heapq.heapreplace(left, now)
            continue
        heapq.heappop(left)
        order.append(parts[number])
        for tile in (plan.tiles[n] for n in parts[number]):
            np.maximum(known[tile.write.slices], weights[tile.keep.slices], out=known[tile.write.slices])
    return order
