"""`medseg compare`: compare two segmentations of the same cases."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from medseg.core.errors import UsageError
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet, from_labels
from medseg.data.label_files import held_structures
from medseg.evaluation.comparison_facts import facts_of, stated_structures
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.label_names import require_some
from medseg.evaluation.measure import MISSING
from medseg.evaluation.pairs import FilePair, pair_files, read_pair
from medseg.evaluation.protocols import require_surface
from medseg.evaluation.result import Evaluation
from medseg.findings.finding import Finding, from_cases, refused, who
from medseg.findings.finding import sentences as texts_of
from medseg.io import ReadOptions
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult, Tolerance, evaluate_case, findings_of
from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_LEAST_N, BOOTSTRAP_SEED, summarise
from medseg.metrics.export import (
    CASE_COLUMNS,
    case_content,
    cases_csv,
    document_head,
    number_cell,
    report_json,
    text_cell,
)
from medseg.metrics.paired import PairedRow, compare_cases
from medseg.metrics.ranking import ALPHA, EXACT_UP_TO, LEAST_TESTED
from medseg.reporting.comparison.comparison import ReportComparison, metric_title, sentences, terminal_table
from medseg.segmentation.label_sources import named_structures
from medseg.segmentation.prediction import stated_verdict

SCHEMA = "medseg.comparison/1"
METRICS = ("dice", "hd95_mm", "nsd")
"""That are compared, the first one first in rank; NSD where a tolerance is given."""

VOLUMES = {"volume_ref_ml": "volume_a_ml", "volume_pred_ml": "volume_b_ml"}
"""What the volumes are called where A stands in the place of the reference."""

COLUMNS = (
    "case_id", "structure", "metric", "unit", "a", "b", "difference", "status_a", "status_b", "set",
    "software",
)  # fmt: skip

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Comparison:
    """Two segmentations compared, and the ways to write it.

    Attributes:
        report: everything that is said.
        structures: what was compared.
        tolerance_mm: of the NSD.
        faulty: cases of which a file was unusable, each with whose it was; the warnings say why.
        failures: why there was nothing to measure, by A or B and case id.
        excluded: why a case is in no number, by case id.
    """

    report: ReportComparison
    structures: StructureSet
    tolerance_mm: Tolerance = None
    faulty: tuple[str, ...] = ()
    failures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)

    def table_rows(self) -> tuple[tuple[str, ...], ...]:
        """The table to show, header first."""
        return terminal_table(self.report)

    def sentences(self) -> tuple[str, ...]:
        """The results in sentences."""
        return sentences(self.report)

    def json(self) -> str:
        """Strict JSON of the schema `medseg.comparison/1`."""
        return report_json(self.content())

    def content(self) -> dict[str, Any]:
        """What `json` writes, as plain values."""
        said = self.report
        return {
            **document_head(SCHEMA),
            "a": said.name_a,
            "b": said.name_b,
            "reference": said.has_reference,
            "settings": self._settings(),
            "warnings": list(texts_of(said.findings)),
            "findings": [finding.content() for finding in said.findings],
            "missing_a": list(said.missing_a),
            "missing_b": list(said.missing_b),
            "failures": {
                side: [{"case_id": case, "reason": reason} for case, reason in of_side.items()]
                for side, of_side in self.failures.items()
            },
            "excluded": [{"case_id": case, "reason": reason} for case, reason in self.excluded.items()],
            "sentences": list(self.sentences()),
            "comparison": [_row_content(row) for row in said.rows],
            "agreement": [asdict(row) for row in said.agreement],
            "cases": [_case_content(case) for case in said.agreed],
            "facts": dict(said.facts),
        }

    def csv(self) -> str:
        """One line a case, structure and metric; without a reference as `evaluate` has it, A in its place."""
        if not self.report.has_reference:
            return _of_a_and_b(cases_csv(self.report.agreed, surface="surfel", software=SOFTWARE))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_csv_rows(self.report))
        return out.getvalue()

    def page(self, *, created: str | None = None) -> str:
        """The page, its figures drawn."""
        from medseg.reporting.comparison.comparison import comparison_page
        from medseg.reporting.comparison.plots import NOTE, paired_differences

        drawn = (
            (f"{metric_title(m)}: difference in every case", paired_differences(said, self.report.colours))
            for m in self.report.metrics
            if (said := self.report.rows_of(m))
        )
        figures = tuple((title, png, NOTE) for title, png in drawn if png is not None)
        return comparison_page(replace(self.report, figures=figures), created=created)

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.csv(), overwrite)

    def write_page(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.page(), overwrite)

    def _settings(self) -> dict[str, Any]:
        return {
            "tau_mm": self.tolerance_mm if not isinstance(self.tolerance_mm, dict) else {**self.tolerance_mm},
            "bootstrap": {"n": BOOTSTRAP_DRAWS, "seed": BOOTSTRAP_SEED, "least_cases": BOOTSTRAP_LEAST_N},
            "test": {
                "name": "Wilcoxon signed-rank, two-sided",
                "zeros": "left out",
                "exact_up_to": EXACT_UP_TO,
                "least_cases": LEAST_TESTED,
                "correction": "Holm, over the rows of a metric",
                "alpha": ALPHA,
            },
            "missing": "worst: 0, for distances the diagonal of the image",
        }


def compare(
    a: Path,
    b: Path,
    *,
    reference: Path | None = None,
    structures: StructureSet | Path | None = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    surface: bool = True,
    threads: int = 1,
    reading: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two segmentations, files or folders of them, against references or with each other.

    Cases are matched by name as `evaluate` does. With references, a segmentation that is missing counts as
    missed in all structures. Without, it is told how far A and B agree, over the cases that both have.

    Args:
        a: a label file, or a folder of them.
        b: likewise.
        reference: likewise; None compares A with B alone.
        structures: what the label values mean, or a JSON file that says so; without, what the `.json` of
            a prediction says, else every value found is a structure.
        ignore: value of the references' voxels that nobody labelled, which count in no number.
        tolerance_mm: of the NSD, in mm, for all structures or by name; without one there is no NSD.
        surface: whether to measure distances.
        threads: for the nearest-point search.
        reading: decisions the files leave open.
        progress: called with cases done, cases in all, and the id of the next.

    Raises:
        UsageError: A and B are the same, files against folders, no case in common, or A and B name a value
            differently.
        InputError: a file cannot be read as labels.
        GridMismatchError: the two grids of a case differ; both files are named.
    """
    _require_two(a, b)
    require_surface(tolerance_mm, surface)
    if isinstance(structures, Path):
        structures = named_structures(structures)
    named = structures or stated_structures(a, b)
    if reference is None:
        files = _common(a, b, reading or ReadOptions())
        return _agreement(a, b, files, named, tolerance_mm, surface, threads, progress)

    measured = partial(
        evaluate,
        ref=reference,
        ignore=ignore,
        tolerance_mm=tolerance_mm,
        surface=surface,
        threads=threads,
        reading=reading,
        progress=progress,
    )
    first, second = (measured(of, structures=named) for of in (a, b))
    if first.structures.names != second.structures.names:
        whole = from_labels({s.value: s.name for found in (first, second) for s in found.structures})
        first, second = (measured(of, structures=whole) for of in (a, b))
    return _measured(a, b, first, second, tolerance_mm)


