"""Refinement: place borders by the intensities of the scan, with the network's output as prior.

A network that works on coarse voxels gives the prior of a mixture of tissues that is fitted to this very
scan (`mixture`), so that borders are found at the scan's own resolution in any contrast (Ashburner and
Friston 2005, doi:10.1016/j.neuroimage.2005.02.018; Puonti et al. 2016, doi:10.1016/j.neuroimage.2016.09.011).
Per structure the model says how wide the prior is and how far the scan is followed (`RefinementSpec`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Box, Slices, Triple, around, bounding_box, relative, union, widened
from medseg.core.parallel import each
from medseg.core.structures import StructureSet
from medseg.inference import mixture
from medseg.inference.engines.base import available_threads
from medseg.inference.mixture import Mixture, Sample
from medseg.inference.restore import Labels, Rows
from medseg.inference.tiles import FloatArray
from medseg.model.refinement import RefinementSpec
from medseg.preparation.preparation import Prepared
from medseg.preparation.resample import Bands, axis_weights

LEAST, CORE, MARGIN = 0.005, 0.05, 5
"""A probability below the first counts as none. So does one that lies outside the box of those above the
second by more than the third, in voxels of the prepared grid: such specks are noise."""

BYTES_PER_VOXEL = 28
"""What is held of the prior for each voxel of the prepared grid: eight values in half precision while it
comes by, where 2.3 to 8 were measured, then three."""

STRIDE = 2
"""The fit sees one in so many voxels of the prepared grid along each axis."""

SAMPLED_VOXELS = 50_000
"""And about so many of them, or somewhat fewer."""

BACKGROUND = 0.99
"""Voxels that are background with more than this probability are left alone."""

SLAB_VOXELS, SLAB_ARRAYS, SLABS = 2**17, 40, 4
"""Voxels of the scan that are labelled at a time, arrays of them there are at once, and slabs at most that
are labelled side by side."""


def bytes_held(prepared: Triple, scan: Triple) -> int:
    """An upper bound of the bytes that refinement needs beside the labels, for grids of these shapes."""
    arrays = (
        np.dtype(np.float32).itemsize * SLAB_ARRAYS * min(_slabs_at_once() * SLAB_VOXELS, math.prod(scan))
    )
    return BYTES_PER_VOXEL * math.prod(prepared) + arrays


def _slabs_at_once() -> int:
    """Slabs at most that are labelled side by side."""
    return min(SLABS, available_threads())


@dataclass(frozen=True)
class Refined:
    """What refinement made of a prediction.

    Attributes:
        labels: values (I, J, K) on the scan's grid in RAS+ order.
        contrast: of each two kinds of tissue ("white and grey"), the distance of their means over their
            spread.
        mixture: of the scan's tissues.
    """

    labels: Labels
    contrast: dict[str, float]
    mixture: Mixture


def refined_labels(
    prepared: Prepared,
    image: NDArray[np.generic],
    rows: Rows,
    spec: RefinementSpec,
    structures: StructureSet,
    *,
    threads: int = 1,
) -> Refined:
    """Labels from the probabilities of a model and the intensities of the scan.

    Args:
        prepared: the scan as the model saw it.
        image: one channel of the scan (I, J, K) in RAS+ order.
        rows: the probabilities, on the grid of `prepared`.
        spec: how far each structure follows the scan.
        structures: what the outputs are; no regions.
        threads: that label slabs side by side.
    """
    cut = image[prepared.box.slices]
    prior = _Prior.collected(rows, structures)
    numbers = spec.class_numbers(structures)
    known = tuple(dict.fromkeys(group.kind for group in spec.classes))
    kinds = tuple(known.index(group.kind) for group in spec.classes)
    steps = [_Step.of(prior, n, spec, structures, prepared, numbers[n]) for n in range(len(structures))]
    found = [step for step in steps if step is not None]
    labels = np.zeros(prepared.oriented_shape, np.result_type(*map(np.min_scalar_type, structures.values)))
    fitted = mixture.fit(_sample(cut, prepared.grid.shape, found, len(kinds)), kinds)
    if found:
        painter = _Painter(cut, fitted, found, spec.usual.likelihood)
        inner = labels[prepared.box.slices]
        each(
            lambda rows: painter.paint(inner, rows), painter.slabs(), min(threads, SLABS, available_threads())
        )
    contrast = {f"{known[a]} and {known[b]}": value for (a, b), value in fitted.contrast.items()}
    return Refined(labels, contrast, fitted)


@dataclass(frozen=True, eq=False)
class _Prior:
    """Probabilities of each structure where they are not next to nothing.

    Attributes:
        parts: of each structure, a box of the grid and what lies in it; None where there is nothing.
    """

    parts: Sequence[tuple[Box, FloatArray] | None]

    @classmethod
    def collected(cls, rows: Rows, structures: StructureSet) -> _Prior:
        """From rows of probabilities as they come by."""
        pieces: list[list[tuple[Box, NDArray[np.float16]]]] = [[] for _ in structures]
        for run, part in rows:
            for place, output in zip(pieces, part[-len(structures) :], strict=True):
                counts = output > LEAST
                inner = bounding_box(counts)
                if inner is not None:
                    kept = (output[inner] * counts[inner]).astype(np.float16)
                    place.append((Box.of(inner).moved((run.start, 0, 0)), kept))
        return cls([_joined(place) for place in pieces])


@dataclass(frozen=True, eq=False)
class _Step:
    """One structure on its way to the scan's grid.

    Attributes:
        value: its label.
        number: its class.
        likelihood: how far it follows the scan.
        prior: probabilities in a box of the prepared grid.
        coarse: matrices along the axes that blur them on the prepared grid, rows its voxels.
        fine: matrix that blurs them along the first axis and carries them to the scan's grid, cut to the rows
            they reach.
        plane: the same along the others.
        box: of the scan's grid that they reach.
    """

    value: int
    number: int
    likelihood: float
    prior: FloatArray
    coarse: Sequence[FloatArray]
    fine: FloatArray
    plane: Sequence[Bands]
    box: Box

    @classmethod
    def of(
        cls,
        prior: _Prior,
        index: int,
        spec: RefinementSpec,
        structures: StructureSet,
        prepared: Prepared,
        number: int,
    ) -> _Step | None:
        part = prior.parts[index]
        if part is None:
            return None
        structure, (box, values) = structures.items[index], part
        trust = spec.trust(structures, structure.name)
        grid = prepared.grid
        coarse, fine, starts, stops = [], [], [], []
        for n, out, mm, cut in zip(grid.shape, prepared.box.shape, grid.spacing_mm, box.slices, strict=True):
            blur = _blur(n, trust.width_mm / mm)[:, cut]
            whole = axis_weights(n, out) @ blur
            used = np.flatnonzero(whole.any(axis=1))
            coarse.append(blur)
            fine.append(whole[used[0] : used[-1] + 1])
            starts.append(int(used[0]))
            stops.append(int(used[-1]) + 1)
        reach = Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))
        scaled = values if trust.scale == 1 else values * np.float32(trust.scale)
        along_i, *others = fine
        return cls(
            structure.value, number, trust.likelihood, scaled, coarse, along_i, [*map(Bands, others)], reach
        )

    def sampled(self) -> tuple[tuple[slice, ...], FloatArray]:
        """Blurred, at every `STRIDE`-th voxel of the prepared grid it reaches."""
        thin = [matrix[::STRIDE] for matrix in self.coarse]
        used = [np.flatnonzero(matrix.any(axis=1)) for matrix in thin]
        parts = tuple(slice(int(u[0]), int(u[-1]) + 1) if u.size else slice(0, 0) for u in used)
        return parts, _carried(self.prior, [Bands(m[p]) for m, p in zip(thin, parts, strict=True)])

    def rows(self, first: int, stop: int) -> FloatArray:
        """On rows `first` to `stop` of the scan's grid, within its box."""
        start = self.box.start[0]
        return _carried(self.prior, [Bands(self.fine[first - start : stop - start]), *self.plane])


