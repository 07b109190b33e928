"""A case survives its way through JSON to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medseg.core.errors import MedsegError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import CaseResult, evaluate_case, ignored_nowhere
from medseg.metrics.instances import InstanceRule
from medseg.metrics.stored import case_from_mapping, case_mapping

SETS = {
    "labels": from_labels({1: "left a", 2: "right a", 3: "<c>", 5: "absent"}),
    "regions": StructureSet((Structure(1, "all", members=(1, 2, 3)), Structure(2, "core", members=(2,)))),
}


def measured(seed: int, kind: str = "labels") -> CaseResult:
    """Random labels on an odd grid; structure 2 is missed, 3 made up, 5 absent."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.1, 3, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, rng.normal(size=3) * 100
    grid = Grid((7, 6, 5), affine)
    reference = rng.integers(0, 3, grid.shape).astype(np.uint8)
    reference[0] = 9 * (seed % 2)
    predicted = np.where(rng.random(grid.shape) < 0.5, 1, 3).astype(np.uint8)
    maps = LabelMap(predicted, grid), LabelMap(reference, grid, warnings=("it says so",), ignore=9)
    return evaluate_case(*maps, SETS[kind], tolerance_mm=1 / 3, case_id="=1\udcff", instances=InstanceRule())


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_back_is_what_was_measured(seed: int, kind: str) -> None:
    case = measured(seed, kind)
    text = json.dumps(case_mapping(case), allow_nan=False)
    again = case_from_mapping(json.loads(text) | {"case_id": "a"}, source="a")
    assert (again.rows, again.overall) == (case.rows, case.overall)
    assert (again.failure, again.warnings) == (case.failure, case.warnings)
    assert again.ignored == case.ignored == 30 * (seed % 2)
    assert bool(ignored_nowhere(9, [replace(again, warnings=())])) == (case.ignored == 0)
    assert again.grid.shape == case.grid.shape
    assert np.array_equal(again.grid.affine, case.grid.affine)
    if kind == "labels":
        assert again["right a"].metrics["hd95_mm"].value == np.inf
        assert again["absent"].metrics["hd95_mm"].value is None


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize("fault", ["a field lacks", "a field more", "text for a number", "no grid", "status"])
def test_anything_else_is_refused(fault: str) -> None:
    data = json.loads(json.dumps(case_mapping(measured(0)))) | {"case_id": "a"}
    if fault == "a field lacks":
        data = without(data, "rows")
    elif fault == "a field more":
        data["more"] = 1
    elif fault == "text for a number":
        data["rows"][0]["volume_ref_ml"] = "1"
    elif fault == "no grid":
        data["affine"][0] = [0.0, 0.0, 0.0, 0.0]
    else:
        data["rows"][0]["metrics"]["dice"]["status"] = "fine"
    with pytest.raises(MedsegError):
        case_from_mapping(data, source="a")
