"""`medseg evaluate`: predictions against references, files or folders, to tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.errors import GridMismatchError, InputError, UsageError, printable
from medseg.io import read_labels
from medseg.io.atomic import write_text
from medseg.metrics.case import (
    HAUSDORFF_PERCENT,
    CaseResult,
    StructureResult,
    SurfaceMode,
    Tolerance,
    evaluate_case,
    missed_case,
    tolerances_mm,
)
from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, CohortRow, summarise
from medseg.metrics.counts import present_values
from medseg.metrics.export import case_content, cases_csv, cohort_csv, report_json
from medseg.metrics.promise12 import Anchors
from medseg.metrics.value import not_evaluated
from medseg.report import tables
from medseg.structures import StructureSet, from_labels
from medseg.volume import LabelMap
from medseg.workflows import protocols
from medseg.workflows.pairs import FilePair, pair_files, read_pair, read_structures, segment_names

SCHEMA = "medseg.report/1"
SOFTWARE = f"medseg {__version__}"
MISSING = "the prediction is missing"

MOST_VALUES = 1024
"""More label values than any segmentation has: what holds them is an image."""

EMPTY_POLICY = (
    "both masks empty: undefined (null); one empty: Dice, Jaccard and NSD 0, distances infinite (null, "
    "counted as n_inf); zero denominators: undefined"
)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure.

    Attributes:
        tolerance_mm: of the NSD, for all structures or by name; None leaves the NSD out.
        tolerance_source: where the tolerance comes from, for the record.
        surface: False leaves all distances out.
        mode: definition of a surface: "surfel" (area-weighted, primary) or "voxel".
        threads: for the nearest-point search.
        protocol: of a challenge, whose values come beside the usual ones.
    """

    tolerance_mm: Tolerance = None
    tolerance_source: str = ""
    surface: bool = True
    mode: SurfaceMode = "surfel"
    threads: int = 1
    protocol: protocols.Protocol | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured, and the ways to write it.

    Attributes:
        cases: in the order of their ids.
        cohort: one row a structure and metric over all cases.
        structures: what was measured.
        options: how.
        digests: sha256 of the files of each case, by case id: `reference`, `prediction`.
        warnings: sentences about the whole, such as predictions without a reference.
        model: name of the model that predicted, if known.
    """

    cases: tuple[CaseResult, ...]
    cohort: tuple[CohortRow, ...]
    structures: StructureSet
    options: EvaluationOptions
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: str = ""

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """Cases that could not be measured; they count as missed in every mean."""
        return tuple(case for case in self.cases if case.failure)

    def table_rows(self) -> tuple[tuple[str, ...], ...]:
        """The table to show, header first: the structures of one case, or of the cohort."""
        protocol = self.options.protocol
        if len(self.cases) == 1:
            return protocol.case_table(self.cases[0]) if protocol else _case_table(self.cases[0])
        return protocol.cohort_table(self.cohort) if protocol else cohort_table(self.cohort)

    def csv(self) -> str:
        """One line a case, structure and metric."""
        return cases_csv(self.cases, surface=self.options.mode, software=SOFTWARE, model=self.model)

    def cohort_csv(self) -> str:
        """One line a structure and metric over all cases."""
        return cohort_csv(self.cohort)

    def json(self) -> str:
        """Strict JSON of the schema `medseg.report/1`."""
        return report_json(self.content())

    def content(self) -> dict[str, Any]:
        """What `json` writes, as plain values."""
        return {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": {"name": "medseg", "version": __version__},
            "intended_use": "research",
            "model": self.model or None,
            "settings": self._settings(),
            "warnings": list(self.warnings),
            "failures": [{"case_id": c.case_id, "reason": c.failure} for c in self.failures],
            "cases": [case_content(c) | {"sha256": self.digests.get(c.case_id, {})} for c in self.cases],
            "cohort": [asdict(row) for row in self.cohort],
        }

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.csv(), overwrite)

    def write_cohort_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.cohort_csv(), overwrite)

    def write_json(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.json(), overwrite)

    def _settings(self) -> dict[str, Any]:
        options = self.options
        return {
            "surface": options.mode if options.surface else None,
            "percentile": HAUSDORFF_PERCENT,
            "tau_mm": tolerances_mm(self.structures, options.tolerance_mm),
            "tau_source": options.tolerance_source or None,
            "empty_policy": EMPTY_POLICY,
            "connectivity": "2x2x2 cells" if options.mode == "surfel" else "faces",
            "bootstrap": {"n": BOOTSTRAP_DRAWS, "seed": BOOTSTRAP_SEED},
            "protocol": {"name": p.name, **p.settings} if (p := options.protocol) else None,
        }


def evaluate(
    pred: Path,
    ref: Path,
    *,
    structures: StructureSet | Path | None = None,
    tolerance_mm: Tolerance = None,
    tolerance_source: str = "",
    surface: bool = True,
    mode: SurfaceMode | None = None,
    threads: int = 1,
    protocol: str = "",
    anchors: Anchors | Path | None = None,
    model: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a prediction, or a folder of them, against the reference of the same name.

    In folders, the prediction of the reference `X.nii.gz` is `X_seg` or `X` with any image suffix.
    A reference without a prediction is a failure: its structures are missed, and it stays in the
    denominator of every mean.

    Args:
        pred: a label file, or a folder of them.
        ref: likewise.
        structures: what the label values mean, or a JSON file that says so (see
            `read_structures`); without, every value found is a structure named by its value.
        tolerance_mm: of the NSD, in mm, for all structures or by name; it has no default.
        tolerance_source: where the tolerance comes from.
        surface: whether to measure distances.
        mode: definition of a surface, "surfel" or "voxel"; the protocol's if None, "surfel" without one.
        threads: for the nearest-point search.
        protocol: of a challenge, one of `protocols.NAMES`, to measure by beside the usual.
        anchors: what a second observer reached, or a file that says so, for the PROMISE12 score.
        model: name of the model that predicted, for the record.
        progress: called with cases done, cases in all, and the id of the next.

    Raises:
        UsageError: file against folder, no reference has a prediction, names are ambiguous, or the
            protocol does not go with the other settings.
        InputError: a file cannot be read as labels.
        GridMismatchError: the two grids of a case differ; both files are named.
    """
    challenge = _challenge(protocol, anchors, mode, surface)
    mode = challenge.mode if challenge else mode or "surfel"
    options = EvaluationOptions(tolerance_mm, tolerance_source, surface, mode, threads, challenge)
    pairs, warnings = pair_files(Path(pred), Path(ref))
    if isinstance(structures, Path):
        structures = read_structures(structures)
    elif structures is None:
        structures = _found_structures(pairs)
        if challenge and challenge.regions:
            structures = _regions(challenge, structures)
    tolerances_mm(structures, tolerance_mm)
    warnings = (*warnings, *(challenge.warnings if challenge else ()))
    cases = []
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress(done, len(pairs), pair.case_id)
        cases.append(_evaluate_pair(pair, structures, options))
    digests = {p.case_id: _digests(p) for p in pairs}
    return Evaluation(tuple(cases), summarise(cases), structures, options, digests, warnings, model)


