"""The demo: an average head that needs no download, segmented."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import UsageError
from medseg.prediction import demo as demo_module
from medseg.prediction.demo import demo, mni152
from medseg.segmentation.segmenter import Segmenter


def test_without_nilearn_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(UsageError, match=r'nilearn is not installed; pip install "medseg\[demo\]"'):
        demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_it_writes_scan_labels_summary_page_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter
) -> None:
    pytest.importorskip("nilearn", reason="the demo's scan comes with nilearn")
    image, grid = mni152()
    assert image.shape == grid.shape == (197, 233, 189)
    assert grid.axis_codes == "RAS"
    small = np.ascontiguousarray(image[60:140:2, 60:160:2, 60:140:2])
    monkeypatch.setattr(
        demo_module, "mni152", lambda: (small, type(grid)(small.shape, np.diag([2.0, 2, 2, 1])))
    )
    monkeypatch.setattr(demo_module, "Loader", lambda *_: lambda: segmenter)
    done = demo(tmp_path / "demo")
    assert [p.name for p in done.files] == [
        "mni152_t1.nii.gz",
        "mni152_t1_seg.nii.gz",
        "mni152_t1_seg.json",
        "mni152_t1_report.html",
        "mni152_t1_seg.png",
    ]
    assert all(p.stat().st_size > 100 for p in done.files)
    assert json.loads(done.files[2].read_text())["structures"]
    with pytest.raises(UsageError):
        demo(tmp_path / "demo")
    assert demo(tmp_path / "demo", overwrite=True).files == done.files
