"""How well objects were found one by one: precision, and sensitivity against false positives, over all cases.

Definitions are those of `medseg.metrics`: hits by the IoU of masks, objects of all cases pooled by score.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import counted
from medseg.core.instances import Instance, instance_map
from medseg.core.numbers import number
from medseg.core.software import SOFTWARE
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding, who
from medseg.metrics import CaseDetections, average_precision, cpm, froc, mean_average_precision
from medseg.metrics.case import CaseResult
from medseg.metrics.cohort import BOOTSTRAP_LEAST_N, BOOTSTRAP_SEED, resampled
from medseg.metrics.detection import FROC_RATES
from medseg.metrics.export import number_cell, text_cell
from medseg.reporting.cohort.content import Detection, Stated
from medseg.segmentation.prediction import summary_path, usable_summary

LEAST_IOU = 0.1
"""Of a hit of FROC and CPM, as is usual for objects in volumes."""

IMAGE_IOU = tuple(n / 100 for n in range(50, 100, 5))
"""Least IoU of a hit over which COCO averages."""

SIZES_ML = {"small": (0.0, 1.0), "medium": (1.0, 10.0), "large": (10.0, math.inf)}
"""Volumes from and up to, not including, which an object is called so."""

DRAWS = 500
"""Of the bootstrap."""

SHOWN = {
    "ap_10": "AP at IoU 0.1",
    "ap_50": "AP at IoU 0.5",
    "map_10_50": "AP 0.1 to 0.5",
    "map_50_95": "AP 0.5 to 0.95",
    "sensitivity_at_1": "sensitivity at 1 false a scan",
    "cpm": "CPM",
}
"""Measures that the terminal's table has, by what it calls them."""

COLUMNS = ("structure", "metric", "value", "ci_low", "ci_high", "objects", "cases", "software")

Measure = Callable[[Sequence[CaseDetections]], float]


