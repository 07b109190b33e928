"""The terminal's tables of `medseg evaluate`: the structures of a case, and of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medseg.core import numbers
from medseg.core.errors import listed, printable
from medseg.metrics.case import UNKNOWN, UNLABELLED, CaseResult, StructureResult
from medseg.metrics.cohort import CohortRow
from medseg.metrics.value import not_evaluated
from medseg.reporting.tables import measure

Rows = tuple[tuple[str, ...], ...]

USUALLY_IGNORED = ("255", "-1")
"""Values that data sets give to voxels that nobody labelled."""

PIXELS_A_ML = 1000
"""Of pictures without a size in mm, whose pixels count as 1 mm."""


def case_table(case: CaseResult, *, pixels: bool = False) -> Rows:
    """The table of one case, header first.

    Args:
        case: what was measured.
        pixels: whether areas and lengths are in pixels, because nothing states a size in mm.
    """
    tolerances = {row.tau_mm for row in case.rows if row.tau_mm is not None}
    nsd = f"NSD at {tolerances.pop():g} mm" if len(tolerances) == 1 else "NSD"
    head = (
        "Structure", "Reference ml", "Prediction ml", "Difference ml", "Dice", "Jaccard", "Precision",
        "Recall", "HD95 mm", "ASSD mm", nsd,
    )  # fmt: skip
    cells = (_structure_cells(row, pixels) for row in case.rows)
    return (_in_pixels(head) if pixels else head), *cells


def hints(cases: Sequence[CaseResult], *, tolerance: bool, ignore: bool) -> tuple[str, ...]:
    """Hints about options that would add measurements.

    Args:
        cases: what was measured.
        tolerance: whether a tolerance was given.
        ignore: whether a value is ignored.
    """
    said = []
    if not tolerance and any(case.has_distances and case.mode == "surfel" for case in cases):
        said.append("the NSD (surface Dice) needs a tolerance: give --tolerance MM")
    if not ignore and (values := _missed_values(cases)):
        usual = next((value for value in values if value in USUALLY_IGNORED), None)
        what = "give --ignore VALUE" if usual is None else f"--ignore {usual} leaves them out"
        said.append(
            f"no prediction has the value {listed(values)} of the references; "
            f"if such voxels are {UNLABELLED}, {what}"
        )
    elif not ignore and any(UNKNOWN.format("reference") in text for case in cases for text in case.warnings):
        said.append(f"if a value without a structure marks voxels {UNLABELLED}, give --ignore VALUE")
    if _may_be_structures(cases):
        names = listed([case.case_id for case in cases])
        said.append(f"if {names} are structures of one case, give the folders that hold each case's folder")
    return tuple(said)


def _may_be_structures(cases: Sequence[CaseResult]) -> bool:
    """Whether what was measured as cases may be masks of one: several of one grid with a nameless value."""
    rows = [row for case in cases for row in case.rows]
    nameless = all(row.name == str(row.label) == "1" for row in rows)
    plain = not any(c.isdigit() for case in cases for c in case.case_id)
    return len(cases) > 1 and nameless and plain and len({case.grid.shape for case in cases}) == 1


def instance_table(rows: Sequence[CohortRow]) -> Rows:
    """Panoptic quality of each structure, header first: means over cases, and objects of all of them."""
    by_metric = {(row.structure, row.metric): row for row in rows}
    names = [row.structure for row in rows if row.metric == "pq"]
    head = ("Structure", "PQ", "SQ", "RQ", "Matched", "Missed", "Extra")
    return head, *(
        (
            printable(name),
            *(numbers.number(by_metric[name, metric].mean, 3) for metric in ("pq", "sq", "rq")),
            *(str(_total(by_metric[name, f"instances_{kind}"])) for kind in ("matched", "missed", "extra")),
        )
        for name in names
    )


def _total(row: CohortRow) -> int:
    return round((row.mean or 0.0) * row.n)


def _missed_values(cases: Sequence[CaseResult]) -> list[str]:
    """Values that nobody named, which references have and no prediction that there is."""
    rows = [row for case in cases if case.failure is None for row in case.rows if row.name == str(row.label)]
    predicted = {row.name for row in rows if row.volume_pred_ml}
    held = (row.name for row in rows if row.volume_ref_ml and row.name not in predicted)
    return list(dict.fromkeys(held)) if predicted else []


def _in_pixels(head: Sequence[str]) -> tuple[str, ...]:
    """Titles whose unit is the pixel."""
    units = {"ml": "pixels", "mm": "pixels"}
    return tuple(" ".join(units.get(word, word) for word in title.split()) for title in head)


def _amount(volume_ml: float | None, pixels: bool, *, signed: bool = False) -> str:
    if not pixels or volume_ml is None:
        return numbers.millilitres(volume_ml, signed=signed)
    return numbers.number(volume_ml * PIXELS_A_ML, 0, signed=signed)


def _structure_cells(row: StructureResult, pixels: bool) -> tuple[str, ...]:
    metrics = row.metrics
    nsd = metrics.get("nsd", not_evaluated("1"))
    return (
        printable(row.name),
        _amount(row.volume_ref_ml, pixels),
        _amount(row.volume_pred_ml, pixels),
        _amount(metrics["volume_diff_ml"].value, pixels, signed=True),
        *(measure(metrics[name], 3) for name in ("dice", "jaccard", "precision", "recall")),
        measure(metrics["hd95_mm"], 1),
        measure(metrics["assd_mm"], 1),
        measure(nsd, 3),
    )


COHORT_HEAD = (
    "Structure", "n", "Missed", "Extra", "Absent", "Mean Dice", "95 % CI", "Median", "Minimum",
    "Mean Jaccard", "HD95 mm median", "HD95 infinite", "Mean NSD",
)  # fmt: skip


def cohort_table(rows: Sequence[CohortRow], *, pixels: bool = False) -> Rows:
    """The table of many cases, header first: means beside how many; see `case_table`."""
    by_metric = {(row.structure, row.metric): row for row in rows}
    names = dict.fromkeys(row.structure for row in rows)
    return (_in_pixels(COHORT_HEAD) if pixels else COHORT_HEAD), *(
        _cohort_cells(name, by_metric) for name in names
    )


def _cohort_cells(name: str, rows: Mapping[tuple[str, str], CohortRow]) -> tuple[str, ...]:
    dice, hd95, nsd = rows[name, "dice"], rows.get((name, "hd95_mm")), rows.get((name, "nsd"))
    interval = "n/a" if dice.ci_low is None else f"{dice.ci_low:.3f}–{dice.ci_high:.3f}"
    return (
        printable(name),
        *(str(n) for n in (dice.n, dice.n_missed, dice.n_false_positive, dice.n_both_empty)),
        numbers.number(dice.mean, 3),
        interval,
        numbers.number(dice.median, 3),
        numbers.number(dice.min, 3),
        numbers.number(rows[name, "jaccard"].mean, 3),
        numbers.number(hd95.median if hd95 else None, 1),
        str(hd95.n_inf) if hd95 else "n/a",
        numbers.number(nsd.mean if nsd else None, 3),
    )
