"""The result of `medseg evaluate`, and the formats to write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from medseg.core import specs
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet
from medseg.evaluation.detections import Detected, DetectionRow, detection_rows, detection_table
from medseg.evaluation.measure import MISSING, EvaluationOptions
from medseg.evaluation.scores import case_table, cohort_table, instance_table
from medseg.findings.finding import Finding, from_cases, from_warnings, ordered, sentence, who
from medseg.io.atomic import write_text
from medseg.io.pictures.slices import states_no_size
from medseg.metrics.case import CaseResult, findings_of, tolerances_mm
from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, CohortRow
from medseg.metrics.export import case_content, cases_csv, cohort_csv, document_head, lesions_csv, report_json
from medseg.metrics.lesions import LesionRow
from medseg.metrics.scores import Scores, StructureScores
from medseg.metrics.table import HAUSDORFF_PERCENT

SCHEMA = "medseg.report/1"

EMPTY_POLICY = (
    "both masks empty: undefined (null); one empty: Dice, Jaccard and NSD 0, distances infinite (null, "
    "counted as n_inf); zero denominators: undefined"
)
FAILURE_POLICY = (
    "a prediction that is missing, cannot be read or lies on another grid counts as one without voxels, in "
    "every mean; a case whose reference cannot be read is excluded from all"
)


@dataclass(frozen=True)
class Evaluation:
    """All measurements, and the formats to write them.

    Attributes:
        cases: in the order of their ids.
        structures: what was measured.
        options: how.
        digests: sha256 of the files of each case, by case id: `reference`, `prediction`.
        warnings: sentences about the whole, such as predictions without a reference.
        model: name of the model that predicted, if known.
        title: what the cases are called together.
        excluded: why a case is in no number, by case id.
        files: names of reference and prediction of each case, by case id.
        stated: doubts and warnings that the predictions' summaries state of them, by case id.
        lesions: of the structures that were measured lesion by lesion, by case id.
        detections: objects with scores, by case id and structure, where they were measured.
        pages: the page of each case that has one, by case id.
        without_page: why a page that was wanted could not be made, by case id.
    """

    cases: tuple[CaseResult, ...]
    structures: StructureSet
    options: EvaluationOptions
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: str = ""
    title: str = ""
    excluded: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stated: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    lesions: Mapping[str, tuple[LesionRow, ...]] = field(default_factory=dict)
    detections: Mapping[str, Mapping[str, Detected]] = field(default_factory=dict)
    pages: Mapping[str, Path] = field(default_factory=dict)
    without_page: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def scores(self) -> Scores:
        """The measurements by structure and metric."""
        return Scores(self.cases)

    def __repr__(self) -> str:
        return f"Evaluation({self.scores.shown})"

    @cached_property
    def detection(self) -> tuple[DetectionRow, ...]:
        """How well objects with scores were found, one row a structure and measure over all cases."""
        return detection_rows(list(self.detections.values()), self.structures)

    @property
    def cohort(self) -> tuple[CohortRow, ...]:
        """One row a structure and metric over all cases."""
        return self.scores.cohort

    def __getitem__(self, name: str) -> StructureScores:
        """The scores of one structure, such as `found["liver"].dice`.

        Raises:
            KeyError: there is none of that name; the message names the nearest.
        """
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the structures."""
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __contains__(self, name: object) -> bool:
        return name in self.scores

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row a case, structure and metric.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return self.scores.to_pandas()

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """Cases whose prediction is missing or cannot be used; they count as missed in every mean."""
        return tuple(case for case in self.cases if case.failure)

    @property
    def faulty(self) -> tuple[str, ...]:
        """Cases with a file that cannot be used; one that is missing is no fault of a file."""
        unusable = (case.case_id for case in self.failures if case.failure != MISSING)
        return tuple(dict.fromkeys((*unusable, *self.excluded, *self.without_page)))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that a reader must know, most severe first: of the whole, and of each case by its id."""
        of = partial(who, of=len(self.cases) + len(self.excluded))
        return ordered((*from_warnings(self.warnings, "evaluation"), *from_cases(self._of_each(), of)))

    def _of_each(self) -> Iterator[tuple[str, Finding]]:
        """Each case's findings, with its id."""
        for case in self.cases:
            for finding in (*findings_of(case), *self.stated.get(case.case_id, ())):
                yield case.case_id, finding
        for name, reason in self.excluded.items():
            yield name, Finding("excluded", "doubt", sentence(f"{reason}; excluded from all numbers"))
        for name, reason in self.without_page.items():
            yield name, Finding("no_page", "warning", sentence(f"no report was written: {reason}"))

    def table_rows(self) -> tuple[tuple[str, ...], ...]:
        """The table to show, header first: the structures of one case, or of the cohort."""
        protocol = self.options.protocol
        if len(self.cases) == 1:
            case = self.cases[0]
            return protocol.case_table(case) if protocol else case_table(case, pixels=self._unsized)
        return (
            protocol.cohort_table(self.cohort)
            if protocol
            else cohort_table(self.cohort, pixels=self._unsized)
        )

    def object_tables(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """The tables of single objects, header first: how they match, and of those with scores."""
        matched = (instance_table(self.cohort),) if self.options.instances else ()
        return (*matched, detection_table(self.detection)) if self.detection else matched

    def csv(self) -> str:
        """One line a case, structure and metric."""
        return cases_csv(self.cases, surface=self.options.mode, software=SOFTWARE, model=self.model)

    def cohort_csv(self) -> str:
        """One line a structure and metric over all cases."""
        return cohort_csv(self.cohort)

    def lesions_csv(self) -> str:
        """One line a lesion of the structures that were measured lesion by lesion."""
        return lesions_csv(self.lesions)

    def json(self) -> str:
        """Strict JSON of the schema `medseg.report/1`."""
        return report_json(self.content())

    def content(self) -> dict[str, Any]:
        """What `json` writes, as plain values."""
        return {
            **document_head(SCHEMA),
            "model": self.model or None,
            "settings": settings_content(self.structures, self.options),
            "warnings": list(self.warnings),
            "findings": [finding.content() for finding in self.findings],
            "failures": [{"case_id": c.case_id, "reason": c.failure} for c in self.failures],
            "excluded": [{"case_id": case, "reason": reason} for case, reason in self.excluded.items()],
            "cases": [
                case_content(c, self.lesions.get(c.case_id)) | {"sha256": self.digests.get(c.case_id, {})}
                for c in self.cases
            ],
            "cohort": [asdict(row) for row in self.cohort],
            **({"detection": [asdict(row) for row in self.detection]} if self.detection else {}),
        }

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.csv(), overwrite)

    def write_cohort_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.cohort_csv(), overwrite)

    def write_json(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.json(), overwrite)

    @property
    def _unsized(self) -> bool:
        """Whether all cases are pictures, whose size in mm nothing states."""
        return all(states_no_size(case.warnings) for case in self.cases)


def settings_content(structures: StructureSet, options: EvaluationOptions) -> dict[str, Any]:
    """How something was measured, as a report states it."""
    return {
        "surface": options.mode if options.surface else None,
        "percentile": HAUSDORFF_PERCENT,
        "tau_mm": tolerances_mm(structures, options.tolerance_mm),
        "tau_source": options.tolerance_source or None,
        "empty_policy": EMPTY_POLICY,
        "failure_policy": FAILURE_POLICY,
        "connectivity": "2x2x2 cells" if options.mode == "surfel" else "faces",
        "bootstrap": {"n": BOOTSTRAP_DRAWS, "seed": BOOTSTRAP_SEED},
        "protocol": {"name": p.name, **p.settings} if (p := options.protocol) else None,
        "lesions": {"of": list(names), **specs.to_mapping(options.rule)}
        if (names := options.lesions)
        else None,
        **({} if structures.ignore is None else {"ignored_value": structures.ignore}),
        "instances": specs.to_mapping(rule) if (rule := options.instances) else None,
        "reading": options.reading.content(),
    }
