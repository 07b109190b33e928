"""The `.json` of a prediction: the same bytes as ever, old files, damaged ones, one owner."""

from __future__ import annotations

import ast
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.core.errors import InputError
from medseg.findings.finding import Finding
from medseg.segmentation.prediction import (
    SCHEMA,
    ModelIdentity,
    PredictionSummary,
    Provenance,
    ScanIdentity,
    Settings,
    Software,
    read_summary,
    usable_summary,
)
from medseg.segmentation.rows import GridSummary, QualitySummary, StructureSummary, TotalSummary

OLDEST: dict[str, Any] = {
    "schema": SCHEMA,
    "intended_use": "research only; not a medical device",
    "grid": {"shape": [35, 51, 35], "spacing_mm": [1.0, 1.0, 1.0], "orientation": "RAS"},
    "structures": [{"value": 1, "name": "core", "voxels": 7, "volume_ml": 0.007, "touches_edge": True}],
    "warnings": ["both forms disagree"],
    "provenance": {
        "input": {"sha256": "0", "channels": []},
        "models": [{"name": "m", "sha256": "1"}],
        "settings": {"engines": ["torch f32"], "tta": None, "reading": {"series": None}},
        "software": {"name": "medseg", "version": "0.1.0"},
    },
}
"""What the first version wrote."""

WHOLE = PredictionSummary(
    grid=GridSummary((4, 5, 6), (1.0, 1.0, 2.5), "LPS"),
    quality=QualitySummary("doubtful", ("All is grey.",), confidence=0.5),
    findings=(Finding("low_contrast", "doubt", "All is grey.", limit=0.5, evidence={"ratio": 0.1}),),
    structures=(
        StructureSummary(1, "left core", "#e6194b", 7, 0.007, True, members=(1, 2)),
        StructureSummary(2, "rim", "#4363d8", 3, 0.003, False, (0.001, 0.004), 0.9, (0.8, 0.95), (2,)),
    ),
    totals=(TotalSummary("all", (), 0.01),),
    warnings=("Cut.",),
    labels_sha256="ab",
    seconds=1.5,
    timing_s={"read": 0.5, "engine": 1.0},
    peak_memory_bytes=1024,
    provenance=Provenance(
        ScanIdentity("cd", ("T1",)),
        (ModelIdentity("m", "ef"),),
        Settings(("openvino bf16",), None, True, {"series": None}),
        "labelmap",
        Software("medseg", "1"),
    ),
)

TEXT = """{
 "schema": "medseg.prediction/1",
 "intended_use": "research only; not a medical device",
 "grid": {
  "shape": [
   4,
   5,
   6
  ],
  "spacing_mm": [
   1.0,
   1.0,
   2.5
  ],
  "orientation": "LPS"
 },
 "quality": {
  "flag": "doubtful",
  "reasons": [
   "All is grey."
  ],
  "confidence": 0.5,
  "sides_agreement": null
 },
 "findings": [
  {
   "code": "low_contrast",
   "severity": "doubt",
   "sentence": "All is grey.",
   "limit": 0.5,
   "evidence": {
    "ratio": 0.1
   }
  }
 ],
 "structures": [
  {
   "value": 1,
   "name": "left core",
   "colour": "#e6194b",
   "voxels": 7,
   "volume_ml": 0.007,
   "truncated": true,
   "members": [
    1,
    2
   ]
  },
  {
   "value": 2,
   "name": "rim",
   "colour": "#4363d8",
   "voxels": 3,
   "volume_ml": 0.003,
   "truncated": false,
   "interval_ml": [
    0.001,
    0.004
   ],
   "expected_dice": 0.9,
   "expected_dice_interval": [
    0.8,
    0.95
   ],
   "members": [
    2
   ]
  }
 ],
 "totals": [
  {
   "name": "all",
   "values": [],
   "volume_ml": 0.01
  }
 ],
 "warnings": [
  "Cut."
 ],
 "labels_sha256": "ab",
 "seconds": 1.5,
 "timing_s": {
  "read": 0.5,
  "engine": 1.0
 },
 "peak_memory_bytes": 1024,
 "provenance": {
  "input": {
   "sha256": "cd",
   "channels": [
    "T1"
   ]
  },
  "models": [
   {
    "name": "m",
    "sha256": "ef"
   }
  ],
  "settings": {
   "engines": [
    "openvino bf16"
   ],
   "tta": null,
   "refine": true,
   "reading": {
    "series": null
   }
  },
  "dicom_seg": "labelmap",
  "software": {
   "name": "medseg",
   "version": "1"
  }
 }
}
"""


