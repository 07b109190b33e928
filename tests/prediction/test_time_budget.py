"""`medseg predict --time-budget`: what it says, and that it can be verified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from models import tiny_model

import medseg
from medseg.data.phantom import write_phantom_scan
from medseg.io import read_label_file
from medseg.io.options import ReadOptions
from medseg.model.file import load_model
from medseg.model.spec import InferenceSpec
from medseg.prediction.job import PredictOptions
from medseg.prediction.predict import predict
from medseg.prediction.verify import verify
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

SHAPE = (40, 36, 32)


@pytest.fixture(scope="module")
def window_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "window.safetensors"
    tiny_model(0, inference=InferenceSpec(strategy="sliding_window", tile=(16, 16, 16))).save(path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE)
    return path


def content(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_budget_is_stated_wherever_the_result_is(scan: Path, window_path: Path) -> None:
    ran = done("predict", scan, "-m", window_path, "--time-budget", "0.001s", "--report")
    assert "time budget 0.001 s: 0 of 48 tiles at full quality; it took longer" in ran.err
    stated = content(scan.with_name("scan_seg.json"))
    assert stated["budget"] == {"seconds": 0.001, "of": 48, "tiles": []}
    assert stated["provenance"]["settings"]["time_budget"] == 0.001  # type: ignore[index]
    codes = [finding["code"] for finding in stated["findings"]]  # type: ignore[attr-defined]
    assert "time_budget" in codes
    page = scan.with_name("scan_report.html").read_text()
    assert "0 of 48 tiles were computed at full quality" in page
    assert "Time budget" in page
    assert verify(scan.with_name("scan_seg.json"), models=[str(window_path)]).verdict == "same"


def test_with_enough_time_the_file_is_that_without_a_budget(scan: Path, window_path: Path) -> None:
    out = scan.with_name("plain_seg.nii.gz")
    done("predict", scan, "-m", window_path, "-o", out)
    ran = done("predict", scan, "-m", window_path, "--time-budget", "1h")
    assert "48 of 48 tiles at full quality\n" in ran.err
    one, other = (
        read_label_file(path, ReadOptions()).array for path in (out, scan.with_name("scan_seg.nii.gz"))
    )
    np.testing.assert_array_equal(one, other)
    assert "budget" not in content(out.with_name("plain_seg.json"))


def test_the_same_tiles_are_computed_to_verify_a_result(scan: Path, window_path: Path) -> None:
    options = SegmenterOptions(threads=1, time_budget=5.0, budget_tiles=tuple(range(8, 24)))
    predict([str(scan)], lambda: Segmenter([load_model(window_path)], options), None, PredictOptions())
    sidecar = scan.with_name("scan_seg.json")
    assert verify(sidecar, models=[str(window_path)], threads=1).verdict == "same"
    stated = content(sidecar)
    stated["budget"]["tiles"] = list(range(24, 40))  # type: ignore[index]
    sidecar.write_text(json.dumps(stated))
    assert verify(sidecar, models=[str(window_path)], threads=1).differing > 0


def test_the_scans_of_a_folder_have_a_budget_each(tmp_path: Path, window_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in (1, 2):
        write_phantom_scan(folder / f"s{seed}.nii.gz", seed=seed, shape=SHAPE)
    words = ("predict", folder, "-m", window_path, "-o", tmp_path / "out", "--time-budget")
    ran = done(*words, "0.001s")
    assert ran.err.count("0 of 48 tiles at full quality; it took longer") == 2
    assert "exists already" in done(*words, "0.001s").err
    assert "48 of 48" in done(*words, "1h", "--overwrite").err


def test_python_takes_a_budget_too(scan: Path, window_path: Path) -> None:
    found = medseg.predict(scan, model=window_path, time_budget=0.001)
    assert "time_budget" in {finding.code for finding in found.findings}
    segmented = medseg.load(window_path, time_budget=3600.0)(scan)
    assert segmented.budget is not None
    assert segmented.budget.is_complete


@pytest.mark.parametrize("text", ["0s", "-3s", "soon", "inf"])
def test_what_is_no_duration_is_refused(scan: Path, text: str) -> None:
    assert "is not a duration" in refused(2, "predict", scan, "--time-budget", text)


def test_several_models_are_refused(scan: Path, window_path: Path, model_path: Path) -> None:
    line = refused(2, "predict", scan, "-m", window_path, "-m", model_path, "--time-budget", "5s")
    assert "a time budget is not possible with several models or scales" in line
    assert not scan.with_name("scan_seg.nii.gz").exists()
