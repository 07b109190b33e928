"""A prediction on disk: the `.json` beside its labels, which only this module writes and reads.

Each key is the name of a field below. One with a default may be missing; an unknown key is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from medseg.core.errors import InputError
from medseg.core.software import INTENDED_USE
from medseg.core.specs import left_out, written
from medseg.core.structures import Structure, StructureSet, Total, from_labels
from medseg.core.structuring import structured
from medseg.findings.finding import Finding, from_warnings, ordered, sentence
from medseg.io import digest_of
from medseg.io.atomic import write_text
from medseg.io.names import stem_of_labels
from medseg.segmentation.rows import (
    BudgetSummary,
    GridSummary,
    InstanceSummary,
    QualitySummary,
    StructureSummary,
    TotalSummary,
)

SCHEMA = "medseg.prediction/1"

TITLES = {
    "engines": "engines or precisions", "tta": "mirroring (tta)", "refine": "refinement", "scales": "scales",
    "least_score": "least score of objects", "time_budget": "time budget",
}  # fmt: skip
"""What settings are called."""

UNSET = "model default"
"""In the place of a setting that was not chosen."""

PARTS = {
    "input": "the input",
    "models": "the model",
    "settings": "the settings",
    "software": "the version of medseg",
}
"""What a result is made of, in words."""

CHANGED = Finding(
    "changed",
    "warning",
    "The segmentation is not the one that its sidecar describes, so the model's findings about its result "
    "are left out.",
)


@dataclass(frozen=True)
class ScanIdentity:
    """Digest of the scan, and what its channels were called."""

    sha256: str
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelIdentity:
    """Name and digest of a model, and the digest of its coarse stage where it is a cascade."""

    name: str
    sha256: str
    coarse_sha256: str | None = left_out()


@dataclass(frozen=True)
class Settings:
    """How the models ran; None where the model decides. `reading` holds what the file decides."""

    engines: tuple[str, ...] = ()
    tta: bool | None = None
    refine: bool | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    scales: tuple[float, ...] = left_out(())
    least_score: float | None = left_out()
    time_budget: float | None = left_out()

    def in_words(self) -> dict[str, str]:
        """The settings that were chosen, by title; not what the file decides.

        >>> Settings(("torch f32",), tta=True, scales=(1.0, 0.9)).in_words()
        {'engines or precisions': 'torch f32', 'mirroring (tta)': 'yes', 'scales': '1, 0.9'}
        """
        chosen = {"engines": ", ".join(self.engines)} if self.engines else {}
        switches = {"tta": self.tta, "refine": self.refine}
        chosen |= {name: "yes" if on else "no" for name, on in switches.items() if on is not None}
        if self.scales:
            chosen["scales"] = ", ".join(f"{scale:g}" for scale in self.scales)
        if self.least_score is not None:
            chosen["least_score"] = f"{self.least_score:g}"
        if self.time_budget is not None:
            chosen["time_budget"] = f"{self.time_budget:g} s"
        return {TITLES[name]: words for name, words in chosen.items()}


@dataclass(frozen=True)
class Software:
    """What predicted."""

    name: str = ""
    version: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What a result depends on: the bytes read, the models, the settings."""

    input: ScanIdentity | None = None
    models: tuple[ModelIdentity, ...] = ()
    settings: Settings | None = None
    dicom_seg: str | None = left_out()
    software: Software = Software()

    @property
    def models_in_words(self) -> str:
        """Names and digests of the models; nothing where they are not stated."""
        return ", ".join(f"{model.name} (SHA-256 {model.sha256})" for model in self.models)

    @property
    def engines(self) -> tuple[str, ...]:
        """What ran the models, and with which precision."""
        return () if self.settings is None else self.settings.engines

    @property
    def switched(self) -> dict[str, str]:
        """The settings that were chosen but for the engine, their titles as those of rows."""
        chosen = {} if self.settings is None else replace(self.settings, engines=()).in_words()
        return {title[0].upper() + title[1:]: words for title, words in chosen.items()}

    @property
    def chosen(self) -> dict[str, str]:
        """The settings that were chosen, see `Settings.in_words`."""
        return {} if self.settings is None else self.settings.in_words()

    def changes(self, now: Provenance) -> list[str]:
        """What differs now, in words; not that DICOM objects are there which nobody asks for."""
        differ = {f.name for f in fields(self) if getattr(self, f.name) != getattr(now, f.name)}
        wanted = now.dicom_seg is not None and "dicom_seg" in differ
        said = [words for name, words in PARTS.items() if name in differ]
        kinds = f" ({self.dicom_seg or 'none'} then, {now.dicom_seg} now)"
        return said + [f"the DICOM objects asked for{kinds}"] * wanted