class _Painter:
    """Labels the scan slab by slab.

    Args:
        image: the scan (I, J, K) within the crop, RAS+.
        fitted: its mixture.
        steps: the structures.
        usual: how far the background follows the scan.
    """

    def __init__(
        self, image: NDArray[np.generic], fitted: Mixture, steps: Sequence[_Step], usual: float
    ) -> None:
        self.image, self.fitted, self.steps = image, fitted, steps
        self.usual = usual * fitted.trusted
        self.beliefs = [fitted.belief(number) for number in range(len(fitted.kinds))]
        self.tables = fitted.tables()
        self.box = around([step.box for step in steps])
        self.kind = np.result_type(*(np.min_scalar_type(step.value) for step in steps))

    def slabs(self) -> list[slice]:
        """Rows of the scan that are labelled at a time."""
        start, stop = self.box.start[0], self.box.stop[0]
        step = max(1, SLAB_VOXELS // math.prod(self.box.shape[1:]))
        return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]

    def paint(self, scan: Labels, rows: slice) -> None:
        """Write the labels of some rows of the scan."""
        scan[(rows, *self.box.slices[1:])] = self._labels(rows)

    def _labels(self, rows: slice) -> Labels:
        slab = _Slab(self, rows)
        evidence = slab.background * slab.pure(len(self.fitted.kinds))
        best = evidence * np.float32(self.usual)
        labels = np.zeros(best.shape, self.kind)
        likelihoods = {number: slab.likelihood(number) for number in slab.classes}
        for number, likelihood in likelihoods.items():
            part = slab.boxes[number]
            evidence[part] += slab.classes[number][part] * likelihood
        if self.usual < 1:
            best += evidence * slab.background * np.float32(1 - self.usual)
        best[slab.background > BACKGROUND] = np.inf
        for step, part, prior in slab.parts:
            own = likelihoods[step.number][relative(part, slab.boxes[step.number])]
            follow = step.likelihood * self.beliefs[step.number]
            score = own * np.float32(follow)
            if follow < 1:
                score += evidence[part] * np.float32(1 - follow)
            score *= prior
            wins = score > best[part]
            labels[part][wins] = step.value
            np.maximum(best[part], score, out=best[part])
        return labels


