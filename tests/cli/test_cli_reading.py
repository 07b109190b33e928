"""Scans that are hard to read, on the command line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from commands import refused
from io_files import claiming, looping


@pytest.mark.fault("reports 8")
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mha"])
def test_a_scan_that_cannot_be_is_refused_before_it_is_planned(
    tmp_path: Path, model_path: Path, name: str, more: tuple[str, ...]
) -> None:
    path, start = claiming(tmp_path / name, 32767), time.monotonic()
    line = refused(3, "predict", path, "-m", model_path, *more)
    assert "truncated" in line
    assert time.monotonic() - start < 5


@pytest.mark.fault("reports 6")
def test_a_tiff_without_an_end_ends_no_command(tmp_path: Path) -> None:
    path = looping(tmp_path / "scan.tif", [(8, 9), (5, 4)], 0, wide=False)
    for words in (("info", path), ("evaluate", path, path), ("report", path, path), ("predict", path)):
        start = time.monotonic()
        assert "loop" in refused(3, *words, *(["-q"] if words[0] == "predict" else []))
        assert time.monotonic() - start < 5