@dataclass(frozen=True)
class PredictionSummary:
    """What the file states of a result; nothing about the patient, no path.

    Attributes:
        intended_use: of the result.
        grid: of the scan.
        quality: the verdict.
        findings: what a reader must know; None in files of older versions, which state `quality` alone.
        structures: as they were found, none where the file names none.
        totals: volumes that several structures make up together.
        instances: the single objects of structures; None where they were not told apart.
        budget: what a time budget left of the prediction; None without one.
        warnings: what the readers of the files warned of.
        labels_sha256: of the label file that this describes; None in files of older versions.
        dicom_sha256: of the DICOM objects that were written with it.
        seconds, timing_s: what reading to writing took, in all and by step.
        peak_memory_bytes: the most that was held, where the system says.
        processor: what kind of processor computed it, see `core.software.processor`.
        provenance: what the result depends on.
    """

    intended_use: str = INTENDED_USE
    grid: GridSummary | None = None
    quality: QualitySummary | None = None
    findings: tuple[Finding, ...] | None = None
    structures: tuple[StructureSummary, ...] = ()
    totals: tuple[TotalSummary, ...] = ()
    instances: tuple[InstanceSummary, ...] | None = left_out()
    budget: BudgetSummary | None = left_out()
    warnings: tuple[str, ...] = ()
    labels_sha256: str | None = None
    dicom_sha256: tuple[str, ...] = left_out(())
    seconds: float = 0.0
    timing_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    processor: str | None = left_out()
    provenance: Provenance = Provenance()

    @property
    def is_doubtful(self) -> bool:
        """Whether the verdict speaks against the result."""
        return self.quality is not None and self.quality.flag == "doubtful"

    @property
    def listed(self) -> tuple[Structure, ...]:
        """The structures in the colours that the page of the prediction has."""
        return tuple(row.structure for row in self.structures)

    @property
    def structure_set(self) -> StructureSet:
        """The structures with sides, twins and a colour each."""
        return from_labels(self.listed)

    @property
    def totals_stated(self) -> tuple[Total, ...]:
        """What makes up each total."""
        return tuple(Total(total.name, total.values) for total in self.totals)

    def stated_findings(self) -> tuple[Finding, ...] | None:
        """The findings, or the doubts and warnings of an older version; None where there is no verdict."""
        if self.findings is not None or self.quality is None:
            return self.findings
        doubts = [Finding("stated", "doubt", sentence(text)) for text in self.quality.reasons]
        return ordered([*doubts, *from_warnings(self.warnings)])

    def describes(self, labels: Path) -> bool:
        """Whether this states that it is of that very label file or DICOM object.

        Raises:
            InputError: the label file cannot be read.
        """
        return digest_of(labels) in (self.labels_sha256, *self.dicom_sha256)

    def fits(self, labels: Path) -> bool:
        """Whether this is of that very file, as far as it says of which; older versions did not.

        Raises:
            InputError: the label file cannot be read.
        """
        return self.labels_sha256 is None or self.describes(labels)

    def content(self) -> dict[str, Any]:
        """The file's content as plain values."""
        return {"schema": SCHEMA, **plain(self)}

    def write(self, path: Path) -> None:
        """Write the file; whatever stood there is replaced.

        Raises:
            UsageError, ResourceError: as `write_text`.
        """
        text = json.dumps(self.content(), indent=1, allow_nan=False) + "\n"
        write_text(path, text, overwrite=True)


def plain(value: Any) -> Any:
    """A part of a summary as values of JSON.

    >>> plain(TotalSummary("all", (1, 2), 0.5))
    {'name': 'all', 'values': [1, 2], 'volume_ml': 0.5}
    """
    if isinstance(value, Finding):
        return value.content()
    if is_dataclass(value):
        return {name: plain(inner) for name, inner in written(value).items()}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def summary_path(labels: Path) -> Path:
    """The path of the summary of a label file.

    >>> summary_path(Path("scan_seg.nii.gz")).name, summary_path(Path("scan_rtstruct.dcm")).name
    ('scan_seg.json', 'scan_seg.json')
    """
    return labels.with_name(f"{stem_of_labels(labels)}.json")


def read_summary(path: Path) -> PredictionSummary | None:
    """What a file states; None where there is none, or JSON of another program whose name ends not in `_seg`.

    Raises:
        InputError: it is damaged, or no sidecar that this version reads.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            if isinstance(content, dict) and path.stem[-4:] != "_seg" and SCHEMA[:-1] not in str(schema):
                return None
            raise ValueError(f"its schema is {schema}, not {SCHEMA}")
        summary: PredictionSummary = structured(PredictionSummary, content, passing_over=True)
        _ = summary.structure_set
    except (OSError, ValueError, OverflowError, RecursionError) as fault:
        raise InputError(
            f"cannot be read as a prediction ({fault})",
            source=path,
            hint="predict the scan again, or delete the file",
        ) from None
    return summary


def usable_summary(path: Path) -> PredictionSummary | None:
    """As `read_summary`, and None of a damaged file: for who can do without."""
    try:
        return read_summary(path)
    except InputError:
        return None


def usable_summaries(path: Path) -> list[PredictionSummary]:
    """Of a label file the summary beside it, of a folder all in it, sorted by name."""
    found = sorted(path.glob("*.json")) if path.is_dir() else [summary_path(path)]
    return [summary for summary in map(usable_summary, found) if summary]


class Verdict(NamedTuple):
    """What a prediction's summary says of the result.

    Attributes:
        findings: what a reader must know.
        known: whether there is a summary, and it is of this result.
        complete: whether it states all findings; an older version of the software stated some of them.
    """

    findings: tuple[Finding, ...] = ()
    known: bool = False
    complete: bool = False


def stated_verdict(labels: Path) -> Verdict:
    """The findings in the summary beside a label file; one that cannot be read is a doubt itself."""
    try:
        summary = read_summary(path := summary_path(labels))
    except InputError as fault:
        return Verdict((Finding("sidecar_unreadable", "doubt", f"The sidecar {path.name} {fault.fault}."),))
    if summary is None:
        return Verdict()
    if not summary.fits(labels):
        return Verdict((CHANGED,))
    findings = summary.stated_findings()
    return Verdict() if findings is None else Verdict(findings, True, summary.findings is not None)


def stated_intervals(labels: Path) -> dict[str, tuple[float, float]]:
    """The intervals of the volumes, in ml, in the summary beside a label file.

    There are none for a result that was doubted, or that has been changed since.

    Raises:
        InputError: the summary is damaged.
    """
    summary = read_summary(summary_path(labels))
    if summary is None or summary.is_doubtful or not summary.fits(labels):
        return {}
    return {row.name: row.interval_ml for row in summary.structures if row.interval_ml is not None}