class _Slab:
    """Priors and likelihoods of some rows of the scan."""

    def __init__(self, painter: _Painter, rows: slice) -> None:
        self.painter, fitted = painter, painter.fitted
        _, j, k = painter.box.slices
        self.shape = (rows.stop - rows.start, j.stop - j.start, k.stop - k.start)
        self.parts = list(self._parts(rows))
        self.boxes: dict[int, Slices] = {}
        self.classes: dict[int, FloatArray] = {}
        for step, part, prior in self.parts:
            whole = self.classes.setdefault(step.number, np.zeros(self.shape, np.float32))
            whole[part] += prior
            self.boxes[step.number] = union((self.boxes.get(step.number, part), part))
        self.kinds: dict[int, FloatArray] = {}
        for number, prior in self.classes.items():
            kind = fitted.kinds[number]
            self.kinds[kind] = self.kinds[kind] + prior if kind in self.kinds else prior
        total = sum(self.kinds.values(), np.zeros(self.shape, np.float32))
        self.background: FloatArray = np.clip(1 - total, 0, 1)
        places = [
            (np.arange(n)[part] + 0.5) / n * 2 - 1
            for n, part in zip(painter.image.shape, (rows, j, k), strict=True)
        ]
        scaled = fitted.scaled(painter.image[rows, j, k])
        scaled /= fitted.field(places)
        self.bins = mixture.bins(scaled)

    def _parts(self, rows: slice) -> Iterator[tuple[_Step, tuple[slice, slice, slice], FloatArray]]:
        """Each structure that reaches these rows, where in the slab, and its prior there."""
        _, j0, k0 = self.painter.box.start
        for step in self.painter.steps:
            i, j, k = step.box.slices
            first, stop = max(i.start, rows.start), min(i.stop, rows.stop)
            if first < stop:
                part = (
                    slice(first - rows.start, stop - rows.start),
                    slice(j.start - j0, j.stop - j0),
                    slice(k.start - k0, k.stop - k0),
                )
                yield step, part, step.rows(first, stop)

    def pure(self, number: int) -> FloatArray:
        """Density of a class's own intensities, and of outliers."""
        table = self.painter.tables.pure[number] + np.float32(mixture.OUTLIERS)
        return np.take(table, self.bins)

    def likelihood(self, number: int) -> FloatArray:
        """Density of a class in its box: of voxels it fills, and of those it shares with other kinds."""
        box, tables = self.boxes[number], self.painter.tables
        where, own = self.bins[box], self.painter.fitted.kinds[number]
        pure = np.take(tables.pure[number], where)
        found: FloatArray = pure + np.float32(mixture.OUTLIERS)
        for kind, prior in self.kinds.items():
            if kind != own:
                gain = np.take(tables.mixed[number, kind], where)
                gain -= pure
                gain *= prior[box]
                gain *= np.float32(mixture.MIXED)
                found += gain
        return found