def _measured(a: Path, b: Path, first: Evaluation, second: Evaluation, tolerance_mm: Tolerance) -> Comparison:
    shared = {case.case_id for case in first.cases} & {case.case_id for case in second.cases}
    of_a, of_b = ([case for case in e.cases if case.case_id in shared] for e in (first, second))
    rows = tuple(row for metric in METRICS for row in compare_cases(of_a, of_b, metric))
    sides = {"A": first, "B": second}
    excluded = {**first.excluded, **second.excluded}
    failures = {side: {c.case_id: c.failure or "" for c in e.failures} for side, e in sides.items()}
    said = ReportComparison(
        name_a=_name(a),
        name_b=_name(b),
        n_cases=len(shared),
        rows=rows,
        missing_a=tuple(case.case_id for case in of_a if case.failure == MISSING),
        missing_b=tuple(case.case_id for case in of_b if case.failure == MISSING),
        colours={s.name: s.colour for s in first.structures},
        findings=from_cases(((side, f) for side, e in sides.items() for f in e.findings), " and ".join),
        facts=facts_of(a, b),
    )
    faulty = [
        case if case in excluded else f"{case} of {side}" for side, e in sides.items() for case in e.faulty
    ]
    return Comparison(said, first.structures, tolerance_mm, tuple(dict.fromkeys(faulty)), failures, excluded)


def _require_two(a: Path, b: Path) -> None:
    """Refuse one file or folder twice.

    Raises:
        UsageError: it is named.
    """
    if a.exists() and b.exists() and a.samefile(b):
        what = "folder" if a.is_dir() else "file"
        raise UsageError(f"A and B are the same {what}", source=a, hint="name two segmentations")


