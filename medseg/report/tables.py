"""Numbers as a clinician reads them: how each value is written, and the tables of a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.metrics.value import Value
from medseg.report.content import ReportCase, ReportCohort, StructureRow

MINUS = "−"
FIGURE_SPACE = "\u2007"
POINT_SPACE = "\u2008"

WHY_NOT = {
    "both_empty": "n/a – absent in both",
    "ref_empty": "n/a – not in the reference",
    "pred_empty": "n/a – not labelled",
    "not_evaluated": "n/a – not evaluated",
}
"""What stands in the place of a value that does not exist, by its status."""


def millilitres(value: float | None, *, signed: bool = False) -> str:
    """A volume: one decimal, three significant figures below 1 ml.

    >>> millilitres(1234.56), millilitres(0.01234), millilitres(-2.0, signed=True), millilitres(0.0)
    ('1234.6', '0.0123', '−2.0', '0.0')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size < 1e-9 or size >= 0.9995:
        return number(value, 1, signed=signed)
    rounded = float(f"{size:.2e}")
    return number(value, 2 - math.floor(math.log10(rounded)), signed=signed)


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A fixed number of decimals, with a minus as long as a plus, and never minus zero.

    >>> number(-0.04, 1), number(0.5, 2, signed=True), number(None, 1)
    ('0.0', '+0.50', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def measure(value: Value, digits: int) -> str:
    """A measured value, or the reason there is none.

    >>> measure(Value(0.91234, "1", "ok"), 3), measure(Value(None, "1", "both_empty"), 3)
    ('0.912', 'n/a – absent in both')
    """
    if value.is_finite:
        return number(value.value, digits)
    return WHY_NOT.get(value.status, "n/a")


def percent_difference(row: StructureRow) -> str:
    """100 (P - R) / R, signed, one decimal; n/a when the reference has none of it."""
    if not row.reference_ml:
        return "n/a"
    return number(100 * (row.volume_ml - row.reference_ml) / row.reference_ml, 1, signed=True)


def aligned(column: Iterable[str]) -> list[str]:
    """Numbers of a column filled up behind with blank figures, so that their points line up.

    >>> [c.replace(FIGURE_SPACE, "_").replace(POINT_SPACE, ".") for c in aligned(["1.5", "0.25", "7", "n/a"])]
    ['1.5_', '0.25', '7.__', 'n/a']
    """
    texts = list(column)
    longest = max((_decimals(t) for t in texts), default=0)
    return [t if not _is_number(t) else t + _filling(_decimals(t), longest) for t in texts]


def _is_number(text: str) -> bool:
    return text[-1:].isdigit()


def _decimals(text: str) -> int:
    return len(text.partition(".")[2]) if _is_number(text) else 0


def _filling(here: int, longest: int) -> str:
    point = POINT_SPACE if longest and not here else ""
    return point + FIGURE_SPACE * (longest - here)


@dataclass(frozen=True)
class Table:
    """A table ready to be written: strings, columns of numbers aligned at the point.

    Attributes:
        head: column titles.
        rows: cells; the first of each row is a structure's or a case's name.
        colours: of the structure of each of the first rows, `#rrggbb`; the others have none.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    colours: tuple[str, ...] = ()


def _table(head: Sequence[str], columns: Sequence[Sequence[str]], colours: Sequence[str] = ()) -> Table:
    lined = [list(columns[0]), *(aligned(c) for c in columns[1:])]
    return Table(tuple(head), tuple(zip(*lined, strict=True)), tuple(colours))


def case_table(case: ReportCase) -> Table:
    """The structures of one case; volumes alone when there is no reference."""
    rows = case.rows
    head = ["Structure", "Volume ml"]
    columns = [
        [*(r.name for r in rows), *(name for name, _ in case.totals)],
        [*(millilitres(r.volume_ml) for r in rows), *(millilitres(ml) for _, ml in case.totals)],
    ]
    if case.has_reference:
        tolerances = {r.tolerance_mm for r in rows if r.tolerance_mm is not None}
        one = f" at {tolerances.pop():g} mm" if len(tolerances) == 1 else ""
        head += ["Reference ml", "Difference ml", "%", "Dice", "Jaccard", "HD95 mm", f"Surface Dice{one}"]
        none = [""] * len(case.totals)
        measured = [
            [millilitres(r.reference_ml) for r in rows],
            [millilitres(_difference(r), signed=True) for r in rows],
            [percent_difference(r) for r in rows],
            [measure(r.dice, 3) for r in rows],
            [measure(r.jaccard, 3) for r in rows],
            [measure(r.hd95_mm, 1) for r in rows],
            [measure(r.surface_dice, 3) + ("" if one else _tolerance(r)) for r in rows],
        ]
        columns += [column + none for column in measured]
    return _table(head, columns, [r.colour for r in rows])


def _difference(row: StructureRow) -> float | None:
    return None if row.reference_ml is None else row.volume_ml - row.reference_ml


def _tolerance(row: StructureRow) -> str:
    known = row.tolerance_mm is not None and row.surface_dice.is_finite
    return f" ({row.tolerance_mm:g} mm)" if known else ""


def cohort_table(cohort: ReportCohort) -> Table:
    """One row a structure: how many cases, and how Dice, or the volume, is spread over them."""
    return _accuracy_table(cohort) if cohort.has_reference else _volumes_table(cohort)


def _accuracy_table(cohort: ReportCohort) -> Table:
    found = {(row.structure, row.metric): row for row in cohort.summary}
    names = [name for name in cohort.colours if (name, "dice") in found]
    dice = [found[name, "dice"] for name in names]
    distances = [found.get((name, "hd95_mm")) for name in names]
    biases = [found.get((name, "volume_diff_ml")) for name in names]
    head = ["Structure", "n", "Missed", "Extra", "Absent", "Mean Dice", "95 % CI", "Median", "IQR", "Least"]
    head += ["HD95 mm", "Bias ml"]
    columns = [
        names,
        *(
            [str(getattr(r, key)) for r in dice]
            for key in ("n", "n_missed", "n_false_positive", "n_both_empty")
        ),
        [number(r.mean, 3) for r in dice],
        [_range(r.ci_low, r.ci_high) for r in dice],
        [number(r.median, 3) for r in dice],
        [_range(r.q1, r.q3) for r in dice],
        [number(r.min, 3) for r in dice],
        [number(r.median if r else None, 1) for r in distances],
        [millilitres(r.mean if r else None, signed=True) for r in biases],
    ]
    return _table(head, columns, [cohort.colours[name] for name in names])


COUNTS = ("n", "n_missed", "n_false_positive", "n_both_empty")


def _range(low: float | None, high: float | None) -> str:
    return "n/a" if low is None or high is None else f"{number(low, 3)}–{number(high, 3)}"


def _volumes_table(cohort: ReportCohort) -> Table:
    names = tuple(cohort.colours)
    volumes = {name: [r.volume_ml for r in cohort.rows_of(name) if r.volume_ml] for name in names}
    columns = [
        list(names),
        [str(len(volumes[n])) for n in names],
        [str(len(cohort.rows_of(n)) - len(volumes[n])) for n in names],
        *(
            [millilitres(float(f(volumes[n])) if volumes[n] else None) for n in names]
            for f in (np.median, min, max)
        ),
    ]
    head = ("Structure", "Labelled", "Not labelled", "Median ml", "Least ml", "Most ml")
    return _table(head, columns, [cohort.colours[n] for n in names])


def cases_table(cohort: ReportCohort) -> Table:
    """One row a case, the worst first: mean Dice, its lowest structure, structures missed, flags."""
    cases = cohort.worst_first()
    lowest = [
        min((r for r in c.rows if r.dice.is_finite), key=lambda r: r.dice.value or 0.0, default=None)
        for c in cases
    ]
    if not cohort.has_reference:
        flags = [str(len(c.flags)) for c in cases]
        empty = [str(sum(r.volume_ml == 0 for r in c.rows)) for c in cases]
        return _table(
            ("Case", "Structures not labelled", "Flags"), [[c.case_id for c in cases], empty, flags]
        )
    head = ("Case", "Mean Dice", "of n", "Lowest Dice", "in", "Missed", "Flags")
    columns = [
        [c.case_id for c in cases],
        [number(c.mean_dice, 3) for c in cases],
        [str(sum(r.dice.is_finite for r in c.rows)) for c in cases],
        [number(None if r is None else r.dice.value, 3) for r in lowest],
        ["" if r is None else r.name for r in lowest],
        [str(sum(r.missed for r in c.rows)) for c in cases],
        [str(len(c.flags)) for c in cases],
    ]
    return _table(head, columns)
