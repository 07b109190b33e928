"""From probabilities on the network's grid to labels on the scan's own, while tiles still finish.

Labels are taken from interpolated probabilities, which never exist as a whole: rows of them come in, are
interpolated, turned into labels, and dropped. An interpolated value is a mean of its neighbours, so an
output can only win where one of them is at least what a winner must have; elsewhere it need not be
interpolated, and the labels are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Box, around, bounding_box
from medseg.core.parallel import each, spans
from medseg.core.structures import StructureSet
from medseg.inference.tiles import FloatArray
from medseg.inference.tta import require_outputs
from medseg.preparation.preparation import Prepared
from medseg.preparation.resample import reached, resample, sources

SLAB_VALUES = 2**24
"""Probabilities, and labels, in hand at a time for each model."""

ROUNDING = 1e-4
"""Share by which rounding may lift an interpolated value, or lower the sum of the outputs."""

Labels = NDArray[np.signedinteger | np.unsignedinteger]
Rows = Iterator[tuple[slice, FloatArray]]
"""Runs of rows of axis i, first to last, each with its probabilities (K, rows, j, k)."""


def restored_labels(
    prepared: Sequence[Prepared], runs: Sequence[Rows], structures: StructureSet, *, threads: int = 1
) -> Labels:
    """Label values (I, J, K) on the scan's grid in RAS+ order, in the smallest suitable type.

    They are those of `labels_from_probabilities` for the mean of what `Prepared.restore` gives, to a voxel
    in ten thousand, where two outputs differ only by rounding.

    Args:
        prepared: the scan as each model saw it.
        runs: the probabilities of each model, on the grid it saw.
        structures: what the outputs are.
        threads: that paint rows side by side.

    Raises:
        ModelError: the structures need another number of outputs.
    """
    shape = prepared[0].oriented_shape
    kind = np.result_type(*(np.min_scalar_type(v) for v in (0, *structures.values)))
    labels = np.zeros(shape, dtype=kind)
    windows = [_Window(way, rows, structures) for way, rows in zip(prepared, runs, strict=True)]
    planes = [shape[1] * shape[2], *(w.way.grid.voxels // w.way.grid.shape[0] for w in windows)]
    step = max(1, SLAB_VALUES // (structures.output_channels * max(planes)))
    for start in range(0, shape[0], step):
        slab = labels[start : start + step]
        for window in windows:
            window.move(start, start + len(slab))
        _paint(slab, windows, structures, threads)
    for window in windows:
        window.finish()
    return labels


@dataclass
class _Window:
    """The rows of one model that a slab of the scan is made of.

    Attributes:
        way: between the scan and the grid the model saw.
        rows: what is still to come.
        structures: what the outputs are.
        slab: first row of the scan's, and behind the last.
        first: row of the grid that `held` begins with.
        held: probabilities (K, rows, j, k).
    """

    way: Prepared
    rows: Rows
    structures: StructureSet
    slab: tuple[int, int] = (0, 0)
    first: int = 0
    held: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0, 0), np.float32))

    def move(self, start: int, stop: int) -> None:
        """Load the rows that rows `start` to `stop` of the scan need, and drop earlier ones."""
        self.slab = (start, stop)
        box = self.way.box
        low, high = max(start, box.start[0]) - box.start[0], min(stop, box.stop[0]) - box.start[0]
        if low >= high:
            return
        first, last = sources(self.way.grid.shape[0], box.shape[0], low, high)
        parts = [self.held[:, max(0, first - self.first) :]] if self.held.size else []
        end = self.first + self.held.shape[1]
        while end < last:
            run, part = next(self.rows)
            require_outputs(len(part), self.structures.output_channels)
            parts.append(part[:, max(0, first - run.start) :])
            end = run.stop
        self.held = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        self.first = end - self.held.shape[1]

    def finish(self) -> None:
        """Let the rest come, for those who watch."""
        for _ in self.rows:
            pass

    def place(self, output: int, least: float, within: Box) -> Box | None:
        """The box of the scan, within the slab, outside which an output is less than `least`.

        Beyond what it saw, to the ends of `within`, a model says that all is background.
        """
        way, (start, stop) = self.way, self.slab
        if output == 0 and not self.structures.are_regions and way.box != within:
            low, up = max(start, within.start[0]), min(stop, within.stop[0])
            return Box((low, *within.start[1:]), (up, *within.stop[1:])) if low < up else None
        high = self.held[output] >= least if self.held.size else np.zeros((0, 0, 0), np.bool_)
        used = bounding_box(high)
        if used is None:
            return None
        rows = slice(used[0].start + self.first, used[0].stop + self.first)
        spans = [
            [first + n for n in reached(n_in, n_out, u.start, u.stop)]
            for u, n_in, n_out, first in zip(
                (rows, *used[1:]), way.grid.shape, way.box.shape, way.box.start, strict=True
            )
        ]
        low, up = max(spans[0][0], start), min(spans[0][1], stop)
        if low >= up:
            return None
        return Box((low, spans[1][0], spans[2][0]), (up, spans[1][1], spans[2][1]))

    def share(self, output: int, part: Box) -> FloatArray:
        """One output on a box of the scan; outside what the model saw, all is background."""
        box = self.way.box
        starts = [max(a, b) for a, b in zip(part.start, box.start, strict=True)]
        stops = [min(a, b) for a, b in zip(part.stop, box.stop, strict=True)]
        inner = np.empty((0, 0, 0), np.float32)
        if all(a < b for a, b in zip(starts, stops, strict=True)):
            rows, *plane = (slice(a - o, b - o) for a, b, o in zip(starts, stops, box.start, strict=True))
            of, content = (self.first, self.way.grid.shape[0]), self.held[output : output + 1]
            inner = resample(content, box.shape, rows, (plane[0], plane[1]), part_of=of)[0]
        if inner.shape == part.shape:
            return inner
        background = output == 0 and not self.structures.are_regions
        share = np.full(part.shape, float(background), np.float32)
        if inner.size:
            share[tuple(slice(a - o, b - o) for a, b, o in zip(starts, stops, part.start, strict=True))] = (
                inner
            )
        return share


def _paint(slab: Labels, windows: Sequence[_Window], structures: StructureSet, threads: int) -> None:
    """Write the labels of a slab (rows, J, K), some rows a thread.

    Later outputs have larger numbers, so that a maximum notes the one that wins: an assignment where one does
    takes many times as long.
    """
    regions = structures.are_regions
    values = structures.values if regions else (0, *structures.values)
    least = (0.5 if regions else 1 / len(values)) * (1 - ROUNDING)
    seen = around([window.way.box for window in windows])
    areas = []
    for output in range(len(values)):
        places = [place for w in windows if (place := w.place(output, least, seen)) is not None]
        if places:
            areas.append((output, around(places)))
    first = windows[0].slab[0]
    number = np.min_scalar_type(len(values))
    table = np.array(values if not regions else (0, *values), slab.dtype)

    def paint(span: tuple[int, int]) -> None:
        rows = slab[span[0] - first : span[1] - first]
        best = np.full(rows.shape, 0.5 if regions else -1.0, np.float32)
        winner = np.zeros(rows.shape, number)
        for output, area in areas:
            low, up = max(area.start[0], span[0]), min(area.stop[0], span[1])
            if low >= up:
                continue
            share = _share(windows, output, Box((low, *area.start[1:]), (up, *area.stop[1:])))
            inside = (slice(low - span[0], up - span[0]), *area.slices[1:])
            wins = (share > best[inside]).view(np.uint8)
            np.maximum(winner[inside], wins * number.type(output + regions), out=winner[inside])
            if not regions:
                np.maximum(best[inside], share, out=best[inside])
        rows[...] = table[winner]

    each(paint, spans(first, first + len(slab), threads), threads)


def _share(windows: Sequence[_Window], output: int, part: Box) -> FloatArray:
    """One output on a box of the scan, averaged over the models."""
    share = windows[0].share(output, part)
    for window in windows[1:]:
        share = share + window.share(output, part)
    if len(windows) > 1:
        share /= np.float32(len(windows))
    return share