def test_a_summary_is_written_in_the_bytes_of_its_schema_and_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "scan_seg.json"
    WHOLE.write(path)
    assert path.read_text() == TEXT
    assert read_summary(path) == WHOLE
    plain = replace(WHOLE, provenance=replace(WHOLE.provenance, dicom_seg=None))
    assert "dicom_seg" not in plain.content()["provenance"]


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scan_seg.json"
    path.write_text(json.dumps(OLDEST))
    found = read_summary(path)
    assert found is not None
    assert (found.structure_set.names, found.stated_findings()) == (("core",), None)
    assert found.provenance.chosen == {"engines or precisions": "torch f32"}
    assert found.provenance.models_in_words == "m (SHA-256 1)"
    path.write_text(json.dumps(OLDEST | {"quality": {"flag": "doubtful", "reasons": ["too small"]}}))
    found = read_summary(path)
    assert found is not None
    assert [(f.severity, f.sentence) for f in found.stated_findings() or ()] == [
        ("doubt", "Too small."),
        ("warning", "Both forms disagree."),
    ]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"findings": [{"code": "x", "severity": "fatal", "sentence": ""}]}, "findings.0.severity"),
        ({"structures": [{"value": 1e999, "name": "x"}]}, "structures.0.value"),
        (
            {"structures": [{"value": 1, "name": "x"}, {"value": 2, "name": "x"}]},
            "two structures have the same name or the same value",
        ),
        ({"totals": [{"name": "x"}]}, "totals.0.values"),
        ({"provenance": {"models": 3}}, "provenance.models"),
    ],
)
def test_a_damaged_file_is_an_input_error_that_names_file_and_place(
    tmp_path: Path, change: dict[str, Any], place: str
) -> None:
    path = tmp_path / "scan_seg.json"
    path.write_text(json.dumps(OLDEST | change))
    with pytest.raises(InputError, match=f"scan_seg.json: cannot be read as a prediction .*{place}"):
        read_summary(path)
    assert usable_summary(path) is None


def test_json_of_another_program_is_a_damaged_sidecar_only_under_a_name_of_ours(tmp_path: Path) -> None:
    ours, other = tmp_path / "scan_seg.json", tmp_path / "sub-01_dseg.json"
    for text in ("", "{", "[]", "\0\0", '{"schema": "medseg.prediction/2"}'):
        for path in (ours, other):
            path.write_text(text)
            with pytest.raises(InputError, match=path.name):
                read_summary(path)
    for path in (ours, other):
        path.write_text('{"Manual": true}')
    assert read_summary(other) is None
    with pytest.raises(InputError, match="its schema is None, not medseg"):
        read_summary(ours)


KEYS = {
    "quality", "flag", "reasons", "truncated", "interval_ml", "expected_dice", "expected_dice_interval",
    "labels_sha256", "timing_s", "peak_memory_bytes", "provenance",
}  # fmt: skip
"""Of the file, and of no other schema of the package."""


def test_no_other_module_spells_a_key_of_the_file() -> None:
    assert {f.name for of in (PredictionSummary, StructureSummary, QualitySummary) for f in fields(of)} > KEYS
    package = Path(medseg.__file__).parent
    spelled = {
        f"{path.relative_to(package)}: {node.value}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in KEYS
    }
    assert spelled == set()
