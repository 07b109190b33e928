"""Engines: what runs a network on tiles. Each is loaded only when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ModelError, UsageError
from medseg.inference.engines import rounding
from medseg.model.file import Model

FloatArray = NDArray[np.float32]
Precision = Literal["f32", "bf16", "f16"]
EngineName = Literal["torch", "openvino"]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# Importing openvino reports the import to its maker, and leaves an id in the user's home; without
# this module, whose absence it allows for, it does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class Engine(Protocol):
    """Runs a network on a batch of tiles.

    Attributes:
        name: what it is, for reports.
        precision: what the arithmetic is done in.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K), which are not changed."""
        ...


@runtime_checkable
class RowEngine(Engine, Protocol):
    """An engine that can answer to a large tile without holding its largest maps (see `slabs`)."""

    def slab_bytes(self, shape: Sequence[int], voxels: int) -> int | None:
        """What `rows` would hold for a tile (i, j, k); None where it cannot."""

    def rows(self, tile: FloatArray, voxels: int) -> Iterator[tuple[slice, FloatArray]]:
        """Rows of a tile (1, C, I, J, K), first to last, with their logits (K, rows, J, K)."""


@runtime_checkable
class CardEngine(Engine, Protocol):
    """An engine on an accelerator, which can leave its answers there.

    Attributes:
        on_card: whether it runs on one.
    """

    @property
    def on_card(self) -> bool: ...

    def there(self, tiles: FloatArray) -> Any:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K), in the accelerator's memory."""

    def adopt(self, array: FloatArray) -> Any:
        """The array in the accelerator's memory."""

    def back(self, array: Any) -> FloatArray:
        """An array of the accelerator's memory in ours."""

    def batch_for(self, tile: Sequence[int], maps: int) -> int:
        """Tiles of a shape whose `maps` feature maps fill most of the accelerator's free memory."""


def load(
    model: Model,
    name: EngineName = "openvino",
    *,
    device: str = "cpu",
    precision: Precision = "f32",
    threads: int | None = None,
) -> Engine:
    """The engine `name` for a model.

    Args:
        model: with a graph for OpenVINO; torch builds the network and gives it the weights.
        name: "openvino" (CPU, no torch needed) or "torch".
        device: of torch: "cpu", "cuda", "cuda:1", "mps".
        precision: of the arithmetic.
        threads: CPU threads; by default as many as this process may use.

    Raises:
        ModelError: the model carries no graph, or graph or weights do not fit.
        UsageError: the engine does not exist, or has no such device or precision.
    """
    if name == "torch":
        from medseg.inference.engines import torch as torch_room

        return torch_room.load(model, device=device, precision=precision, threads=threads)
    if name != "openvino":
        raise UsageError(f"no engine named {name!r}; there are torch and openvino")
    if device != "cpu":
        raise UsageError(
            f"the OpenVINO engine runs on the CPU, not on {device!r}", mend="use the torch engine"
        )
    if model.graph is None:
        raise ModelError("the model carries no graph for OpenVINO", mend="use the torch engine")
    from medseg.inference.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(*model.graph, precision=precision, threads=threads, identity=model.sha256)


def pruned(model: Model, level: int) -> Model:
    """A model of a UNet++ cut down to a level; imports torch, see `torch.pruned`."""
    from medseg.inference.engines import torch as torch_room

    return torch_room.pruned(model, level)


def run_file(path: Path, tiles: FloatArray) -> FloatArray:
    """What a graph in an `.xml` or `.onnx` file answers to tiles (B, C, I, J, K), in f32."""
    from medseg.inference.engines.openvino import run_file as run

    return run(path, tiles)


def precisions(name: EngineName, device: str = "cpu") -> tuple[Precision, ...]:
    """What an engine computes in at the speed of the processor or card, f32 first."""
    if name == "openvino":
        from medseg.inference.engines import openvino as openvino_room

        return openvino_room.precisions()
    from medseg.inference.engines import torch as torch_room
    from medseg.networks.arithmetic import computes_in_bf16

    return ("f32", "bf16") if computes_in_bf16(torch_room.find_device(device)) else ("f32",)


def best_precision(model: Model, name: EngineName, device: str = "cpu") -> Precision:
    """bf16 where the processor has it and the model's evidence allows it (see `rounding`), else f32."""
    if not rounding.harmless(model.spec.evidence, f"{name} bf16"):
        return "f32"
    return "bf16" if "bf16" in precisions(name, device) else "f32"


def best_device() -> str:
    """The accelerator torch finds, or "cpu"; imports torch."""
    from medseg.inference.engines import torch as torch_room

    return torch_room.best_device()


def available_threads() -> int:
    """CPU threads this process may use: its affinity, within its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


def fold_slices(tiles: FloatArray) -> FloatArray:
    """Tiles (B, C, I, J, K) as the slices (B K, C, I, J) a 2D network sees."""
    batch, channels, i, j, k = tiles.shape
    return np.ascontiguousarray(np.moveaxis(tiles, 4, 1)).reshape(batch * k, channels, i, j)


def unfold_slices(logits: FloatArray, batch: int) -> FloatArray:
    """The inverse of `fold_slices`: (B K, C, I, J) as (B, C, I, J, K)."""
    return np.moveaxis(logits.reshape(batch, -1, *logits.shape[1:]), 1, 4)
