"""Tiling: input boxes of the network in a volume, and the voxels that each predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Box, Triple
from medseg.core.errors import ResourceError, UsageError

FloatArray = NDArray[np.float32]
Strategy = Literal["auto", "overlap_tile", "sliding_window"]

MAX_VOXELS = 160**3
"""Default limit of an overlap-tile tile: 2 GB in f32 where the network's finest level has 16 channels."""

MAPS_ALIVE: dict[str, tuple[float, float]] = {
    "unet": (3.5, 8.0),
    "attention_unet": (3.5, 9.5),
    "plain_unet": (3.5, 8.0),
    "unet3d": (4.5, 9.0),
    "vnet": (9.5, 10.0),
    "resunet": (9.5, 12.0),
    "unetpp": (9.0, 15.0),
    "fast_unet": (2.6, 4.6),
}
"""Feature maps that OpenVINO and torch hold at once, in maps of the network's first width at full resolution:
what was measured with batch and with instance norm (`benchmarks/footprint.py`), rounded up."""

MOST_MAPS_ALIVE = (10.0, 15.0)
"""Of networks that the table does not hold."""


@dataclass(frozen=True)
class Tile:
    """One input box of the network.

    Attributes:
        read: its box in the extended volume, as large as every other tile of the plan.
        write: the voxels of the image it answers for.
        keep: those same voxels, counted from the tile's own corner.
    """

    read: Box
    write: Box
    keep: Box


@dataclass(frozen=True)
class Plan:
    """Tiles that cover a volume, ordered so that rows of axis I are finished one after another.

    The tiles are boxes of an extended volume: the image with `before` voxels in front of it on each
    axis and as many behind as `extended` asks for, mirrored or zero.

    Attributes:
        strategy: "overlap_tile" (each voxel written once) or "sliding_window" (blended).
        shape: of the image (I, J, K).
        before: voxels in front of the image, per axis.
        extended: shape of the extended volume.
        tile_shape: of every tile.
        tiles: in order of the first row they write.
    """

    strategy: Literal["overlap_tile", "sliding_window"]
    shape: Triple
    before: Triple
    extended: Triple
    tile_shape: Triple
    tiles: tuple[Tile, ...]

    @property
    def redundancy(self) -> float:
        """Voxels the network computes for each voxel of the image."""
        return len(self.tiles) * math.prod(self.tile_shape) / math.prod(self.shape)

    def read(self, image: FloatArray, tile: Tile) -> FloatArray:
        """The tile's content, (C, *tile_shape), newly allocated, from the image (C, *shape)."""
        mirrored = self.strategy == "overlap_tile"
        behind = _triple(e - b - n for e, b, n in zip(self.extended, self.before, self.shape, strict=True))
        source = [
            _source(np.arange(start, stop) - front, size, mirrored and max(front, back) < size)
            for start, stop, front, back, size in zip(
                tile.read.start, tile.read.stop, self.before, behind, self.shape, strict=True
            )
        ]
        content: FloatArray = image[np.ix_(np.arange(len(image)), *source)].astype(np.float32, copy=False)
        if mirrored or tile.keep.shape == self.tile_shape:
            return content
        padded = np.zeros_like(content)
        inside = (slice(None), *tile.keep.slices)
        padded[inside] = content[inside]
        return padded


def plan(
    shape: Sequence[int],
    *,
    tile: Sequence[int],
    stride: Sequence[int],
    radius: Sequence[int],
    tile_independent: bool,
    strategy: Strategy = "auto",
    overlap: float = 0.5,
    border: Sequence[int] = (0, 0, 0),
    max_voxels: int = MAX_VOXELS,
) -> Plan:
    """Tiles for a volume.

    *Overlap-tile* (Ronneberger et al. 2015, arXiv:1505.04597, fig. 2): the image is mirrored
    by `border` voxels and up to a multiple of the stride; tiles start on multiples of the stride
    and see at least `radius` voxels beyond the voxels they answer for, except where the extended
    volume ends. So each voxel is predicted once, and equals what one tile over the whole extended
    volume would give. Tile size and number are those with the fewest voxels computed under
    `max_voxels`; `tile` and `overlap` are ignored.

    *Sliding window*: tiles of `tile` voxels every int(tile * (1 - overlap)) voxels, the last one
    flush with the volume's end; a volume smaller than the tile is centred in zeros.

    Args:
        shape: of the image (I, J, K).
        tile: tile in voxels.
        stride: total stride of the network per axis.
        radius: half its receptive field per axis, in voxels.
        tile_independent: no statistics of the network depend on the tile; needed for overlap-tile.
        strategy: "auto" takes overlap-tile where the network allows it.
        overlap: share of a sliding-window tile that overlaps the next, in [0, 1).
        border: mirrored voxels per side, beyond the rounding up to the stride; none by default, for
            networks are trained on patches whose ends are as bare.
        max_voxels: largest overlap-tile tile, in voxels.

    Raises:
        UsageError: the settings do not fit the network or each other.
        ResourceError: an exact tile needs more than `max_voxels`.
    """
    size, steps, halo = _triple(shape), _triple(stride), _triple(radius)
    chosen = strategy
    if strategy == "auto":
        chosen = "overlap_tile" if tile_independent else "sliding_window"
    if min(size) < 1 or min(steps) < 1 or min(halo) < 0:
        raise UsageError(
            f"shape {size} and stride {steps} must be positive, and radius {halo} must not be negative"
        )
    if chosen == "sliding_window":
        return _sliding_window(size, _triple(tile), steps, overlap)
    if not tile_independent:
        raise UsageError(
            "overlap-tile needs a network whose normalisation does not depend on the tile",
            hint="use the sliding window",
        )
    margin = _triple(border)
    return _overlap_tile(size, steps, halo, margin, max_voxels)


