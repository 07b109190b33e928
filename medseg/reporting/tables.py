"""The tables of a page: their columns, and how numbers line up in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from medseg.core.instances import Instance
from medseg.core.numbers import millilitres, number, three_figures
from medseg.core.sides import without_side
from medseg.metrics.lesions import LesionRow
from medseg.metrics.value import Value
from medseg.metrics.volumes import relative_difference_percent
from medseg.reporting.case.content import ReportCase, StructureRow

FIGURE_SPACE = "\u2007"
POINT_SPACE = "\u2008"


WHY_NOT = {
    "both_empty": "n/a – absent in both",
    "ref_empty": "n/a – not in the reference",
    "pred_empty": "n/a – not labelled",
    "not_evaluated": "n/a – not evaluated",
}
"""What stands in the place of a value that does not exist, by its status."""


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
    return number(relative_difference_percent(row.volume_ml, row.reference_ml), 1, signed=True)


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
        texts: titles of the columns that hold words, not numbers, besides the first.
        links: relative address behind the first cell of each row, quoted; "" for none.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    colours: tuple[str, ...] = ()
    texts: tuple[str, ...] = ("Lowest in",)
    links: tuple[str, ...] = ()

    @staticmethod
    def merged(row: Sequence[str]) -> list[tuple[str, int, int]]:
        """Cells with the column they begin in and how many they span: equal reasons side by side are one.

        >>> Table.merged(["liver", "0.0", "n/a – absent in both", "n/a – absent in both"])
        [('liver', 0, 1), ('0.0', 1, 1), ('n/a – absent in both', 2, 2)]
        """
        cells: list[tuple[str, int, int]] = []
        for column, text in enumerate(row):
            if cells and column > 1 and text == cells[-1][0] and text.startswith("n/a – "):
                cells[-1] = (text, cells[-1][1], cells[-1][2] + 1)
            else:
                cells.append((text, column, 1))
        return cells


def _table(
    head: Sequence[str],
    columns: Sequence[Sequence[str]],
    colours: Sequence[str] = (),
    texts: Sequence[str] = ("Lowest in",),
) -> Table:
    lined = [list(columns[0]), *(aligned(c) for c in columns[1:])]
    return Table(tuple(head), tuple(zip(*lined, strict=True)), tuple(colours), tuple(texts))


def case_table(case: ReportCase) -> Table:
    """The structures of one case; volumes alone when there is no reference."""
    rows = case.rows
    columns = {"Volume ml": [millilitres(r.volume_ml) for r in rows]}
    if any(r.interval_ml for r in rows):
        columns[f"{100 * case.coverage:.0f} % interval ml"] = [_interval(r.interval_ml) for r in rows]
    if any(r.icv_percent is not None for r in rows):
        columns["% of ICV"] = [three_figures(r.icv_percent) for r in rows]
    if any(r.expected_dice is not None for r in rows):
        columns["Expected Dice"] = [number(r.expected_dice, 2) for r in rows]
    if case.has_reference:
        columns |= _accuracy(case)
    totals = [_total(ml, columns) for _, ml in case.totals]
    names = [*(r.name for r in rows), *(name for name, _ in case.totals)]
    filled = [[*cells, *(total[title] for total in totals)] for title, cells in columns.items()]
    return _table(["Structure", *columns], [names, *filled], [r.colour for r in rows])


def _accuracy(case: ReportCase) -> dict[str, list[str]]:
    """What was measured; without a tolerance there is no surface Dice."""
    rows = case.rows
    tolerances = {r.tolerance_mm for r in rows if r.tolerance_mm is not None}
    one = f" at {tolerances.pop():g} mm" if len(tolerances) == 1 else ""
    shares = [measure(r.surface_dice, 3) + ("" if one else _tolerance(r)) for r in rows]
    return {
        "Reference ml": [millilitres(r.reference_ml) for r in rows],
        "Difference ml": [millilitres(_difference(r), signed=True) for r in rows],
        "Difference %": [percent_difference(r) for r in rows],
        "Dice": [measure(r.dice, 3) for r in rows],
        "HD95 mm": [measure(r.hd95_mm, 1) for r in rows],
        **({f"Surface Dice{one}": shares} if case.has_surface_dice else {}),
        "Recall": [measure(r.recall, 3) for r in rows],
        "Precision": [measure(r.precision, 3) for r in rows],
    }


def _total(ml: float, columns: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(columns, "") | {"Volume ml": millilitres(ml)}


def _interval(interval: tuple[float, float] | None) -> str:
    return "n/a" if interval is None else f"{millilitres(interval[0])}–{millilitres(interval[1])}"


def _difference(row: StructureRow) -> float | None:
    return None if row.reference_ml is None else row.volume_ml - row.reference_ml


def _tolerance(row: StructureRow) -> str:
    known = row.tolerance_mm is not None and row.surface_dice.is_finite
    return f" ({row.tolerance_mm:g} mm)" if known else ""


def surface_table(case: ReportCase) -> Table:
    """How far the surfaces lie apart: on average, for 95 % of them, at most."""
    rows = [r for r in case.rows if r.dice.status != "both_empty"]
    columns = [
        [r.name for r in rows],
        *([measure(getattr(r, key), 2 if key == "assd_mm" else 1) for r in rows] for key in DISTANCES),
    ]
    return _table(["Structure", *DISTANCES.values()], columns, [r.colour for r in rows])


DISTANCES = {"assd_mm": "Mean mm", "hd95_mm": "HD95 mm", "largest_mm": "Largest mm"}


def asymmetry_table(case: ReportCase) -> Table:
    """The volumes of both sides and what they differ by."""
    rows = case.asymmetry
    columns = [
        [without_side(r.left, "left") for r in rows],
        [millilitres(r.left_ml) for r in rows],
        [millilitres(r.right_ml) for r in rows],
        [number(r.percent, 1, signed=True) if r.percent is not None else ONE_SIDE for r in rows],
    ]
    return _table(("Structure", "Left ml", "Right ml", "Asymmetry %"), columns)


ONE_SIDE = "n/a – one side not labelled"


def instance_table(case: ReportCase) -> Table:
    """The instances by number, `MOST_INSTANCES` of each structure at most, which are the largest.

    Where the page has a viewer, each number leads to its place there.
    """
    colours = {row.name: row.colour for row in case.rows}
    by_name: dict[str, list[Instance]] = {}
    for one in case.instances:
        by_name.setdefault(one.structure, []).append(one)
    kept = [one for found in by_name.values() for one in found[:MOST_INSTANCES]]
    columns = {
        "Number": [str(one.number) for one in kept],
        "Structure": [one.structure for one in kept],
        "Volume ml": [millilitres(one.volume_ml) for one in kept],
        "Longest diameter mm": [number(one.longest_mm, 1) for one in kept],
    }
    if any(one.score is not None for one in kept):
        columns["Score"] = [number(one.score, 2) for one in kept]
    shown = [colours[one.structure] for one in kept]
    table = _table(list(columns), list(columns.values()), shown, ("Structure",))
    links = ("#voxel-" + "-".join(map(str, one.middle)) for one in kept)
    return replace(table, links=() if case.viewer is None else tuple(links))


def lesion_table(case: ReportCase) -> Table:
    """The lesions, the largest of each structure first; what comes after `MOST_LESIONS` is counted."""
    colours = {row.name: row.colour for row in case.rows}
    by_name: dict[str, list[LesionRow]] = {}
    for row in case.lesions:
        by_name.setdefault(row.structure, []).append(row)
    kept = [row for rows in by_name.values() for row in sorted(rows, key=_lesion_size)[:MOST_LESIONS]]
    columns: dict[str, list[str]] = {
        "Structure": [r.structure for r in kept],
        "Outcome": [r.outcome for r in kept],
        "Reference ml": ["–" if r.reference_ml is None else millilitres(r.reference_ml) for r in kept],
        "Predicted ml": [millilitres(r.predicted_ml) if r.predicted_ml else "–" for r in kept],
        "Dice": ["–" if r.dice is None else number(r.dice, 3) for r in kept],
        "HD95 mm": ["–" if r.hd95_mm is None else number(r.hd95_mm, 1) for r in kept],
    }
    left = {name: len(rows) - MOST_LESIONS for name, rows in by_name.items() if len(rows) > MOST_LESIONS}
    for name, count in left.items():
        columns["Structure"].append(name)
        columns["Outcome"].append(f"and {count} smaller")
        for title in list(columns)[2:]:
            columns[title].append("")
    if not case.has_reference:
        columns = {title: columns[title] for title in ("Structure", "Outcome", "Predicted ml")}
        columns["Volume ml"] = columns.pop("Predicted ml")
    shown = [colours[name] for name in columns["Structure"]]
    return _table(list(columns), list(columns.values()), shown, ("Outcome",))


MOST_INSTANCES = 100
"""Instances of one structure that have a row."""

MOST_LESIONS = 12
"""Lesions of one structure that are listed one by one."""


def _lesion_size(row: LesionRow) -> float:
    return -max(row.reference_ml or 0.0, row.predicted_ml or 0.0)
