"""OpenVINO engine: the converted graph of a network on the CPU, without torch."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import ModelError, UsageError, did_you_mean
from medseg.inference.engines import compiled
from medseg.inference.engines.base import FloatArray, Precision, available_threads, fold_slices, unfold_slices
from medseg.inference.engines.lean import ov
from medseg.inference.engines.rewrites import VERSION, rewritten
from medseg.inference.engines.slabs import Slabs, find_cut

MAX_COMPILED = 2
"""Tile shapes kept compiled; a plan has one, and a last batch may be shorter."""

SMALL_VOXELS = 2**18
"""Tiles up to this size share one graph compiled for any shape, from an engine's second shape on.

In a folder of crops each has its own shape, and compiling takes longer than running. A larger tile is worth
its own compilation, whose memory is planned.
"""

HINTS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


class OpenVinoEngine:
    """Runs a graph made by `engines.torch.to_graph`, compiled again for each shape of tile.

    Precision is always stated, because OpenVINO's own choice on a processor with AMX is bf16,
    and denormal numbers are flushed, because it does not do that by itself. It flushes them in the
    thread it is called from, for good: so that is a thread of its own. Threads are not tied to processors:
    OpenVINO would tie those of every process to the same ones.

    Args:
        xml: the graph.
        weights: its constants.
        precision: of the arithmetic.
        threads: CPU threads; by default as many as this process may use.
        identity: hash of the model that graph and weights are of, under which the first shape compiled is
            kept for the next process (see `compiled`); empty keeps nothing.

    Raises:
        ModelError: the graph cannot be read, or has not one 2D or 3D input and one output.
        UsageError: the engine cannot compute in this precision.
    """

    name = "openvino"

    def __init__(
        self,
        xml: bytes,
        weights: bytes,
        *,
        precision: Precision = "f32",
        threads: int | None = None,
        identity: str = "",
    ) -> None:
        if precision not in HINTS:
            raise UsageError(
                f"the OpenVINO engine cannot compute in {precision!r}", hint=did_you_mean(precision, HINTS)
            )
        self.precision = precision
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "CPU_DENORMALS_OPTIMIZATION": True,
            "INFERENCE_NUM_THREADS": threads or available_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._identity = identity
        self._core = ov.Core()
        try:
            self._graph = self._core.read_model(xml, weights)
        except RuntimeError as fault:
            raise ModelError(f"OpenVINO cannot read the model's graph ({_first_line(fault)})") from None
        inputs, outputs = len(self._graph.inputs), len(self._graph.outputs)
        if inputs != 1 or outputs != 1:
            raise ModelError(f"the graph must have 1 input and 1 output, not {inputs} and {outputs}")
        self.spatial_dims = len(self._graph.inputs[0].get_partial_shape()) - 2
        if self.spatial_dims not in (2, 3):
            raise ModelError(f"the graph's input must have 2 or 3 spatial axes, not {self.spatial_dims}")
        rewritten(self._graph)
        self._any_shape: Any = None
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "medseg-openvino")

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K).

        Raises:
            ModelError: the graph does not take tiles of this shape.
        """
        return self._worker.submit(self._run, tiles).result()

    def slab_bytes(self, shape: Sequence[int], voxels: int) -> int | None:
        """Bytes that `rows` needs for a tile of shape (i, j, k); None if the graph cannot be cut."""
        found = self._worker.submit(self._slabs, tuple(shape), voxels).result()
        return None if found is None else found.bytes

    def rows(self, tile: FloatArray, voxels: int) -> Iterator[tuple[slice, FloatArray]]:
        """Logits of a tile too large for its maps, row by row; equal to those of a call.

        Args:
            tile: (1, C, I, J, K).
            voxels: that the maps of the finest level are limited to, if they can be.

        Yields:
            The rows, first to last, and their logits (K, rows, J, K), which the next run overwrites.

        Raises:
            ModelError: the graph cannot be cut (see `slab_bytes`).
        """
        slabs = self._worker.submit(self._slabs, tile.shape[2:], voxels).result()
        if slabs is None:
            raise ModelError("the model's graph cannot run in slabs", hint="allow more memory")
        stream = slabs.rows(tile)
        while (found := self._worker.submit(next, stream, None).result()) is not None:
            rows, logits = found
            yield rows, logits[0]

    def _slabs(self, shape: tuple[int, ...], voxels: int) -> Slabs | None:
        """The graph cut up, in the worker: another case's tile may be reshaping it meanwhile."""
        if self.spatial_dims != 3:
            return None
        channels = self._graph.inputs[0].get_partial_shape()[1].get_length()
        graph = self._graph.clone()
        graph.reshape(ov.PartialShape([1, channels, *shape]))
        cut = find_cut(graph)
        return None if cut is None else Slabs(graph, cut, self._compile, voxels)

    def _run(self, tiles: FloatArray) -> FloatArray:
        flat = self.spatial_dims == 2
        content = fold_slices(tiles) if flat else np.ascontiguousarray(tiles)
        request = self._request(content.shape)
        answer: FloatArray = np.asarray(request.infer({0: content}, share_inputs=True)[0], np.float32)
        return unfold_slices(answer, len(tiles)) if flat else answer

    def _request(self, shape: tuple[int, ...]) -> Any:
        """The compiled graph for tiles of one shape, most recently used last."""
        if shape in self._requests:
            self._requests.move_to_end(shape)
            return self._requests[shape]
        if self._requests and math.prod(shape[2:]) <= SMALL_VOXELS:
            self._any_shape = self._any_shape or self._for_any_shape(shape[1])
            return self._any_shape
        ready = self._kept(shape) if self._identity and not self._requests else self._compiled(shape)
        while len(self._requests) >= MAX_COMPILED:
            self._requests.popitem(last=False)
        self._requests[shape] = ready.create_infer_request()
        return self._requests[shape]

    def _for_any_shape(self, channels: int) -> Any:
        free = (-1,) * self.spatial_dims
        return self._compiled((-1, channels, *free)).create_infer_request()

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        try:
            self._graph.reshape(ov.PartialShape(list(shape)))
            return self._compile(self._graph)
        except RuntimeError as fault:
            raise ModelError(
                f"the model's graph does not take tiles of shape {shape} ({_first_line(fault)})"
            ) from None

    def _compile(self, graph: ov.Model) -> Any:
        return self._core.compile_model(graph, "CPU", self._settings)

    def _kept(self, shape: tuple[int, ...]) -> Any:
        """The graph as an earlier process compiled it, or compiled now and kept."""
        processor = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        facts = (self._identity, VERSION, shape, processor, ov.__version__)
        name = compiled.key(*facts, *self._settings.items())
        blob = compiled.read(name)
        if blob is not None:
            with suppress(RuntimeError):
                return self._core.import_model(blob, "CPU", self._settings)
        made = self._compiled(shape)
        compiled.keep(name, made.export_model().getvalue())
        return made


def run_file(path: Path, tiles: FloatArray) -> FloatArray:
    """The output of a graph in a file for tiles (B, C, I, J, K), in f32."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})
    flat = len(compiled.inputs[0].get_partial_shape()) == 4
    answer: FloatArray = np.asarray(compiled(fold_slices(tiles) if flat else tiles)[0], np.float32)
    return unfold_slices(answer, len(tiles)) if flat else answer


def precisions() -> tuple[Precision, ...]:
    """The precisions of this processor; OpenVINO silently uses f32 in place of others."""
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    named: dict[Precision, str] = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
    return tuple(precision for precision, capability in named.items() if capability in able)


def _first_line(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or ["no reason was given"])[-1][:200]
