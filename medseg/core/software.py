"""What every document that we write says of itself."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from medseg import __version__

MADE_BY = {"name": "medseg", "version": __version__}
"""What made it, in a document."""

SOFTWARE = " ".join(MADE_BY.values())
"""What made it, in a cell or a line."""

INTENDED_USE = "research only; not a medical device"
"""Of a result, or of a model."""

CPU_INFO = Path("/proc/cpuinfo")
ROUNDING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Flags of a processor by which arithmetic rounds otherwise: width and order of sums, short types."""


@cache
def processor() -> str:
    """The kind of processor and the instructions that decide how it rounds; names no machine.

    >>> processor().split()[0] == platform.machine()
    True
    """
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line[:5] in ("flags", "Featu")), [])
    return " ".join([platform.machine(), *(flag for flag in ROUNDING if flag in flags)])
