"""Blending: combine tiles into rows of the volume, each as soon as it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from medseg.inference.tiles import FloatArray, Plan, Tile

Weight = Literal["gaussian", "constant"]
Logits = Sequence[FloatArray]
"""One array (K, *tile_shape) for each variant: each engine under each flip."""

Adopt = Callable[[FloatArray], Any]
"""Takes an array to where the logits are: an accelerator's memory, or nowhere."""

SIGMA_SCALE = 0.125
SMALLEST_WEIGHT = 1e-3

MAX_ROWS, ROW_VALUES = 32, 2**23
"""Rows that are handed on at once, and values of all outputs in them."""


def importance(tile: Sequence[int], weight: Weight) -> FloatArray:
    """Weight of each voxel of a sliding-window tile, in (0, 1].

    Gaussian: the product over the axes of exp(-x^2 / (2 sigma^2)), x from the tile's centre,
    sigma an eighth of the tile (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), nowhere
    below 1e-3 or the smallest value, whichever is larger, as MONAI has it.
    """
    weights = np.ones((1,) * len(tile), dtype=np.float32)
    if weight == "constant":
        return np.ones(tuple(tile), dtype=np.float32)
    for axis, size in enumerate(tile):
        x = np.arange(size) - (size - 1) / 2
        bell = np.exp(x**2 / (-2 * (SIGMA_SCALE * size) ** 2)).astype(np.float32)
        weights = weights * bell.reshape([-1 if a == axis else 1 for a in range(len(tile))])
    return np.maximum(weights, max(float(weights.min()), SMALLEST_WEIGHT))


def rows_at_once(outputs: int, shape: Sequence[int]) -> int:
    """Rows of a volume of `shape` (i, j, k) whose outputs are handed on at once."""
    return max(1, min(MAX_ROWS, ROW_VALUES // (outputs * shape[1] * shape[2])))


def rows(
    plan: Plan,
    predictions: Iterable[tuple[Tile, Logits]],
    weight: Weight = "gaussian",
    adopt: Adopt = np.asarray,
    share: Callable[[Tile], float] = lambda _: 1.0,
) -> Iterator[tuple[slice, Logits]]:
    """Weighted mean of the tiles, in runs of finished rows from first to last.

    Args:
        plan: where the tiles lie.
        predictions: each tile of the plan, in its order, with its logits; they are not changed.
        weight: of the sliding window; overlap-tile has one answer a voxel and needs none.
        adopt: takes an array to where the logits are; all sums are made there.
        share: of its weight that a tile of a sliding window counts with.

    Yields:
        The rows on axis I, and per variant their logits (K, rows, J, K).
    """
    weights = adopt(importance(plan.tile_shape, weight)) if plan.strategy == "sliding_window" else None
    pending: _Pending | None = None
    for tile, logits in predictions:
        first, last = tile.write.start[0], tile.write.stop[0]
        if weights is None and tile.write.shape[1:] == plan.shape[1:]:
            yield slice(first, last), [variant[(slice(None), *tile.keep.slices)] for variant in logits]
            continue
        if pending is None:
            pending = _Pending(plan, [len(variant) for variant in logits], weights, adopt)
        if first > pending.first:
            yield from pending.release(first)
        pending.add(tile, logits, share(tile))
    if pending is not None:
        yield from pending.release(plan.shape[0])


class _Pending:
    """Sums of the rows that further tiles may still add to."""

    def __init__(self, plan: Plan, channels: Sequence[int], weights: FloatArray | None, adopt: Adopt) -> None:
        height = min(plan.tile_shape[0], plan.shape[0])
        self.first = 0
        self.weights = weights
        self.sums = [adopt(np.zeros((k, height, *plan.shape[1:]), dtype=np.float32)) for k in channels]
        self.total = adopt(np.zeros((height, *plan.shape[1:]), dtype=np.float32))

    def add(self, tile: Tile, logits: Logits, share: float) -> None:
        keep = tile.keep.slices
        i, j, k = tile.write.slices
        here = (slice(i.start - self.first, i.stop - self.first), j, k)
        weights = None if self.weights is None else self.weights[keep]
        if weights is not None and share != 1:
            weights = weights * share
        if weights is not None:
            self.total[here] += weights
        for sums, variant in zip(self.sums, logits, strict=True):
            for channel, values in zip(sums, variant, strict=True):
                channel[here] += values[keep] if weights is None else values[keep] * weights

    def release(self, stop: int) -> Iterator[tuple[slice, Logits]]:
        """The means of the rows up to `stop`, which leave; a few at a time, for they are copies."""
        done = stop - self.first
        step = rows_at_once(len(self.sums[0]), self.sums[0].shape[1:])
        for start in range(0, done, step):
            part = slice(start, min(start + step, done))
            means = [
                sums[:, part] + 0 if self.weights is None else sums[:, part] / self.total[part]
                for sums in self.sums
            ]
            yield slice(self.first + part.start, self.first + part.stop), means
        for sums in self.sums:
            for channel in sums:
                _shift(channel, done)
        _shift(self.total, done)
        self.first = stop


def _shift(pending: FloatArray, done: int) -> None:
    """Move the rows after the first `done` to the front, and clear the rest."""
    left = len(pending) - done
    pending[:left] = pending[done:] + 0
    pending[left:] = 0


def mean_probability(variants: Logits, regions: bool) -> FloatArray:
    """Softmax or, of regions, sigmoid of each variant's logits (K, ...), averaged."""
    activate = _sigmoid if regions else _softmax
    mean: FloatArray = activate(variants[0])
    for variant in variants[1:]:
        mean += activate(variant)
    if len(variants) > 1:
        mean /= len(variants)
    return mean


def _sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow."""
    half: FloatArray = np.tanh(np.float32(0.5) * logits)
    half += 1
    half *= np.float32(0.5)
    return half


def _softmax(logits: FloatArray) -> FloatArray:
    """exp(x_k) / sum over k of exp(x_k), along the first axis; row by row, which stays in the cache."""
    powers: FloatArray = np.empty_like(logits)
    for row, found in zip(np.moveaxis(logits, 1, 0), np.moveaxis(powers, 1, 0), strict=True):
        np.exp(row - row.max(axis=0), out=found)
        found /= found.sum(axis=0)
    return powers