@dataclass(frozen=True)
class Placed:
    """Where an object lies and how large it is.

    Attributes:
        low, high: ends of its box, in voxels; `high` is the first voxel behind it.
        middle_mm: of its box, in world coordinates, RAS+.
        longest_mm: its longest diameter.
        voxels: it has.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    middle_mm: tuple[float, ...]
    longest_mm: float
    voxels: int

    @classmethod
    def of(cls, one: Instance, grid: Grid) -> Placed:
        """Of an object on a grid."""
        middle = (np.add(one.box.start, one.box.stop) - 1) / 2
        world = grid.affine[:3, :3] @ middle + grid.affine[:3, 3]
        where = tuple(world.round(4).tolist())
        return cls(one.box.start, one.box.stop, where, round(one.longest_mm, 4), one.voxels)


@dataclass(frozen=True)
class Detected:
    """The objects of one structure of a case.

    Attributes:
        pairs: scores and overlaps, of which everything is measured.
        shape: of the scan.
        found, reference: where they lie, in the order of the pairs.
    """

    pairs: CaseDetections
    shape: tuple[int, ...]
    found: tuple[Placed, ...]
    reference: tuple[Placed, ...]


Found = Mapping[str, Detected]


@dataclass(frozen=True)
class DetectionRow:
    """One measure of one structure over all cases.

    Attributes:
        structure, metric: names.
        value: None where the references have no such object.
        ci_low, ci_high: ends of the 95 % bootstrap interval over cases; None below 10 cases.
        objects: of the references.
        cases: how many there are.
    """

    structure: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    objects: int
    cases: int


def _of_size(size_ml: tuple[float, float], cases: Sequence[CaseDetections]) -> float:
    return mean_average_precision(cases, size_ml=size_ml)


def _at_rate(rate: float, cases: Sequence[CaseDetections]) -> float:
    return froc(cases, least_overlap=LEAST_IOU, rates=(rate,))[0]


MEASURES: dict[str, Measure] = {
    "ap_10": lambda cases: average_precision(cases, least_overlap=0.1),
    "ap_50": lambda cases: average_precision(cases, least_overlap=0.5),
    "map_10_50": mean_average_precision,
    "map_50_95": lambda cases: mean_average_precision(cases, thresholds=IMAGE_IOU),
    **{f"map_10_50_{name}": partial(_of_size, size) for name, size in SIZES_ML.items()},
    **{f"sensitivity_at_{rate:g}": partial(_at_rate, rate) for rate in FROC_RATES},
    "cpm": lambda cases: cpm(cases, least_overlap=LEAST_IOU),
}
"""AP at IoU 0.1 and 0.5, its mean from 0.1 to 0.5 and from 0.5 to 0.95, by size, and FROC."""


def scores_of(pred: Path | None) -> dict[int, float]:
    """The scores that a prediction states of its instances, by their numbers; empty where it states none."""
    summary = None if pred is None else usable_summary(summary_path(pred))
    rows = () if summary is None else summary.instances or ()
    return {row.number: row.score for row in rows if row.score is not None and 0 <= row.score <= 1}


def unscored(pred: Path | None, numbers: tuple[LabelMap, LabelMap] | None) -> tuple[Finding, ...]:
    """A doubt about objects without a score, where a prediction states scores of others."""
    scores = scores_of(pred) if numbers is not None else {}
    if not scores or numbers is None:
        return ()
    lacking = set(np.unique(numbers[0].array).tolist()) - {0} - scores.keys()
    if not lacking:
        return ()
    text = f"No score is stated of {counted(len(lacking), 'object')}, which average precision leaves out."
    return (Finding("scores", "doubt", text, evidence={"objects": len(lacking)}),)


def without_scores(cases: Sequence[CaseResult], found: Mapping[str, Found]) -> tuple[str, ...]:
    """Which cases average precision leaves out, where others state scores."""
    lacking = [case.case_id for case in cases if case.case_id not in found and not case.failure]
    if not found or not lacking:
        return ()
    said = who(lacking, len(cases))
    return (f"average precision leaves out {said}, as no scores of the objects lie beside the prediction",)


def detections_of(
    pred: Path | None,
    labels: tuple[LabelMap, LabelMap],
    numbers: tuple[LabelMap, LabelMap] | None,
    structures: StructureSet,
) -> dict[str, Detected]:
    """The objects of one case, by structure; empty where nobody asked, or the prediction states no scores.

    Args:
        pred: the predicted label file, beside which the scores are stated; None where it is missing.
        labels: of prediction and reference.
        numbers: of their objects.
        structures: what is measured.
    """
    if numbers is None:
        return {}
    scores = scores_of(pred)
    if not scores and numbers[0].array.any():
        return {}
    found = {}
    for structure in structures:
        own, true = (
            np.where(structures.mask(side.array, structure), told.array, 0)
            for side, told in zip(labels, numbers, strict=True)
        )
        known = [number for number in np.unique(own).tolist() if number in scores]
        sure = [scores[number] for number in known]
        grid, order = labels[1].grid, _in_order(own, known)
        pairs = CaseDetections.of_masks(order, sure, true, spacing_mm=grid.spacing_mm)
        sides = (_placed(numbers, structure, grid) for numbers in (order, true))
        found[structure.name] = Detected(pairs, grid.shape, *sides)
    return found


def _placed(numbers: NDArray[np.integer[Any]], structure: Structure, grid: Grid) -> tuple[Placed, ...]:
    """The objects of a structure, by their numbers."""
    owners = dict.fromkeys(np.unique(numbers[numbers > 0]).tolist(), structure)
    return tuple(Placed.of(one, grid) for one in instance_map(numbers, owners, grid).items)


def _in_order(numbers: NDArray[np.integer[Any]], known: Sequence[int]) -> NDArray[np.int64]:
    """The known numbers as 1, 2 and so on; others are dropped."""
    out = np.zeros(numbers.shape, np.int64)
    for place, own in enumerate(known, start=1):
        out[numbers == own] = place
    return out


def detection_rows(cases: Sequence[Found], structures: StructureSet) -> tuple[DetectionRow, ...]:
    """Every measure of every structure; none where no case was measured so."""
    rows = []
    for name in structures.names if cases else ():
        own = [case[name].pairs for case in cases if name in case]
        objects = sum(len(case.reference_ml) for case in own)
        for metric, measure in MEASURES.items():
            value = measure(own)
            known = not math.isnan(value)
            low, high = _interval(own, measure) if known else (None, None)
            rows.append(DetectionRow(name, metric, value if known else None, low, high, objects, len(own)))
    return tuple(rows)


def _interval(cases: Sequence[CaseDetections], measure: Measure) -> tuple[float | None, float | None]:
    """Of what cases drawn with replacement come to."""
    if len(cases) < BOOTSTRAP_LEAST_N:
        return None, None
    drawn = resampled(len(cases), DRAWS, BOOTSTRAP_SEED).astype(int)
    values = [measure([c for c, n in zip(cases, counts, strict=True) for _ in range(n)]) for counts in drawn]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def detection_table(rows: Sequence[DetectionRow]) -> tuple[tuple[str, ...], ...]:
    """The measures in `SHOWN`, a row for each structure, header first."""
    by_name: dict[str, dict[str, DetectionRow]] = {}
    for row in rows:
        by_name.setdefault(row.structure, {})[row.metric] = row
    head = ("structure", "cases", "objects", *SHOWN.values())
    return head, *(
        (
            name,
            str(found["ap_50"].cases),
            str(found["ap_50"].objects),
            *(number(found[metric].value, 3) for metric in SHOWN),
        )
        for name, found in by_name.items()
    )


def detections_for_page(rows: Sequence[DetectionRow]) -> tuple[Detection, ...]:
    """What the page about all cases shows: the measures of the terminal, and sensitivity at every rate."""
    rates = {f"sensitivity_at_{rate:g}": rate for rate in FROC_RATES}
    found: dict[str, dict[str, DetectionRow]] = {}
    for row in rows:
        if row.value is not None:
            found.setdefault(row.structure, {})[row.metric] = row
    return tuple(
        Detection(
            name,
            next(iter(own.values())).objects,
            {title: _stated(own[metric]) for metric, title in SHOWN.items() if metric in own},
            {rate: _stated(own[metric]) for metric, rate in rates.items() if metric in own},
        )
        for name, own in found.items()
    )


def _stated(row: DetectionRow) -> Stated:
    return Stated(row.value or 0.0, row.ci_low, row.ci_high)


def detection_csv(rows: Sequence[DetectionRow]) -> str:
    """One line a structure and measure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = map(number_cell, (row.value, row.ci_low, row.ci_high, row.objects, row.cases))
        writer.writerow([text_cell(row.structure), row.metric, *numbers, SOFTWARE])
    return out.getvalue()


