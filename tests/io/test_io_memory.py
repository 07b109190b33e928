"""What a process held is its own, whoever started it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from medseg.io import memory

TELL = "from medseg.io.memory import peak_memory_bytes as peak; print(peak())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system counts what the starter held")
def test_the_memory_of_the_process_that_starts_it_does_not_count() -> None:
    ballast = np.ones(400 * 2**20, np.uint8)
    told = subprocess.run([sys.executable, "-c", TELL], check=True, capture_output=True, text=True).stdout
    assert ballast[-1] == 1
    assert 5 * 2**20 < int(told) < 300 * 2**20
    ours = memory.peak_memory_bytes()
    assert ours is not None
    assert ours > ballast.nbytes