def _challenge(
    name: str, anchors: Anchors | Path | None, mode: SurfaceMode | None, surface: bool
) -> protocols.Protocol | None:
    """The protocol asked for, if any; its distances need the surface, and define it."""
    if not name:
        if anchors is not None:
            raise UsageError("anchors are for the protocol promise12, and none is asked for")
        return None
    anchors = protocols.read_anchors(anchors) if isinstance(anchors, Path) else anchors
    found = protocols.protocol(name, anchors=anchors)
    if not surface or mode not in (None, found.mode):
        raise UsageError(f"the protocol {name} measures distances, between surfaces of the mode {found.mode}")
    return found


def _regions(challenge: protocols.Protocol, found: StructureSet) -> StructureSet:
    """The challenge's own regions, where the files hold no other values than theirs."""
    regions = challenge.regions or StructureSet()
    strange = sorted(set(found.values) - set(regions.known_values))
    if strange:
        raise UsageError(
            f"the files hold the values {', '.join(map(str, strange))}, which {challenge.name} has not",
            mend="say with --labels what the values mean",
        )
    return regions


def _found_structures(pairs: Iterable[FilePair]) -> StructureSet:
    """Every label value of any file, named by itself where no file names it."""
    values: set[int] = set()
    for pair in pairs:
        for path in (pair.reference, pair.prediction):
            if path is not None:
                found = present_values(read_labels(path).array)
                if len(found) > MOST_VALUES:
                    raise InputError(
                        f"holds {len(found)} different values: an image, not labels", source=path
                    )
                values.update(found)
    names = segment_names(path for pair in pairs for path in (pair.reference, pair.prediction) if path)
    return from_labels({value: names.get(value, str(value)) for value in sorted(values - {0})})


