"""A page draws the result that was measured: its numbers are those of the tables, in every mode."""

from __future__ import annotations

import ast
import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_files import save

from medseg.core.numbers import number
from medseg.core.structures import from_labels
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.result import Evaluation
from medseg.metrics.lesions import BRATS2023_REGIONS
from medseg.reporting.tables import FIGURE_SPACE, POINT_SPACE

PACKAGE = Path(__file__).parents[2] / "medseg"
AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])
MEASURING = {
    "compare", "evaluate_case", "instance_values", "joint_counts", "label_distances", "lesion_rows",
    "lesion_values", "match_instances", "match_lesions", "promise12_values", "signed_surfaces",
    "surfel_distances", "voxel_distances",
}  # fmt: skip

WAYS: dict[str, dict[str, Any]] = {
    "voxel": {"mode": "voxel", "structures": from_labels({1: "a", 2: "b", 3: "c"})},
    "surfel": {"tolerance_mm": 1.0, "structures": from_labels({1: "a", 2: "b", 3: "c"})},
    "promise12": {"protocol": "promise12", "structures": from_labels({1: "prostate"})},
    "brats2023": {"protocol": "brats2023", "structures": BRATS2023_REGIONS},
    "no distances": {"surface": False, "structures": from_labels({1: "a", 2: "b"})},
}


def measured(folder: Path, **settings: Any) -> Evaluation:
    """A pair with a page: balls, the prediction moved and with a spur."""
    at = np.moveaxis(np.indices((26, 24, 20)), 0, -1)
    reference = np.zeros((26, 24, 20), np.uint8)
    for value, centre in enumerate(((7, 7, 7), (18, 8, 12), (10, 18, 10)), start=1):
        reference[np.linalg.norm((at - centre) * (1, 2, 1.5), axis=-1) < 6] = value
    predicted = np.roll(reference, 1, 0)
    predicted[7, 7, 7:14] = 1
    files = [
        save(folder / f"{name}.nii.gz", array, AFFINE)
        for name, array in (("pred", predicted), ("ref", reference), ("t1", reference.astype(np.float32)))
    ]
    return evaluate(files[0], files[1], images=files[2], out=folder / "out", **settings)


def rows_of(page: str) -> dict[str, dict[str, str]]:
    """The table of structures of a page, by structure and title."""
    table = re.findall(r"<table.*?</table>", page, re.DOTALL)
    (numbers,) = (t for t in table if ">Dice<" in t and ">Volume ml<" in t)
    head = re.findall(r"<th[^>]*>(.*?)</th>", numbers)
    lines = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", numbers)]
    plain = [[re.sub(r"<[^>]*>", "", c).strip(FIGURE_SPACE + POINT_SPACE) for c in line] for line in lines]
    return {line[0]: dict(zip(head, line, strict=False)) for line in plain if line}


@pytest.mark.fault("reports 30")
@pytest.mark.parametrize("way", WAYS)
def test_the_page_of_a_case_has_the_numbers_of_its_table(tmp_path: Path, way: str) -> None:
    found = measured(tmp_path, **WAYS[way])
    (page,) = found.pages.values()
    shown = rows_of(page.read_text())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "metrics.csv").read_text())))
    value = {(line["structure"], line["metric"]): line["value"] for line in lines}
    for name in found.structures.names:
        assert shown[name]["Dice"] == number(float(value[name, "dice"]), 3)
        stated = value[name, "hd95_mm"]
        assert shown[name]["HD95 mm"] == (number(float(stated), 1) if stated else "n/a – not evaluated")
    text = page.read_text()
    assert ("Surface distances" in text) == (way != "no distances")
    if way != "no distances":
        mean = number(float(value[found.structures.names[0], "assd_mm"]), 2)
        assert f"<td>{mean}" in text.replace(FIGURE_SPACE, "")


@pytest.mark.fault("reports 30")
def test_a_page_of_border_voxels_defines_its_distances_so(tmp_path: Path) -> None:
    found = measured(tmp_path, **WAYS["voxel"])
    (page,) = found.pages.values()
    text = page.read_text()
    assert "border voxel" in text
    assert "weighted by area" not in text
    assert "Surface Dice" not in text
    assert "weighted by area" not in (tmp_path / "out" / "cohort.html").read_text()


@pytest.mark.fault("reports 30")
@pytest.mark.parametrize("path", sorted((PACKAGE / "report").rglob("*.py")), ids=lambda p: p.stem)
def test_what_draws_a_page_measures_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medseg.metrics"):
            assert not MEASURING & {alias.name for alias in node.names}
