"""`medseg next`: the scan that a model is least sure of comes first, and no labels are asked for twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, refused
from models import tiny_model

from medseg.data.phantom import write_phantom_scan
from medseg.metrics.functions import dice
from medseg.prediction.least_sure import MEMBERS, Sureness, sureness
from medseg.segmentation.prediction import PredictionSummary
from medseg.segmentation.rows import QualitySummary, StructureSummary


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three scans, and two models in a folder beside."""
    folder = tmp_path / "store"
    folder.mkdir()
    for n in range(3):
        write_phantom_scan(folder / f"scan{n}.nii.gz", seed=n, shape=(20, 24, 18))
    for n in range(2):
        tiny_model(n).save(tmp_path / f"model{n}.safetensors")
    return folder


def asked(store: Path, *models: int) -> list[dict[str, object]]:
    words = [word for n in models for word in ("-m", store.parent / f"model{n}.safetensors")]
    return json.loads(done("next", store, *words, "--json", "--threads", 1).out)


def test_the_least_sure_comes_first_and_is_not_predicted_twice(store: Path) -> None:
    rows = asked(store, 0)
    assert sorted(row["case"] for row in rows) == ["scan0", "scan1", "scan2"]
    known = [Sureness(**row) for row in rows]  # type: ignore[arg-type]
    assert known == sorted(known, key=lambda row: row.order)
    files = {path: path.stat().st_mtime_ns for path in (store / "labels").rglob("*")}
    assert len(files) == 1 + 2 * 3
    assert asked(store, 0) == rows
    assert {path: path.stat().st_mtime_ns for path in (store / "labels").rglob("*")} == files


def test_labelled_scans_are_not_proposed(store: Path) -> None:
    first = str(asked(store, 0)[0]["case"])
    final = store / "labels" / "final"
    final.mkdir()
    shutil.copy(store / "labels" / "original" / f"{first}.nii.gz", final)
    assert first not in [row["case"] for row in asked(store, 0)]
    for path in store.glob("*.nii.gz"):
        shutil.copy(store / "labels" / "original" / path.name, final)
    assert "has no scan without labels" in refused(
        3, "next", store, "-m", store.parent / "model0.safetensors"
    )


def test_members_that_disagree_lower_it(store: Path) -> None:
    rows = asked(store, 0, 1)
    (other,) = (store / MEMBERS).iterdir()
    for row in rows:
        arrays = [
            np.asarray(nib.load(place / f"{row['case']}.nii.gz").dataobj)
            for place in (store / "labels" / "original", other)
        ]
        values = np.union1d(*map(np.unique, arrays))[1:]
        by_hand = np.mean([dice(arrays[0] == v, arrays[1] == v) for v in values])
        assert row["agreement"] == pytest.approx(by_hand, abs=1e-4)
    assert any(row["agreement"] < 1 for row in rows)  # type: ignore[operator]
    assert {row["agreement"] for row in asked(store, 0, 0)} == {1.0}


def test_a_scan_that_cannot_be_read_stops_no_other(store: Path) -> None:
    (store / "scan1.nii.gz").write_bytes(b"no scan")
    ran = medseg("next", store, "-m", store.parent / "model0.safetensors")
    assert ran.code == 7
    assert "1 of 3 cases failed: scan1" in ran.err
    assert "scan0" in ran.out


def told(flag: str, *expected: float | None, confidence: float | None = 0.9) -> PredictionSummary:
    rows = [StructureSummary(n, f"s{n}", voxels=5, expected_dice=x) for n, x in enumerate(expected, start=1)]
    quality = QualitySummary(flag, (), confidence)  # type: ignore[arg-type]
    return PredictionSummary(quality=quality, structures=tuple(rows))


def test_what_a_case_is_ordered_by() -> None:
    rows = [
        sureness("sure", told("ok", 0.9, 0.8)),
        sureness("unsure", told("ok", 0.9, 0.4)),
        sureness("uncalibrated", told("ok", None, confidence=0.7)),
        sureness("half calibrated", told("ok", 0.3, None, confidence=0.72)),
        sureness("disputed", told("ok", 0.9, 0.9), agreement=0.5),
        sureness("in doubt", told("doubtful", confidence=0.99)),
        sureness("nothing found", told("ok", confidence=None)),
    ]
    ordered = [row.case for row in sorted(rows, key=lambda row: row.order)]
    assert ordered == [
        "in doubt", "nothing found", "disputed", "unsure", "uncalibrated", "half calibrated", "sure",
    ]  # fmt: skip
