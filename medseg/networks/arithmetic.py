"""Precisions of a device, and bfloat16 where there are no instructions for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
CONVOLUTIONS = (ATEN.conv2d, ATEN.conv3d, ATEN.conv_transpose2d, ATEN.conv_transpose3d, ATEN.convolution)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether there are instructions for bfloat16; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


class RoundedConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Convolutions of bfloat16 factors, summed in float32 and then rounded, without instructions for it.

    They round where a processor with such instructions does. Torch's own emulation, in torch 2.13, takes many
    times as long as float32 on a processor with AVX2; this takes about as long as float32.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args = tuple(args)
        if func.overloadpacket not in CONVOLUTIONS or args[0].dtype is not torch.bfloat16:
            return func(*args, **(kwargs or {}))
        wide = (arg.float() if isinstance(arg, Tensor) else arg for arg in args)
        return func(*wide, **(kwargs or {})).bfloat16()
