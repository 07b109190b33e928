"""A large tile without large feature maps: the finest level in slabs, coarser levels whole, same output.

Of a U-Net's feature maps those at full resolution are eight times as large as all others together, but they
see only a few voxels around each position until the first pooling, and again after the last up-convolution.
So the graph is cut in three: `down` from the image to the first pooled map, `middle` from there to the map
that the last up-convolution takes, and `up` from that and the image (whose first convolutions are done again,
rather than kept) to the logits. `down` and `up` run on slabs along the first axis with the few voxels around
them that they see, `middle` runs once. Nothing is approximated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.inference.engines.base import FloatArray
from medseg.inference.engines.lean import opset13, ov

POINTWISE = frozenset(
    ("Add", "Concat", "Convert", "Divide", "Elu", "Multiply", "PRelu", "Relu", "Sigmoid", "Subtract")
)
CONVOLUTIONS = frozenset(("Convolution", "GroupConvolution"))
BLOCKS = frozenset(("ConvolutionBackpropData", "MaxPool"))
"""Operations between levels; taken where each block of voxels belongs to one coarser voxel."""

LEAST_HALOS = 4
"""Rows of a slab, in halos, below which it would be all halo."""

FLOAT, RANK, CHANNELS = 4, 5, 16
"""Bytes of a value, axes of a map, and the channels that the processor takes together."""

Compile = Callable[[ov.Model], Any]


@dataclass(frozen=True)
class Slab:
    """Rows of the image: what is read, and what of it is answered for."""

    start: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a graph for tiles of one shape is cut, all nodes by their names.

    Attributes:
        pooled: makes the first coarser map.
        deep: makes the map that the finest level takes back.
        stride: voxels per axis to one of a coarser map.
        halo: rows around a slab that its rows see, a multiple of the stride.
    """

    pooled: str
    deep: str
    stride: tuple[int, int, int]
    halo: int


def find_cut(graph: ov.Model) -> Cut | None:
    """Where to cut a graph of static shape; None where it is not built as the module says."""
    size = _sizes(graph.input(0).get_node())
    reach: dict[str, int] = {graph.input(0).get_node().get_friendly_name(): 0}
    down, back = set(), set()
    coarse: set[str] = set()
    for node in graph.get_ordered_ops():
        sources = [s for s in _sources(node) if s.get_friendly_name() in reach.keys() | coarse]
        if not sources or node.get_type_name() == "Result":
            continue
        name, fine = node.get_friendly_name(), _sizes(node) == size
        above = [s for s in sources if s.get_friendly_name() in reach]
        below = [s.get_friendly_name() for s in sources if s.get_friendly_name() in coarse]
        if not fine and above:
            down.add((name, max(reach[s.get_friendly_name()] for s in above)))
        if not fine:
            coarse.add(name)
            continue
        radius = _radius(node)
        if radius is None:
            return None
        back.update(below)
        reach[name] = radius + max((reach[s.get_friendly_name()] for s in above), default=0)
    last = graph.output(0).get_node().input_value(0).get_node().get_friendly_name()
    if len(down) != 1 or len(back) != 1 or last not in reach:
        return None
    (pooled, before), (deep,) = *down, back
    return _checked(graph, pooled, deep, max(before, reach[last]), size)


