"""What a comparison of two segmentations says: sentences, tables and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from medseg.core.colours import PALETTE
from medseg.core.errors import counted, listed, plural
from medseg.core.numbers import MINUS, millilitres, number
from medseg.findings.finding import Finding, sentence
from medseg.metrics.case import CaseResult
from medseg.metrics.cohort import BOOTSTRAP_LEAST_N, CohortRow
from medseg.metrics.paired import PairedCase, PairedRow
from medseg.metrics.ranking import ALPHA, LEAST_TESTED
from medseg.metrics.table import METRICS
from medseg.reporting import html
from medseg.reporting.tables import Table, aligned

NOT_ACCURACY = (
    "No reference segmentation was given, so this page shows how far A and B agree. Agreement is not "
    "accuracy: both can contain the same error."
)

CASE = "Case: structure"

LISTED = 10
"""Cases listed as those that differ most."""

NAMED_ALONE, SHOWN_ALONE = 2, 8
"""Up to this many structures without a shown difference, and with one, have a sentence each."""


@dataclass(frozen=True)
class ReportComparison:
    """Everything a page about two segmentations says.

    Attributes:
        name_a: what the first is called; text from a file name.
        name_b: the second.
        n_cases: that were compared.
        rows: one a structure and metric, with a reference; empty without.
        agreement: one a structure and metric of B against A, without a reference; empty with one.
        agreed: the cases behind `agreement`.
        missing_a: cases for which there is no A; `findings` name them too.
        missing_b: likewise B.
        colours: of the structures.
        findings: what a reader must know, most severe first.
        facts: label and value pairs on provenance.
        figures: title, picture (a PNG) and what it shows.
    """

    name_a: str
    name_b: str
    n_cases: int
    rows: tuple[PairedRow, ...] = ()
    agreement: tuple[CohortRow, ...] = ()
    agreed: tuple[CaseResult, ...] = ()
    missing_a: tuple[str, ...] = ()
    missing_b: tuple[str, ...] = ()
    colours: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    findings: tuple[Finding, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[tuple[str, bytes, str], ...] = ()

    @property
    def has_reference(self) -> bool:
        return not self.agreement

    @property
    def metrics(self) -> tuple[str, ...]:
        """That were compared, the first one first in rank."""
        return tuple(dict.fromkeys(row.metric for row in self.rows))

    def rows_of(self, metric: str) -> tuple[PairedRow, ...]:
        return tuple(row for row in self.rows if row.metric == metric)


def sentences(comparison: ReportComparison) -> tuple[str, ...]:
    """What is shown, plainly; that no difference is shown is an answer too."""
    if not comparison.has_reference:
        return NOT_ACCURACY, *_agreement_sentences(comparison)
    return tuple(line for m in comparison.metrics for line in _metric_sentences(comparison.rows_of(m)))


def _metric_sentences(rows: Sequence[PairedRow]) -> Iterator[str]:
    rows = sorted(rows, key=lambda row: not row.overall)
    for who in ("A", "B"):
        shown = [row for row in rows if row.better == who]
        alone = shown if len(shown) <= SHOWN_ALONE else [row for row in shown if row.overall]
        yield from (_shown(row) for row in alone)
        if more := [row for row in shown if row not in alone]:
            yield (
                f"{who} is better in {_title(more[0])} for {listed([_named(r) for r in more], most=None)} "
                f"({_counted([r.n for r in more])}{_failures(more)}; the table lists the values)."
            )
    open_ = [row for row in rows if row.p is not None and row.better == "neither"]
    if len(open_) <= NAMED_ALONE:
        yield from (_not_shown(row) for row in open_)
    else:
        yield (
            f"No difference in {_title(rows[0])} was shown for "
            f"{listed([_named(r) for r in open_], most=None)} "
            f"({_counted([r.n for r in open_])}{_failures(open_)}; the table lists the values)."
        )
    few = [row for row in rows if row.cases and row.p is None]
    if few:
        yield (
            f"{_capital(_title(rows[0]))} was not tested for {listed([_named(r) for r in few], most=None)}: "
            f"there {plural(max(r.n for r in few), 'is', 'are')} {_counted([r.n for r in few])} and a test "
            f"needs {LEAST_TESTED}. The differences in the table alone show nothing."
        )
    if none := [row.structure for row in rows if not row.cases]:
        verb = plural(len(none), "was", "were")
        names = listed(none, most=None)
        yield sentence(f"{names} {verb} not compared: no reference, A or B contains any of it.")


def _shown(row: PairedRow) -> str:
    return f"{row.better} is better for {_named(row)} ({_evidence(row)})."


def _named(row: PairedRow) -> str:
    return f"the {row.structure}" if row.overall else row.structure


def _equation(value: str) -> str:
    return value if value.startswith("<") else f"= {value}"


def _not_shown(row: PairedRow) -> str:
    against = ""
    if row.p_holm is not None and row.p_holm < ALPHA:
        against = "; the signed-rank test and the mean difference disagree"
    return f"No difference was shown for {_named(row)} ({_evidence(row)}{against})."


def _title(row: PairedRow) -> str:
    return METRICS[row.metric].title


def _evidence(row: PairedRow) -> str:
    parts = [f"{_title(row)}, B {MINUS} A: {difference(row.difference, row.metric, unit=True)}"]
    if row.ci_low is not None:
        low, high = (difference(x, row.metric) for x in (row.ci_low, row.ci_high))
        parts.append(f"95 % CI {low} to {high}")
    parts += [f"Holm-corrected p {_equation(p_value(row.p_holm))}", f"{_counted([row.n])}{_failures([row])}"]
    if row.ci_low is None:
        parts.append(f"an interval needs {BOOTSTRAP_LEAST_N} cases")
    return ", ".join(parts)


def _failures(rows: Sequence[PairedRow]) -> str:
    """In how many cases A and B failed, with the structures where these differ; empty where they did not."""
    names: dict[str, list[str]] = {}
    for row in rows:
        counts = (("A", row.n_failed_a), ("B", row.n_failed_b))
        if said := " and ".join(f"{who} failed in {n}" for who, n in counts if n):
            names.setdefault(said, []).append(_named(row))
    parts = [
        said if len(of) == len(rows) else f"{said} for {listed(of, most=None)}" for said, of in names.items()
    ]
    return f", of which {'; '.join(parts)}" if parts else ""


def _agreement_sentences(comparison: ReportComparison) -> Iterator[str]:
    for row in comparison.agreement:
        if row.metric == "dice" and row.mean is not None:
            worst = min(_dice_of(comparison, row.structure), default=None)
            where = f"; minimum {number(worst[0], 3)} in {worst[1]}" if worst and row.n > 1 else ""
            yield (
                f"The mean Dice of A with B for {row.structure} is {number(row.mean, 3)} "
                f"({_counted([row.n])}{where})."
            )


def _dice_of(comparison: ReportComparison, name: str) -> list[tuple[float, str]]:
    values = ((case[name].metrics["dice"].value, case.case_id) for case in comparison.agreed)
    return [(value, case_id) for value, case_id in values if value is not None]


def value(x: float | None, metric: str) -> str:
    """A fraction with three decimals, a distance with one."""
    return number(x, 1 if METRICS[metric].unit == "mm" else 3)


def difference(x: float | None, metric: str, *, unit: bool = False) -> str:
    """Signed; three decimals, of a distance two."""
    text = number(x, 2 if METRICS[metric].unit == "mm" else 3, signed=True)
    return f"{text} mm" if unit and METRICS[metric].unit == "mm" else text


def p_value(p: float | None) -> str:
    """Two significant figures.

    >>> p_value(0.0123), p_value(0.00004), p_value(1.0), p_value(None)
    ('0.012', '< 0.001', '1.0', 'n/a')
    """
    if p is None:
        return "n/a"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.01 else f"{p:#.2g}"


def _counted(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return counted(low, "case") if low == high else f"{low} to {high} cases"


def metric_title(metric: str) -> str:
    """With its unit, as a column has it.

    >>> metric_title("hd95_mm"), metric_title("nsd")
    ('HD95 mm', 'Surface Dice')
    """
    return _capital(METRICS[metric].title + (" mm" if METRICS[metric].unit == "mm" else ""))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


HEAD = ("n", "A", "B", f"B {MINUS} A", "95 % CI", "p (Holm)", "A better in", "B better in")


def difference_table(comparison: ReportComparison, metric: str) -> Table:
    """One row a structure: means, their difference, how sure it is, and who is better in how many cases."""
    rows = comparison.rows_of(metric)
    cells = [_difference_cells(row) for row in rows]
    columns = [[row.structure for row in rows], *(aligned(column) for column in zip(*cells, strict=True))]
    named = [row for row in rows if not row.overall]
    head = ("Structure", *HEAD)
    return Table(head, tuple(zip(*columns, strict=True)), _colours(comparison, [r.structure for r in named]))


def _difference_cells(row: PairedRow) -> tuple[str, ...]:
    interval = "n/a"
    if row.ci_low is not None:
        interval = f"{difference(row.ci_low, row.metric)} to {difference(row.ci_high, row.metric)}"
    return (
        str(row.n),
        value(row.mean_a, row.metric),
        value(row.mean_b, row.metric),
        difference(row.difference, row.metric),
        interval,
        p_value(row.p_holm),
        str(row.better_a),
        str(row.better_b),
    )


def terminal_table(comparison: ReportComparison) -> tuple[tuple[str, ...], ...]:
    """All metrics, header first; of A with B where there is no reference."""
    if not comparison.has_reference:
        table = agreement_table(comparison)
        return table.head, *table.rows
    rows = ((r.structure, metric_title(r.metric), *_difference_cells(r)) for r in comparison.rows)
    return ("Structure", "Metric", *HEAD), *rows


def stability_table(comparison: ReportComparison, metric: str) -> Table:
    """Share of the bootstrap samples in which each leads, by the three ways of ranking; empty below 10."""
    rows = [row for row in comparison.rows_of(metric) if row.stability]
    head = ["Structure"]
    for way in ("means", "ranks", "tests"):
        head += [f"A, by {way}", f"B, by {way}"]
    cells = [
        (row.structure, *(_percent(x) for s in row.stability for x in (s.share_a, s.share_b))) for row in rows
    ]
    named = [row.structure for row in rows if not row.overall]
    return Table(tuple(head), tuple(cells), _colours(comparison, named))


def _percent(share: float) -> str:
    """Whole per cents, but never all or none when it is not.

    >>> _percent(0.9996), _percent(1.0), _percent(0.0001), _percent(0.973)
    ('> 99 %', '100 %', '< 1 %', '97 %')
    """
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def differing_table(comparison: ReportComparison, metric: str) -> Table:
    """The cases and structures in which A and B differ most, the largest difference first."""
    found = [(row, case) for row in comparison.rows_of(metric) if not row.overall for case in _differing(row)]
    found.sort(key=lambda pair: (-abs(pair[1].difference), pair[1].case_id, pair[0].structure))
    cells = tuple(
        (
            f"{case.case_id}: {row.structure}",
            _value_cell(case.a, case.status_a, metric),
            _value_cell(case.b, case.status_b, metric),
            difference(case.difference, metric),
        )
        for row, case in found[:LISTED]
    )
    title = metric_title(metric)
    return Table((CASE, f"{title} of A", f"{title} of B", f"B {MINUS} A"), cells)


def _differing(row: PairedRow) -> tuple[PairedCase, ...]:
    return row.most_different(LISTED)


def _value_cell(x: float, status: str, metric: str) -> str:
    why = {"pred_empty": " (missed)", "ref_empty": " (extra)", "both_empty": " (correctly empty)"}
    return value(x, metric) + why.get(status, "")


def agreement_table(comparison: ReportComparison) -> Table:
    """One row a structure: how far A and B agree."""
    found = {(row.structure, row.metric): row for row in comparison.agreement}
    names = list(dict.fromkeys(row.structure for row in comparison.agreement))
    rows = tuple(_agreement_cells(name, found) for name in names)
    head = ("Structure", "n", "Only A", "Only B", "Mean Dice", "95 % CI", "Minimum Dice", "HD95 mm",
            f"B {MINUS} A ml")  # fmt: skip
    return Table(head, rows, _colours(comparison, names))


def _agreement_cells(name: str, rows: Mapping[tuple[str, str], CohortRow]) -> tuple[str, ...]:
    dice, hd95, volume = (rows.get((name, metric)) for metric in ("dice", "hd95_mm", "volume_diff_ml"))
    if dice is None:
        return (name, *["n/a"] * 8)
    interval = "n/a" if dice.ci_low is None else f"{number(dice.ci_low, 3)} to {number(dice.ci_high, 3)}"
    return (
        name,
        *(str(n) for n in (dice.n, dice.n_missed, dice.n_false_positive)),
        number(dice.mean, 3),
        interval,
        number(dice.min, 3),
        number(hd95.median if hd95 else None, 1),
        millilitres(volume.mean if volume else None, signed=True),
    )


def disagreeing_table(comparison: ReportComparison) -> Table:
    """The cases and structures with the least Dice of A with B."""
    found = [
        (dice.value, case.case_id, row)
        for case in comparison.agreed
        for row in case.rows
        if (dice := row.metrics["dice"]).value is not None and dice.value < 1
    ]
    found.sort(key=lambda item: (item[0], item[1]))
    cells = tuple(
        (
            f"{case_id}: {row.name}",
            number(dice, 3),
            number(row.metrics["hd95_mm"].value, 1),
            millilitres(row.volume_ref_ml),
            millilitres(row.volume_pred_ml),
        )
        for dice, case_id, row in found[:LISTED]
    )
    return Table((CASE, "Dice of A with B", "HD95 mm", "A ml", "B ml"), cells)


def _colours(comparison: ReportComparison, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(comparison.colours.get(name, PALETTE[n % len(PALETTE)]) for n, name in enumerate(names))


def comparison_page(comparison: ReportComparison, *, created: str | None = None) -> str:
    """The page about two segmentations, as HTML.

    Args:
        comparison: what to say; every text of it is escaped.
        created: a date to print; without one the same comparison gives the same page.
    """
    metrics = comparison.metrics
    first = difference_table(comparison, metrics[0]) if metrics else agreement_table(comparison)
    return html.page(
        "compare.html",
        first,
        comparison=comparison,
        sentences=sentences(comparison),
        blocks=[
            (metric_title(m), difference_table(comparison, m), differing_table(comparison, m))
            for m in metrics
        ],
        stability=stability_table(comparison, metrics[0]) if metrics else None,
        disagreeing=disagreeing_table(comparison),
        figures=comparison.figures,
        created=created,
    )