def _sample(image: NDArray[np.generic], shape: Triple, steps: Sequence[_Step], classes: int) -> Sample:
    """Voxels near centres of the prepared grid, as the scan has them, with their priors."""
    thin = tuple(len(range(0, n, STRIDE)) for n in shape)
    prior = np.zeros((classes, *thin), np.float32)
    for step in steps:
        part, values = step.sampled()
        prior[step.number][part] += values
    background = np.clip(1 - prior.sum(axis=0), 0, 1)
    found = np.flatnonzero(background < BACKGROUND)
    chosen = np.unravel_index(found[:: 1 + len(found) // SAMPLED_VOXELS], thin)
    places = [(STRIDE * index + 0.5) / n for index, n in zip(chosen, shape, strict=True)]
    nearest: tuple[NDArray[np.intp], ...] = tuple(
        np.minimum((place * size).astype(np.intp), size - 1)
        for place, size in zip(places, image.shape, strict=True)
    )
    return Sample(
        values=image[nearest].astype(np.float64),
        prior=np.stack([part[chosen] for part in prior], axis=1).astype(np.float64),
        background=background[chosen].astype(np.float64),
        places=np.stack(places, axis=1) * 2 - 1,
    )


def _carried(values: FloatArray, along: Sequence[Bands]) -> FloatArray:
    """Values (i, j, k) after a matrix along each axis."""
    along_i, along_j, along_k = along
    first = along_i.along_rows(values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    return along_k.along_last(along_j.along_rows(first))


def _blur(voxels: int, deviation: float) -> FloatArray:
    """A Gaussian along an axis as a matrix whose rows sum to 1; none where it is narrow."""
    if deviation < 0.05:
        return np.eye(voxels, dtype=np.float32)
    distance = np.subtract.outer(np.arange(voxels), np.arange(voxels)) / deviation
    weights = np.exp(-0.5 * distance**2)
    weights[weights < 1e-4] = 0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _joined(pieces: list[tuple[Box, NDArray[np.float16]]]) -> tuple[Box, FloatArray] | None:
    """Pieces in one box around their core, which are used up; None where there is no core."""
    if not pieces:
        return None
    box = around([piece for piece, _ in pieces])
    whole = np.zeros(box.shape, np.float32)
    while pieces:
        piece, values = pieces.pop()
        whole[relative(piece.slices, box.slices)] = values
    core = bounding_box(whole > CORE)
    if core is None:
        return None
    kept = widened(core, MARGIN, whole.shape)
    return Box.of(kept).moved(box.start), whole[kept].copy()
