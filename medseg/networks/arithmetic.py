"""Precisions of a device."""

from __future__ import annotations

import torch


def computes_in_bf16(device: torch.device) -> bool:
    """Whether there are instructions for bfloat16; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