def _evaluate_pair(pair: FilePair, structures: StructureSet, options: EvaluationOptions) -> CaseResult:
    reference, predicted = read_pair(pair, structures)
    if predicted is None or pair.prediction is None:
        case = missed_case(
            reference,
            structures,
            MISSING,
            tolerance_mm=options.tolerance_mm,
            surface=options.surface,
            mode=options.mode,
            case_id=pair.case_id,
        )
        return _extended(case, None, reference, structures, options)
    _require_one_grid(pair.reference, reference, pair.prediction, predicted)
    case = evaluate_case(
        predicted,
        reference,
        structures,
        tolerance_mm=options.tolerance_mm,
        surface=options.surface,
        mode=options.mode,
        case_id=pair.case_id,
        threads=options.threads,
    )
    return _extended(case, predicted, reference, structures, options)


def _extended(
    case: CaseResult,
    predicted: LabelMap | None,
    reference: LabelMap,
    structures: StructureSet,
    options: EvaluationOptions,
) -> CaseResult:
    if options.protocol is None:
        return case
    return options.protocol.extended(case, predicted, reference, structures, options.threads)


def _require_one_grid(ref: Path, reference: LabelMap, pred: Path, predicted: LabelMap) -> None:
    what = f"the reference {ref.name} and the prediction {pred.name}"
    try:
        reference.grid.require(predicted.grid, what, str(pred))
    except GridMismatchError as fault:
        fault.mend = "predict on the reference's grid, or resample one onto the other's first"
        raise


def _digests(pair: FilePair) -> dict[str, str]:
    out = {}
    for role, path in (("reference", pair.reference), ("prediction", pair.prediction)):
        if path is not None:
            with path.open("rb") as file:
                out[role] = hashlib.file_digest(file, "sha256").hexdigest()
    return out


def _case_table(case: CaseResult) -> tuple[tuple[str, ...], ...]:
    tolerances = {row.tau_mm for row in case.rows if row.tau_mm is not None}
    nsd = f"NSD at {tolerances.pop():g} mm" if len(tolerances) == 1 else "NSD"
    head = (
        "Structure", "Reference ml", "Prediction ml", "Difference ml", "Dice", "Jaccard", "Precision",
        "Recall", "HD95 mm", "ASSD mm", nsd,
    )  # fmt: skip
    return head, *(_structure_cells(row) for row in case.rows)


def _structure_cells(row: StructureResult) -> tuple[str, ...]:
    metrics = row.metrics
    nsd = metrics.get("nsd", not_evaluated("1"))
    return (
        printable(row.name),
        tables.millilitres(row.volume_ref_ml),
        tables.millilitres(row.volume_pred_ml),
        tables.millilitres(metrics["volume_diff_ml"].value, signed=True),
        *(tables.measure(metrics[name], 3) for name in ("dice", "jaccard", "precision", "recall")),
        tables.measure(metrics["hd95_mm"], 1),
        tables.measure(metrics["assd_mm"], 1),
        tables.measure(nsd, 3),
    )


COHORT_HEAD = (
    "Structure", "n", "Missed", "Extra", "Absent", "Mean Dice", "95 % CI", "Median", "Least",
    "Mean Jaccard", "HD95 mm median", "HD95 infinite", "Mean NSD",
)  # fmt: skip


def cohort_table(rows: Sequence[CohortRow]) -> tuple[tuple[str, ...], ...]:
    by_metric = {(row.structure, row.metric): row for row in rows}
    names = dict.fromkeys(row.structure for row in rows)
    return COHORT_HEAD, *(_cohort_cells(name, by_metric) for name in names)


def _cohort_cells(name: str, rows: Mapping[tuple[str, str], CohortRow]) -> tuple[str, ...]:
    dice, hd95, nsd = rows[name, "dice"], rows.get((name, "hd95_mm")), rows.get((name, "nsd"))
    interval = "n/a" if dice.ci_low is None else f"{dice.ci_low:.3f}–{dice.ci_high:.3f}"
    return (
        printable(name),
        *(str(n) for n in (dice.n, dice.n_missed, dice.n_false_positive, dice.n_both_empty)),
        tables.number(dice.mean, 3),
        interval,
        tables.number(dice.median, 3),
        tables.number(dice.min, 3),
        tables.number(rows[name, "jaccard"].mean, 3),
        tables.number(hd95.median if hd95 else None, 1),
        str(hd95.n_inf) if hd95 else "n/a",
        tables.number(nsd.mean if nsd else None, 3),
    )
