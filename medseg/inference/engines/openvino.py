"""OpenVINO engine: the converted graph of a network on the CPU, without torch."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from medseg.errors import ModelError, UsageError
from medseg.inference.engines import (
    FloatArray,
    Precision,
    available_threads,
    fold_slices,
    unfold_slices,
)

MAX_COMPILED = 2
"""Tile shapes kept compiled; a plan has one, and a last batch may be shorter."""

HINTS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


class OpenVinoEngine:
    """Runs a graph made by `engines.torch.to_graph`, compiled anew for each shape of tile.

    Precision is always stated, because OpenVINO's own choice on a processor with AMX is bf16,
    and denormal numbers are flushed, because it does not do that by itself. It flushes them in the
    thread it is called from, for good: so that is a thread of its own.

    Args:
        xml: the graph.
        weights: its constants.
        precision: of the arithmetic.
        threads: CPU threads; by default as many as this process may use.

    Raises:
        ModelError: the graph cannot be read, or has not one 2D or 3D input and one output.
        UsageError: no such precision.
    """

    name = "openvino"

    def __init__(
        self, xml: bytes, weights: bytes, *, precision: Precision = "f32", threads: int | None = None
    ) -> None:
        if precision not in HINTS:
            raise UsageError(f"precision {precision!r} is none of {', '.join(HINTS)}")
        self.precision = precision
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "CPU_DENORMALS_OPTIMIZATION": True,
            "INFERENCE_NUM_THREADS": threads or available_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self._core = ov.Core()
        try:
            self._graph = self._core.read_model(xml, weights)
        except RuntimeError as fault:
            raise ModelError(f"OpenVINO cannot read the model's graph ({_first_line(fault)})") from None
        inputs, outputs = len(self._graph.inputs), len(self._graph.outputs)
        if inputs != 1 or outputs != 1:
            raise ModelError(f"the graph has {inputs} inputs and {outputs} outputs, not 1 and 1")
        self.spatial_dims = len(self._graph.inputs[0].get_partial_shape()) - 2
        if self.spatial_dims not in (2, 3):
            raise ModelError(f"the graph's input has {self.spatial_dims} spatial axes, not 2 or 3")
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "medseg-openvino")

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K).

        Raises:
            ModelError: the graph does not take tiles of this shape.
        """
        return self._worker.submit(self._run, tiles).result()

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
        try:
            self._graph.reshape(ov.PartialShape(list(shape)))
            compiled = self._core.compile_model(self._graph, "CPU", self._settings)
        except RuntimeError as fault:
            raise ModelError(
                f"the model's graph does not take tiles of shape {shape} ({_first_line(fault)})"
            ) from None
        while len(self._requests) >= MAX_COMPILED:
            self._requests.popitem(last=False)
        self._requests[shape] = compiled.create_infer_request()
        return self._requests[shape]


def run_file(path: Path, tiles: FloatArray) -> FloatArray:
    """What a graph in a file answers to tiles (B, C, I, J, K), in f32."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})
    flat = len(compiled.inputs[0].get_partial_shape()) == 4
    answer: FloatArray = np.asarray(compiled(fold_slices(tiles) if flat else tiles)[0], np.float32)
    return unfold_slices(answer, len(tiles)) if flat else answer


def precisions() -> tuple[Precision, ...]:
    """What this processor computes in; OpenVINO takes f32 in silence where it is asked for another."""
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    named: dict[Precision, str] = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
    return tuple(precision for precision, capability in named.items() if capability in able)


def _first_line(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or ["no reason given"])[-1][:200]
