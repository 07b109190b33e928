"""The output folder of `medseg evaluate`: each case as soon as it is measured, tables at the end."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.digest import hexdigest
from medseg.core.errors import UsageError
from medseg.evaluation.case_file import COHORT_PAGE, CaseStore, picture, read_json
from medseg.evaluation.detections import detection_csv, detections_for_page
from medseg.evaluation.exports import EXPORTS, exported
from medseg.evaluation.pairs import FilePair
from medseg.evaluation.result import SCHEMA, Evaluation
from medseg.io import digest_of
from medseg.io.atomic import require_writable, write_text
from medseg.metrics.exchange import CHALLENGER_METRICS, challenger_csv, nnunet_summary
from medseg.metrics.export import report_json

REPORT, CASES = "report.json", "cases"
TABLES = ("metrics.csv", "cohort.csv", "lesions.csv", "detection.csv", "summary.json", *EXPORTS)
CHALLENGER = {metric: f"challenger_{metric}.csv" for metric in CHALLENGER_METRICS}
NAMES = (REPORT, *TABLES, *CHALLENGER.values(), COHORT_PAGE)
"""The report comes first: where it is ours, so are the others."""

LONGEST_NAME = 80
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
SUFFIXED = re.compile(r"-[0-9a-f]{8}$")
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
"""Names that stand for devices on one system."""

MODEL = "model"
"""What a model without a name is called in the tables of challengeR."""


@dataclass(frozen=True)
class EvaluationFolder:
    """The folder of one evaluation.

    Attributes:
        folder: which.
        overwrite: whether results of another evaluation may be replaced.
    """

    folder: Path
    overwrite: bool = False

    def begin(
        self, settings: Mapping[str, Any], pairs: Sequence[FilePair], inputs: Iterable[Path] = ()
    ) -> None:
        """Create the folder, and refuse to overwrite anything else in it.

        Args:
            settings: of the evaluation, as its report states them.
            pairs: the files to measure.
            inputs: files and folders that are read.

        Raises:
            UsageError: it is a file, lies in a folder that is read, or holds something else: files that are
                not ours, results with other settings, or of other predictions alone.
            ResourceError: it may not be written to.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError("is a file, not a folder", source=self.folder, hint="choose another -o")
        for path in inputs:
            if path.is_dir() and self.folder.resolve().is_relative_to(path.resolve()):
                raise UsageError(
                    "lies inside an input folder", source=self.folder, hint="choose a folder outside it"
                )
        if not self.overwrite and (held := self._held(settings, pairs)):
            raise UsageError(
                f"holds {held}", source=self.folder, hint="give another folder with -o, or --overwrite"
            )
        require_writable(self.folder / REPORT)
        (self.folder / CASES).mkdir(parents=True, exist_ok=True)

    def case_files(self, settings: Mapping[str, Any], pairs: Sequence[FilePair]) -> tuple[CaseStore, ...]:
        """Where each case goes."""
        names = safe_names([pair.case_id for pair in pairs])
        folder = self.folder / CASES
        return tuple(
            CaseStore(folder / f"{names[p.case_id]}.json", {**settings, "relabel": _listed(p.relabel)})
            for p in pairs
        )

    def write(self, found: Evaluation) -> None:
        """Write everything about all cases; tables of an earlier evaluation that this one lacks go."""
        written = set()
        for name, text in contents(found):
            write_text(self.folder / name, text, overwrite=True)
            written.add(name)
        write_page(found, self.folder / COHORT_PAGE, links=self._links(found), overwrite=True)
        for name in {*NAMES} - written - {COHORT_PAGE}:
            (self.folder / name).unlink(missing_ok=True)

    def _links(self, found: Evaluation) -> dict[str, str]:
        """The page of each case that has one, seen from the folder."""
        return {case: page.relative_to(self.folder).as_posix() for case, page in found.pages.items()}

    def _held(self, settings: Mapping[str, Any], pairs: Sequence[FilePair]) -> str:
        """What the folder holds that must not be replaced; nothing where it may."""
        there = [name for name in NAMES if (self.folder / name).exists()]
        if not there:
            return ""
        stored = read_json(self.folder / REPORT)
        if stored is None or stored.get("schema") != SCHEMA:
            return f"{there[0]}, which was not written by an evaluation"
        if stored.get("settings") != json.loads(json.dumps(settings)):
            return "an evaluation with other settings"
        return "an evaluation of other predictions" if _are_others(stored, pairs) else ""