def _agreement(
    a: Path,
    b: Path,
    files: tuple[tuple[FilePair, ...], tuple[str, ...], tuple[str, ...]],
    structures: StructureSet | None,
    tolerance_mm: Tolerance,
    surface: bool,
    threads: int,
    progress: Progress | None,
) -> Comparison:
    """B measured as if A were the reference: Dice and distances are the same the other way round."""
    pairs, missing_a, missing_b = files
    structures = structures or held_structures(
        [path for pair in pairs for path in (pair.reference, pair.prediction) if path is not None],
        next((pair.reading for pair in pairs), None),
    )
    require_some(structures, a)
    cases, found = [], [(case, f) for case, f in _left_out(missing_a, missing_b)]
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress(done, len(pairs), pair.case_id)
        cases.append(_agreed(pair, structures, tolerance_mm, surface, threads))
        found += [(pair.case_id, f) for f in (*findings_of(cases[-1]), *_stated(pair))]
    said = ReportComparison(
        name_a=_name(a),
        name_b=_name(b),
        n_cases=len(cases),
        agreement=tuple(row for row in summarise(cases) if row.metric in (*METRICS, "volume_diff_ml")),
        agreed=tuple(cases),
        missing_a=missing_a,
        missing_b=missing_b,
        colours={s.name: s.colour for s in structures},
        findings=from_cases(found, partial(who, of=len(cases) + len(missing_a) + len(missing_b))),
        facts=facts_of(a, b),
    )
    return Comparison(said, structures, tolerance_mm)


def _common(
    a: Path, b: Path, reading: ReadOptions
) -> tuple[tuple[FilePair, ...], tuple[str, ...], tuple[str, ...]]:
    """The cases that both have, those that A has not, and those that B has not."""
    pairs, _ = pair_files(b, a, reading)
    back, _ = pair_files(a, b)
    both = tuple(replace(p, case_id=_case(p.case_id)) for p in pairs if p.prediction is not None)
    lacking = ([_case(p.case_id) for p in side if p.prediction is None] for side in (back, pairs))
    missing_a, missing_b = lacking
    return both, tuple(missing_a), tuple(missing_b)


def _case(stem: str) -> str:
    return stem.removesuffix("_seg")


def _agreed(
    pair: FilePair, structures: StructureSet, tolerance_mm: Tolerance, surface: bool, threads: int
) -> CaseResult:
    first, second = read_pair(pair, structures)
    if second is None:
        raise UsageError("the second segmentation does not exist", source=pair.reference)
    first.grid.require(second.grid, "A and B", str(pair.prediction))
    return evaluate_case(
        second,
        first,
        structures,
        tolerance_mm=tolerance_mm,
        surface=surface,
        case_id=pair.case_id,
        threads=threads,
    )


def _name(path: Path) -> str:
    return path.resolve().name


def _left_out(missing_a: Sequence[str], missing_b: Sequence[str]) -> Iterator[tuple[str, Finding]]:
    """Cases of which one side has no segmentation, each with what is said of it."""
    for side, missing in (("A", missing_a), ("B", missing_b)):
        text = f"There is no segmentation by {side}; the case is left out of all numbers."
        yield from ((case, Finding("missing", "doubt", text)) for case in missing)


def _stated(pair: FilePair) -> tuple[Finding, ...]:
    """Doubts and warnings that `predict` left beside A and B."""
    found = {"A": pair.reference, "B": pair.prediction}
    said = ((side, f) for side, path in found.items() if path for f in refused(stated_verdict(path).findings))
    return from_cases(said, " and ".join)


def _row_content(row: PairedRow) -> dict[str, Any]:
    return asdict(row) | {
        "n": row.n,
        "better": row.better,
        "better_in_a": row.better_a,
        "better_in_b": row.better_b,
        "failed_a": row.n_failed_a,
        "failed_b": row.n_failed_b,
    }


def _case_content(case: CaseResult) -> dict[str, Any]:
    """As `evaluate` has it, with the volumes of A and B."""
    content = case_content(case)
    rows = [{VOLUMES.get(key, key): value for key, value in row.items()} for row in content["structures"]]
    return content | {"structures": rows}


def _of_a_and_b(table: str) -> str:
    """The table of `evaluate` with the volumes called those of A and B."""
    metric = CASE_COLUMNS.index("metric")
    rows = csv.reader(io.StringIO(table, newline=""))
    out = io.StringIO()
    renamed = ([*r[:metric], VOLUMES.get(r[metric], r[metric]), *r[metric + 1 :]] for r in rows)
    csv.writer(out, lineterminator="\n").writerows(renamed)
    return out.getvalue()


def _csv_rows(said: ReportComparison) -> list[list[str]]:
    return [
        [
            text_cell(case.case_id),
            text_cell(row.structure),
            row.metric,
            row.unit,
            *(number_cell(x) for x in (case.a, case.b, case.difference)),
            case.status_a,
            case.status_b,
            str(case.replaced).lower(),
            SOFTWARE,
        ]
        for row in said.rows
        for case in row.cases
    ]