def _checked(graph: ov.Model, pooled: str, deep: str, reach: int, size: tuple[int, int, int]) -> Cut | None:
    """The cut, if blocks of the image and voxels of both coarser maps belong together."""
    nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
    shapes = [_sizes(nodes[name]) for name in (pooled, deep)]
    stride = tuple(n // m for n, m in zip(size, shapes[0], strict=True))
    whole = all(s * m == n for s, m, n in zip(stride, shapes[0], size, strict=True))
    if shapes[0] != shapes[1] or not whole or not _is_block(nodes[pooled], stride):
        return None
    i, j, k = stride
    return Cut(pooled, deep, (i, j, k), math.ceil(reach / i) * i)


class Slabs:
    """A graph that answers to tiles of one shape row by row, its parts compiled when they first run.

    Args:
        graph: of static shape (1, C, I, J, K).
        cut: where to cut it.
        compile_part: compiles a part.
        voxels: that a slab is limited to, if it can be.

    Attributes:
        bytes: what it holds while it runs: maps, and what is kept between its parts.
    """

    def __init__(self, graph: ov.Model, cut: Cut, compile_part: Compile, voxels: int) -> None:
        self._cut = cut
        shape: tuple[int, ...] = tuple(graph.input(0).get_shape())
        self._rows = _slab_rows(shape, cut, voxels)
        self._slabs = list(_slabs(shape[2], self._rows, cut))
        slab = (self._rows, *shape[3:])
        whole, some = _coarse(shape[2:], cut), _coarse(slab, cut)
        self._down = _Part(_part(graph, cut.pooled, image=slab), compile_part)
        self._up = _Part(_part(graph, "", image=slab, replaced={cut.deep: some}), compile_part)
        self._takes_image = len(self._up.graph.inputs) == 2
        self._kept_shape = (1, self._down.channels, *whole)
        middle = _part(graph, cut.deep, replaced={cut.pooled: whole})
        deeper = find_cut(middle) if math.prod(whole) > voxels // 2 else None
        self._middle: Slabs | _Part = _Part(middle, compile_part)
        if deeper is not None:
            self._middle = Slabs(middle, deeper, compile_part, voxels // 2)
        waiting = FLOAT * 2 * math.prod(some) * middle.output(0).get_shape()[1]
        later = self._middle.bytes + self._up.bytes + waiting
        self.bytes: int = FLOAT * math.prod(self._kept_shape) + max(self._down.bytes, later)

    def rows(self, tile: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Runs of rows, first to last, of the answer to a tile (1, C, I, J, K).

        Yields:
            The rows, and (1, K, rows, J, K), which the next run overwrites.
        """
        step = self._cut.stride[0]
        deep = _Waiting(self._middle.rows(self._pooled(tile)))
        for slab in self._slabs:
            end = slab.start + self._rows
            given = [deep.take(slab.start // step, end // step)]
            if self._takes_image:
                given.insert(0, np.ascontiguousarray(tile[:, :, slab.start : end]))
            part = self._up(*given)
            yield slice(slab.first, slab.last), part[:, :, slab.first - slab.start : slab.last - slab.start]
        self._up.rest()

    def _pooled(self, tile: FloatArray) -> FloatArray:
        """The first coarser map, whole."""
        step, whole = self._cut.stride[0], np.empty(self._kept_shape, np.float32)
        for slab in self._slabs:
            part = self._down(np.ascontiguousarray(tile[:, :, slab.start : slab.start + self._rows]))
            kept = slice((slab.first - slab.start) // step, (slab.last - slab.start) // step)
            whole[:, :, slab.first // step : slab.last // step] = part[:, :, kept]
        self._down.rest()
        return whole


class _Part:
    """A part of a graph; it gives the memory of its maps back when it is told to rest."""

    def __init__(self, graph: ov.Model, compile_part: Compile) -> None:
        self.graph = graph
        self.channels: int = graph.output(0).get_shape()[1]
        self.bytes = _peak_bytes(graph)
        self._compile = compile_part
        self._ready: Any = None
        self._request: Any = None

    def __call__(self, *given: FloatArray) -> FloatArray:
        """The answer, which the next call overwrites."""
        self._ready = self._ready or self._compile(self.graph)
        self._request = self._request or self._ready.create_infer_request()
        found = self._request.infer(dict(enumerate(given)), share_inputs=True, share_outputs=True)
        answer: FloatArray = found[0]
        return answer

    def rows(self, tile: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """All rows at once."""
        answer = self(tile)
        yield slice(0, answer.shape[2]), answer
        self.rest()

    def rest(self) -> None:
        """Give memory back until the next call."""
        self._request = None
        self._ready.release_memory()


class _Waiting:
    """The rows of a stream that are still needed."""

    def __init__(self, stream: Iterator[tuple[slice, FloatArray]]) -> None:
        self._stream = stream
        self._first = self._end = 0
        self._held: list[FloatArray] = []

    def take(self, start: int, stop: int) -> FloatArray:
        """Rows `start` to `stop`, contiguous; those before `start` are dropped."""
        parts = [part[:, :, start - self._first :] for part in self._held]
        while self._end < stop:
            rows, part = next(self._stream)
            parts.append(part[:, :, max(0, start - rows.start) :].copy())
            self._end = rows.stop
        self._held = [parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)]
        self._first = start
        return np.ascontiguousarray(self._held[0][:, :, : stop - start])


def _peak_bytes(graph: ov.Model) -> int:
    """The most that maps hold at any time while the nodes run one after another, each in a place of its own.

    A map is gone when the last that reads it has run; what works on each voxel by itself does so in place.
    """
    nodes = [node for node in graph.get_ordered_ops() if len(node.get_output_shape(0)) == RANK]
    maps = {node.get_friendly_name(): node for node in nodes if not _is_constant(node)}
    last = {s.get_friendly_name(): n for n, node in enumerate(nodes) for s in _sources(node)}
    now = most = 0
    for n, node in enumerate(nodes):
        name = node.get_friendly_name()
        if name not in maps or node.get_type_name() == "Result":
            continue
        gone = [s for s in dict.fromkeys(s.get_friendly_name() for s in _sources(node)) if last.get(s) == n]
        freed = sum(_map_bytes(maps[s]) for s in gone if s in maps)
        now += _map_bytes(node)
        most = max(most, now - (freed if node.get_type_name() in POINTWISE else 0))
        now -= freed
    return most


def _map_bytes(node: ov.Node) -> int:
    """Of a map, its channels filled up as the processor takes them."""
    shape = list(node.get_output_shape(0))
    return int(FLOAT * math.prod(shape[2:]) * math.ceil(shape[1] / CHANNELS) * CHANNELS)


def _is_constant(node: ov.Node) -> bool:
    return all(_is_constant(source) for source in _sources(node)) and node.get_type_name() != "Parameter"


def _slab_rows(shape: tuple[int, ...], cut: Cut, voxels: int) -> int:
    """Rows of a slab, halo included: few enough for the limit, in slabs of equal length."""
    step, plane = cut.stride[0], shape[3] * shape[4]
    most = max(voxels // plane, LEAST_HALOS * cut.halo + step)
    if shape[2] <= most:
        return shape[2]
    count = math.ceil((shape[2] - 2 * cut.halo) / (most - 2 * cut.halo))
    rows = math.ceil((shape[2] - 2 * cut.halo) / count) + 2 * cut.halo
    return math.ceil(rows / step) * step


def _slabs(size: int, rows: int, cut: Cut) -> Iterator[Slab]:
    """Slabs of equal length whose answers follow one another; at an end of the image none is lost."""
    first = 0
    while first < size:
        start = max(0, min(first - cut.halo, size - rows))
        last = size if start + rows == size else start + rows - cut.halo
        yield Slab(start, first, last)
        first = last


def _part(
    graph: ov.Model,
    result: str,
    *,
    image: tuple[int, ...] | None = None,
    replaced: dict[str, tuple[int, ...]] | None = None,
) -> ov.Model:
    """A part of a graph, up to a node (or its end), with parameters of given sizes in the place of others."""
    copy = graph.clone()
    nodes = {node.get_friendly_name(): node for node in copy.get_ordered_ops()}
    sizes = _sizes(copy.input(0).get_node())
    parameters = []
    for name, size in (replaced or {}).items():
        output = nodes[name].output(0)
        fresh = opset13.parameter([1, output.get_shape()[1], *size], ov.Type.f32)
        for target in output.get_target_inputs():
            if image is None or _sizes(target.get_node()) == sizes:
                target.replace_source_output(fresh.output(0))
        parameters.append(fresh)
    end = nodes[result].output(0) if result else copy.output(0).get_node().input_value(0)
    if image is not None:
        given = copy.input(0).get_node()
        given.set_partial_shape(ov.PartialShape([1, copy.input(0).get_shape()[1], *image]))
        if _depends(end.get_node(), given.get_friendly_name()):
            parameters.insert(0, given)
    part = ov.Model([end], parameters, "part")
    part.validate_nodes_and_infer_types()
    return part


def _depends(node: ov.Node, name: str) -> bool:
    """Whether a node is made of the one called `name`."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if here.get_friendly_name() == name:
            return True
        fresh = [s for s in _sources(here) if s.get_friendly_name() not in seen]
        seen.update(s.get_friendly_name() for s in fresh)
        waiting.extend(fresh)
    return False


def _coarse(size: tuple[int, ...], cut: Cut) -> tuple[int, ...]:
    return tuple(n // s for n, s in zip(size, cut.stride, strict=True))


def _sources(node: ov.Node) -> list[ov.Node]:
    return [node.input_value(n).get_node() for n in range(node.get_input_size())]


def _sizes(node: ov.Node) -> tuple[int, int, int]:
    """Spatial sizes of what a node makes; of no use where that is no map."""
    i, j, k = (0, 0, 0, *node.get_output_shape(0))[-3:]
    return i, j, k


def _radius(node: ov.Node) -> int | None:
    """Rows on each side that a row of the finest level is made of; None for an operation not known."""
    kind, how = node.get_type_name(), node.get_attributes()
    if kind in POINTWISE:
        return None if kind == "Concat" and how["axis"] != 1 else 0
    if kind in CONVOLUTIONS and set(how["strides"]) == {1}:
        size = list(node.input_value(1).get_shape())[-3]
        return int(how["dilations"][0]) * (int(size) // 2)
    if kind == "ConvolutionBackpropData":
        return 0 if _is_block(node, tuple(how["strides"])) else None
    return None


def _is_block(node: ov.Node, stride: tuple[int, ...]) -> bool:
    """Whether an operation between levels takes each block of voxels to, or from, one coarser voxel."""
    kind, how = node.get_type_name(), node.get_attributes()
    if kind not in BLOCKS | CONVOLUTIONS:
        return False
    kernel = how["kernel"] if kind == "MaxPool" else list(node.input_value(1).get_shape())[-3:]
    unpadded = not any((*how["pads_begin"], *how["pads_end"]))
    return unpadded and tuple(kernel) == tuple(how["strides"]) == tuple(stride)
