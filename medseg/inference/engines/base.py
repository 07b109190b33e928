"""The protocol of engines, their precisions, and the threads they may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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
    """An engine that can compute a large tile without holding its largest feature maps (see `slabs`)."""

    def slab_bytes(self, shape: Sequence[int], voxels: int) -> int | None:
        """Bytes that `rows` needs for a tile (i, j, k); None if the engine cannot run in slabs."""

    def rows(self, tile: FloatArray, voxels: int) -> Iterator[tuple[slice, FloatArray]]:
        """Rows of a tile (1, C, I, J, K), first to last, with their logits (K, rows, J, K)."""


@runtime_checkable
class CardEngine(Engine, Protocol):
    """An engine on an accelerator that can keep its outputs in the accelerator's memory.

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
        """An array in main memory from the accelerator's memory."""

    def batch_for(self, tile: Sequence[int], maps: int) -> int:
        """Tiles of a shape whose `maps` feature maps fill most of the accelerator's free memory."""


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