@dataclass(frozen=True)
class _Span:
    """One axis of a tile: where it reads, and which voxels of the image it writes."""

    read: int
    start: int
    stop: int


@lru_cache(maxsize=64)
def _overlap_tile(shape: Triple, stride: Triple, radius: Triple, border: Triple, max_voxels: int) -> Plan:
    extended = _triple(_up(n + 2 * b, s) for n, b, s in zip(shape, border, stride, strict=True))
    halo = _triple(map(_up, radius, stride))
    length = _cheapest(extended, halo, stride, max_voxels)
    spans = [
        _cores(e, tile, h, b, n)
        for e, tile, h, b, n in zip(extended, length, halo, border, shape, strict=True)
    ]
    return Plan("overlap_tile", shape, border, extended, length, tuple(_tiles(spans, length, border)))


def _cheapest(extended: Triple, halo: Triple, stride: Triple, max_voxels: int) -> Triple:
    """The tile shape that computes the fewest voxels in all, cutting axis I where two are equal."""
    options = [list(_lengths(e, h, s)) for e, h, s in zip(extended, halo, stride, strict=True)]
    smallest = math.prod(min(tile for _, tile in axis) for axis in options)
    if smallest > max_voxels:
        raise ResourceError(
            f"an exact tile needs at least {smallest:,} voxels (halo {halo} voxels a side, volume "
            f"{extended} with its mirrored border), but the limit is {max_voxels:,}",
            hint="allow more memory, or use the sliding window",
        )
    fitting = (choice for choice in product(*options) if math.prod(tile for _, tile in choice) <= max_voxels)
    best = min(fitting, key=lambda choice: (math.prod(n * tile for n, tile in choice), -choice[0][0]))
    return _triple(tile for _, tile in best)


def _lengths(extended: int, halo: int, stride: int) -> Iterator[tuple[int, int]]:
    """Ways to cut one axis: number of tiles, and the length that so many need.

    The outermost tiles answer for their length less one halo, the inner ones less two, so n tiles
    of length L cover n L - 2 (n - 1) halo voxels.
    """
    yield 1, extended
    shortest = extended
    for count in range(2, extended // stride + 1):
        length = _up(-(-(extended + 2 * halo * (count - 1)) // count), stride)
        if 2 * halo < length < shortest:
            shortest = length
            yield count, length


def _cores(extended: int, tile: int, halo: int, border: int, size: int) -> list[_Span]:
    """One axis of overlap-tile: cores that meet without a gap, in tiles of one length."""
    spans, core = [], 0
    while core < extended:
        read = max(0, min(core - halo, extended - tile))
        stop = extended if read + tile == extended else read + tile - halo
        span = _Span(read, max(core - border, 0), min(stop - border, size))
        if span.start < span.stop:
            spans.append(span)
        core = stop
    return spans


def _sliding_window(shape: Triple, tile: Triple, stride: Triple, overlap: float) -> Plan:
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap must be in [0, 1), not {overlap}")
    if any(t < 1 or t % s for t, s in zip(tile, stride, strict=True)):
        raise UsageError(f"tile {tile} must be a multiple of the network's stride {stride}")
    extended = _triple(map(max, shape, tile))
    before = _triple((e - n) // 2 for e, n in zip(extended, shape, strict=True))
    spans = [
        [
            _Span(start, max(start - b, 0), min(start + t - b, n))
            for start in _starts(e, t, max(1, int(t * (1 - overlap))))
        ]
        for e, t, b, n in zip(extended, tile, before, shape, strict=True)
    ]
    return Plan("sliding_window", shape, before, extended, tile, tuple(_tiles(spans, tile, before)))


def _starts(extended: int, tile: int, interval: int) -> list[int]:
    """Every `interval` voxels, the last tile flush with the end.

    >>> _starts(20, 8, 5)
    [0, 5, 10, 12]
    """
    return [*range(0, extended - tile, interval), extended - tile]


def _tiles(spans: Sequence[Sequence[_Span]], length: Triple, before: Triple) -> Iterator[Tile]:
    for combination in product(*spans):
        read = _triple(s.read for s in combination)
        start = _triple(s.start for s in combination)
        stop = _triple(s.stop for s in combination)
        shift = [b - r for b, r in zip(before, read, strict=True)]
        yield Tile(
            Box(read, _triple(r + n for r, n in zip(read, length, strict=True))),
            Box(start, stop),
            Box(
                _triple(a + d for a, d in zip(start, shift, strict=True)),
                _triple(a + d for a, d in zip(stop, shift, strict=True)),
            ),
        )


def _source(index: NDArray[np.intp], size: int, mirrored: bool) -> NDArray[np.intp]:
    """The voxel each position takes its value from: mirrored about the outer voxels, or the nearest."""
    if mirrored:
        index = (size - 1) - np.abs((size - 1) - np.abs(index))
    return np.clip(index, 0, size - 1)


def _up(value: int, multiple: int) -> int:
    """`value` rounded up to a multiple.

    >>> _up(17, 8)
    24
    """
    return -(-value // multiple) * multiple


def _triple(values: Sequence[int] | Iterator[int] | map[int]) -> Triple:
    i, j, k = (int(v) for v in values)
    return i, j, k
