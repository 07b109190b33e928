"""The tables of a page about many cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medseg.core.numbers import decimals, millilitres, number
from medseg.metrics.agreement import Agreement, Interval, agreement
from medseg.metrics.cohort import CohortRow
from medseg.reporting.cohort.content import LEAST_N, ReportCohort
from medseg.reporting.tables import Table, aligned

FEW = f"n/a – below {LEAST_N} cases"
NEVER = "n/a – in no case"
NO_DISTANCE = "n/a – no finite distance"

Columns = Mapping[str, Sequence[str]]


def overlap_table(cohort: ReportCohort) -> Table:
    """One row a structure: in how many cases it is, and how Dice is spread over them."""
    rows = _summary(cohort, "dice")
    return _of_structures(
        cohort,
        rows,
        {
            "n": [str(r.n) for r in rows],
            "Present": [str(r.n - r.n_false_positive) for r in rows],
            "Missed": [str(r.n_missed) for r in rows],
            "Extra": [str(r.n_false_positive) for r in rows],
            "Absent": [str(r.n_both_empty) for r in rows],
            "Mean Dice": [_stated(r.mean, 3) for r in rows],
            "95 % CI": [_interval(r, 3) for r in rows],
            "Median": [_stated(r.median, 3) for r in rows],
            "IQR": [_quartiles(r, 3) for r in rows],
            "Minimum": [_stated(r.min, 3) for r in rows],
        },
    )


def surface_table(cohort: ReportCohort) -> Table | None:
    """One row a structure: HD95 and surface Dice over the cases; None when neither was measured."""
    distances = {row.structure: row for row in _summary(cohort, "hd95_mm")}
    shares = {row.structure: row for row in _summary(cohort, "nsd")}
    if not distances and not shares:
        return None
    names = [name for name in cohort.colours if name in distances or name in shares]
    columns: dict[str, list[str]] = {}
    if distances:
        rows = [distances[name] for name in names]
        columns = {
            "n": [str(r.n) for r in rows],
            "Infinite": [str(r.n_inf) for r in rows],
            "HD95 mm, median": [_finite(r, r.median) for r in rows],
            "IQR mm": [_quartiles(r, 1) for r in rows],
            "Maximum mm": [_finite(r, r.max) for r in rows],
        }
    if shares:
        found = [shares.get(name) for name in names]
        columns |= {
            f"Surface Dice{_tolerance(cohort, names)}, mean": [
                _stated(r.mean if r else None, 3) for r in found
            ],
            "95 % CI": [_interval(r, 3) if r else NEVER for r in found],
            "Median": [_stated(r.median if r else None, 3) for r in found],
        }
    return _of_structures(cohort, [distances.get(n) or shares[n] for n in names], columns)


def volume_table(cohort: ReportCohort) -> Table:
    """One row a structure: how much the predicted volume is too large on average."""
    rows = _summary(cohort, "dice")
    volumes = [cohort.volumes_of(row.structure) for row in rows]
    found = [agreement(v.differences_ml, least_n=LEAST_N) for v in volumes]
    share = [agreement(v.percent, least_n=LEAST_N) for v in volumes]
    middle = [float(np.median(v.reference_ml)) if v.reference_ml.size else None for v in volumes]
    return _of_structures(
        cohort,
        rows,
        {
            "n": [str(v.reference_ml.size) for v in volumes],
            "Reference ml, median": [NEVER if m is None else millilitres(m) for m in middle],
            "Bias ml": [NEVER if a is None else _together(a.bias, a.bias_interval)[0] for a in found],
            "95 % CI": [_ends(a.bias, a.bias_interval) if a else FEW for a in found],
            "Bias %": [NEVER if a is None else number(a.bias, 1, signed=True) for a in share],
            "SD ml": [FEW if a is None or a.sd is None else millilitres(a.sd) for a in found],
        },
    )


def limits_table(cohort: ReportCohort) -> Table | None:
    """One row a structure: limits of agreement with their intervals; None below ten cases."""
    rows = _summary(cohort, "dice")
    found = [agreement(cohort.volumes_of(row.structure).differences_ml, least_n=LEAST_N) for row in rows]
    if not any(a.limits for a in found if a):
        return None
    columns: dict[str, list[str]] = {}
    for end, which in enumerate(("Lower", "Upper")):
        rows_of = [_limit(a, end) for a in found]
        columns[f"{which} limit ml"] = [stated for stated, _ in rows_of]
        columns[f"95 % CI of the {which.lower()}"] = [interval for _, interval in rows_of]
    return _of_structures(cohort, rows, columns)


def plain_volume_table(cohort: ReportCohort) -> Table:
    """One row a structure, where there is no reference: how its volume is spread over the cases."""
    names = list(cohort.colours)
    volumes = [[r.volume_ml for r in cohort.rows_of(name) if r.volume_ml] for name in names]
    columns = {
        "Labelled": [str(len(v)) for v in volumes],
        "Not labelled": [str(len(cohort.rows_of(n)) - len(v)) for n, v in zip(names, volumes, strict=True)],
    }
    shares: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
        ("Median ml", lambda v: float(np.median(v))),
        ("Minimum ml", min),
        ("Maximum ml", max),
    )
    for title, share in shares:
        columns[title] = [millilitres(share(v)) if v else NEVER for v in volumes]
    return _table({"Structure": names, **columns}, [cohort.colours[n] for n in names])


def lesion_table(cohort: ReportCohort) -> Table | None:
    """One row a structure whose lesions a protocol measured; None when it measured none."""
    found = {(row.structure, row.metric): row for row in cohort.summary}
    names = [name for name in cohort.colours if (name, "lesion_dice") in found]
    if not names:
        return None

    def mean(metric: str, digits: int) -> list[str]:
        return [_stated(found[name, metric].mean, digits) for name in names]

    def total(metric: str) -> list[str]:
        rows = [found[name, metric] for name in names]
        return [str(round((r.mean or 0.0) * r.n)) for r in rows]

    return _table(
        {
            "Structure": names,
            "Found": total("lesions_found"),
            "Missed": total("lesions_missed"),
            "Extra": total("lesions_extra"),
            "Extra per case": mean("lesions_extra", 2),
            "Recall, mean": mean("lesion_recall", 3),
            "F1, mean": mean("lesion_f1", 3),
            "Lesion-wise Dice": mean("lesion_dice", 3),
            "Lesion-wise HD95 mm": mean("lesion_hd95_mm", 1),
        },
        [cohort.colours[name] for name in names],
    )


def detection_table(cohort: ReportCohort) -> Table | None:
    """One row a structure whose objects were found one by one; None when none were measured."""
    found = cohort.detections
    if not found:
        return None
    columns: dict[str, list[str]] = {
        "Structure": [one.structure for one in found],
        "Objects": [str(one.objects) for one in found],
    }
    for title in dict.fromkeys(title for one in found for title in one.measures):
        stated = [one.measures.get(title) for one in found]
        columns[title] = [_stated(s.value if s else None, 3) for s in stated]
        columns[f"95 % CI of {title}"] = [_between(s.low, s.high, 3) if s else NEVER for s in stated]
    return _table(columns, [cohort.colours.get(one.structure, "") for one in found])


def cases_table(cohort: ReportCohort, links: Mapping[str, str] | None = None) -> Table:
    """One row a case, the worst first: mean Dice, its lowest structure, structures missed, flags.

    Args:
        cohort: the cases.
        links: quoted address of each case's page, by case id.
    """
    cases = cohort.worst_first()
    columns: dict[str, list[str]] = {"Case": [c.case_id for c in cases]}
    if cohort.has_reference:
        lowest = [
            min((r for r in c.rows if r.dice.is_finite), key=lambda r: r.dice.value or 0.0, default=None)
            for c in cases
        ]
        columns |= {
            "Mean Dice": [number(c.mean_dice, 3) for c in cases],
            "Structures": [str(sum(r.dice.is_finite for r in c.rows)) for c in cases],
            "Lowest Dice": [number(None if r is None else r.dice.value, 3) for r in lowest],
            "Lowest in": ["" if r is None else r.name for r in lowest],
            "Missed": [str(sum(r.missed for r in c.rows)) for c in cases],
        }
    else:
        columns["Structures not labelled"] = [str(sum(r.volume_ml == 0 for r in c.rows)) for c in cases]
    columns["Flags"] = [str(len(c.flags)) for c in cases]
    known = links or {}
    return _table(columns, links=[known.get(c.case_id, "") for c in cases] if known else ())


def flow_table(cohort: ReportCohort) -> Table | None:
    """The cases without a result, and why; None when all have one."""
    rows = [
        *((c.case_id, "counted as missed", c.failure or "") for c in cohort.missing),
        *((f.case_id, "failed, left out", f.reason) for f in cohort.failures),
    ]
    head = ("Case", "Status", "Reason")
    return Table(head, tuple(rows), texts=head[1:]) if rows else None


def _summary(cohort: ReportCohort, metric: str) -> list[CohortRow]:
    """The rows of a metric, in the order of the structures."""
    found = {row.structure: row for row in cohort.summary if row.metric == metric}
    return [found[name] for name in cohort.colours if name in found]


def _of_structures(cohort: ReportCohort, rows: Sequence[CohortRow], columns: Columns) -> Table:
    names = [row.structure for row in rows]
    return _table({"Structure": names, **columns}, [cohort.colours[name] for name in names])


def _table(columns: Columns, colours: Sequence[str] = (), links: Sequence[str] = ()) -> Table:
    """Columns by their titles; those in which no cell has a number for want of cases are left out."""
    first, *others = columns
    kept = [t for t in others if FEW not in columns[t] or not set(columns[t]) <= {FEW, NEVER}]
    lined = [list(columns[first]), *(aligned(columns[title]) for title in kept)]
    return Table((first, *kept), tuple(zip(*lined, strict=True)), tuple(colours), links=tuple(links))


def _stated(value: float | None, digits: int) -> str:
    return NEVER if value is None else number(value, digits)


def _finite(row: CohortRow, value: float | None) -> str:
    return (NO_DISTANCE if row.n_inf else NEVER) if value is None else number(value, 1)


def _interval(row: CohortRow, digits: int) -> str:
    return _between(row.ci_low, row.ci_high, digits)


def _quartiles(row: CohortRow, digits: int) -> str:
    return _between(row.q1, row.q3, digits) if row.n >= LEAST_N else FEW


def _between(low: float | None, high: float | None, digits: int) -> str:
    return FEW if low is None or high is None else f"{number(low, digits)}–{number(high, digits)}"


def _limit(found: Agreement | None, end: int) -> tuple[str, str]:
    """A limit of agreement and its interval."""
    if found is None or found.limits is None:
        return FEW, FEW
    limit, interval = found.limits[end], (found.lower_interval, found.upper_interval)[end]
    return _together(limit, interval)[0], _ends(limit, interval)


def _ends(value: float, interval: Interval | None) -> str:
    return " to ".join(_together(value, interval)[1:]) if interval else FEW


def _together(value: float, interval: Interval | None) -> list[str]:
    """A value in ml and the ends of its interval, with as many decimals as the largest of them has.

    >>> _together(0.00012, (-0.0309, 0.0307))
    ['+0.0001', '−0.0309', '+0.0307']
    """
    numbers = [value, *(interval or ())]
    digits = decimals(max(map(abs, numbers)))
    return [number(n, digits, signed=True) for n in numbers]


def _tolerance(cohort: ReportCohort, names: Sequence[str]) -> str:
    """The tolerance of the surface Dice, where all structures have the same."""
    taus = {r.tolerance_mm for name in names for r in cohort.rows_of(name) if r.tolerance_mm is not None}
    return f" at {taus.pop():g} mm" if len(taus) == 1 else ""
