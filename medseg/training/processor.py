"""Precision of the processor, and reuse of memory between steps."""

from __future__ import annotations

import ctypes
import sys
from typing import Literal

import torch

from medseg.networks.arithmetic import computes_in_bf16

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30


def autocast_dtype(device: torch.device, precision: Literal["auto", "f32", "bf16"]) -> torch.dtype | None:
    """The dtype of autocast, or None for float32 throughout.

    "auto" takes bfloat16 where there are instructions for it; elsewhere it is emulated and slower
    than float32.
    """
    if precision == "f32":
        return None
    if precision == "bf16" or computes_in_bf16(device):
        return torch.bfloat16
    return None


def keep_memory() -> None:
    """Raise glibc's mmap and trim thresholds, so that big blocks are reused between steps.

    Other platforms than Linux are left alone.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_memory() -> None:
    """Return the blocks that were kept for further steps, where the system would count them as taken."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of Linux; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