def contents(found: Evaluation) -> Iterator[tuple[str, str]]:
    """The files about all cases, but the page: names, and what is in them."""
    yield REPORT, found.json()
    yield "metrics.csv", found.csv()
    yield "cohort.csv", found.cohort_csv()
    if found.options.lesions:
        yield "lesions.csv", found.lesions_csv()
    if found.detection:
        yield "detection.csv", detection_csv(found.detection)
        yield from exported(found.detections, found.structures)
    yield "summary.json", report_json(nnunet_summary(found.cases, found.files))
    values = [(name, v) for c in found.cases for r in c.rows for name, v in r.metrics.items()]
    evaluated = {name for name, value in values if value.status != "not_evaluated"}
    for metric, name in CHALLENGER.items():
        if metric in evaluated:
            yield name, challenger_csv(found.cases, metric, found.model or MODEL)


def write_page(
    found: Evaluation, path: Path, *, links: Mapping[str, str] | None = None, overwrite: bool = False
) -> None:
    """Write the page about all cases.

    Args:
        found: what was measured.
        path: the page.
        links: the page of a case, by its id.
        overwrite: whether an existing page may be replaced.

    Raises:
        MedsegError: the page cannot be written.
    """
    from medseg.reporting.case.options import ReportOptions
    from medseg.reporting.case.page import report_cohort
    from medseg.reporting.cohort.content import Failure

    small = {case: picture(page) for case, page in found.pages.items()}
    report_cohort(
        found.scores,
        structures=found.structures,
        out=path,
        title=found.title,
        failures=[Failure(case, reason) for case, reason in found.excluded.items()],
        lesions=found.lesions,
        lesions_of=found.options.lesions,
        detections=detections_for_page(found.detection),
        thumbnails={case: png.read_bytes() for case, png in small.items() if png.is_file()},
        links=links,
        findings=found.findings,
        options=ReportOptions(rule=found.options.rule),
        overwrite=overwrite,
    )


def safe_names(ids: Sequence[str]) -> dict[str, str]:
    """File names from case ids, valid on every system.

    An id that has to be altered, that another is equal to but for its case, or that looks as if it was
    altered, ends in eight digits of its hash.

    >>> safe_names(["Case00", "=cmd|' /C calc'!A0"])["Case00"]
    'Case00'
    """
    plain = {case: _plain(case) for case in ids}
    taken = Counter(name.casefold() for name in plain.values())
    return {
        case: name
        if name == case and taken[name.casefold()] == 1 and not SUFFIXED.search(name)
        else f"{name}-{hexdigest(case)[:8]}"
        for case, name in plain.items()
    }


def _are_others(stored: Mapping[str, Any], pairs: Sequence[FilePair]) -> bool:
    """Whether a report is about the same cases, and not one prediction is the same."""
    try:
        known = {c["case_id"]: c["sha256"].get("prediction") for c in stored["cases"] if not c["failure"]}
    except (KeyError, TypeError, AttributeError):
        return True
    both = [p for p in pairs if p.prediction is not None and p.case_id in known]
    return bool(both) and not any(known[p.case_id] == digest_of(p.prediction) for p in both if p.prediction)


def _plain(case: str) -> str:
    name = UNSAFE.sub("_", case)[:LONGEST_NAME].strip(".") or "case"
    return f"_{name}" if RESERVED.match(name) else name


def _listed(relabel: Mapping[int, int]) -> list[list[int]]:
    return [[value, becomes] for value, becomes in relabel.items()]