def taken_apart(found: Found) -> dict[str, Any]:
    """Detections of a case as plain values of JSON; pairs that do not overlap are left out."""
    return {
        name: {
            "scores": case.pairs.scores.tolist(),
            "found_ml": case.pairs.found_ml.tolist(),
            "reference_ml": case.pairs.reference_ml.tolist(),
            "overlap": [
                [*at, float(case.pairs.overlap[tuple(at)])]
                for at in np.argwhere(case.pairs.overlap > 0).tolist()
            ],
            "shape": list(case.shape),
            "found": [asdict(one) for one in case.found],
            "reference": [asdict(one) for one in case.reference],
        }
        for name, case in found.items()
    }


def restored(content: Mapping[str, Any]) -> dict[str, Detected]:
    """What `taken_apart` made plain.

    Raises:
        LookupError, TypeError, ValueError: it is something else.
    """
    found = {}
    for name, case in content.items():
        scores, found_ml, reference_ml = (
            np.asarray(case[key], np.float64) for key in ("scores", "found_ml", "reference_ml")
        )
        overlap = np.zeros((len(scores), len(reference_ml)))
        for n, m, iou in case["overlap"]:
            overlap[n, m] = iou
        pairs = CaseDetections(scores, overlap, found_ml, reference_ml)
        sides = (tuple(map(_restored_place, case[key])) for key in ("found", "reference"))
        found[name] = Detected(pairs, tuple(case["shape"]), *sides)
    return found


def _restored_place(content: Mapping[str, Any]) -> Placed:
    low, high, middle = (tuple(content[key]) for key in ("low", "high", "middle_mm"))
    return Placed(low, high, middle, float(content["longest_mm"]), int(content["voxels"]))
