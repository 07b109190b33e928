"""What a prediction is said to hold is what its process holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realdata
PROGRAM = [sys.executable, "-c", "from medseg.cli.main import main; main()", "predict"]


@pytest.mark.fault("reports 24")
@pytest.mark.parametrize("scan", ["chris_t1", "chris_PD"])
def test_a_brain_fits_where_its_forecast_says_so(data_root: Path, tmp_path: Path, scan: str) -> None:
    target = tmp_path / "head.nii.gz"
    command = [*PROGRAM, data_root / "scans" / f"{scan}.nii.gz", "-o", target, "--max-memory", "1200M", "-q"]
    told = subprocess.run([*command, "--dry-run", "--json"], check=True, capture_output=True, text=True)
    expected = json.loads(told.stdout)[0]["memory_bytes"]
    subprocess.run(command, check=True)
    peak = json.loads((tmp_path / "head.json").read_text())["peak_memory_bytes"]
    assert peak < 1200 * 2**20
    assert expected == pytest.approx(peak, rel=0.1)
