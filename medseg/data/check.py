"""`medseg check`: find the faults of a dataset before a training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medseg.augment.spec import SynthesisSpec, Tissue
from medseg.core.errors import MedsegError
from medseg.core.structures import Structure, StructureSet, value_counts
from medseg.data.cards import Card
from medseg.data.cases import (
    CaseCheck,
    channels_of,
    check_case,
    ignored_share,
    much_ignored,
    read_on_grid,
    swapped_labels,
    voxel_digest,
    without_voxels,
)
from medseg.data.layouts import CaseFiles
from medseg.data.source import Origin, described, found_in
from medseg.findings.finding import who
from medseg.findings.scan import DOUBT_SPACING
from medseg.io import ReadOptions, read_labels, stem_and_suffix
from medseg.io.placement import is_usual
from medseg.preparation.preparation import Preparation, PreparationSpec

OUTLIER_FACTOR = 30.0
"""A case whose intensities are this many times the dataset's median brightness, or less, is odd."""

TINY_VOXELS = 10
"""A structure of fewer voxels is more often a slip of the pen than anatomy."""

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One fault or oddity of a dataset.

    Attributes:
        severity: an "error" stops a training; a "warning" is for a person to look at; a "note" to know.
        case_id: of the case, or empty for the dataset.
        text: what it is, as other cases may have it too.
        detail: the value that this case has.
    """

    severity: Severity
    case_id: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class CaseFacts:
    """What the audit keeps of a case; a label map without an image has no brightness."""

    case_id: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    brightness: float | None
    digest: str
    label_voxels: dict[int, int]
    ignored: float


class Line(NamedTuple):
    """A line about one case, or about several that have one finding in common."""

    severity: Severity
    who: str
    text: str


@dataclass(frozen=True)
class Audit:
    """All findings, and what the dataset is like: the cases that could be read, of how many in total."""

    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]
    structures: StructureSet
    total: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    def lines(self, *severities: Severity) -> tuple[Line, ...]:
        """The findings of these severities, of all where none is named; what several cases have, once."""
        groups: defaultdict[tuple[Severity, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            if not severities or finding.severity in severities:
                groups[finding.severity, finding.text].append(finding)
        return tuple(self._line(*found) for found in groups.values())

    def _line(self, first: Finding, *others: Finding) -> Line:
        if not others:
            text = f"{first.text} ({first.detail})" if first.detail else first.text
            return Line(first.severity, first.case_id, text)
        names = [f"{f.case_id}: {f.detail}" if f.detail else f.case_id for f in (first, *others)]
        return Line(first.severity, who(names, self.total), first.text)

    def json(self) -> str:
        content = {
            "schema": "medseg.audit/1",
            "findings": [asdict(f) for f in self.findings],
            "cases": [asdict(c) for c in self.cases],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def check(
    folder: Path,
    card: Card | None = None,
    channels: Sequence[str] = (),
    preparation: PreparationSpec | None = None,
    reading: ReadOptions | None = None,
    on_case: Callable[[int, int], None] = lambda *_: None,
) -> Audit:
    """Read and prepare every case of a dataset as a training does, and report its faults.

    Args:
        folder: in the layout of the card, or without one in any that its names tell.
        card: what channels and labels mean; what the folder states, or the card of its layout, when None.
        channels: those that the training takes; every one that any case has, when empty.
        preparation: of the training; none of the voxels is changed, when None.
        reading: decisions that the files leave open.
        on_case: called after each case with its number and how many there are.

    Raises:
        InputError: the folder is not a dataset, or its layout is unknown.
    """
    if card is None:
        found = found_in(folder, complete=False, reading=reading)
    else:
        found = described(folder, card, complete=False, reading=reading)
    cases, structures = found.files.cases, found.structures
    wanted = tuple(channels) or channels_of(cases, found.known_channels)
    read = partial(read_on_grid, structures=structures, there=found.known_channels, wanted=wanted)
    prepare = Preparation(preparation or PreparationSpec())
    facts: list[CaseFacts] = []
    findings: list[Finding] = []
    for number, case in enumerate(cases, start=1):
        if found.tissues and card is not None:
            looked = _look_at_map(case, card, findings)
        else:
            judged = check_case(case, read, structures, prepare)
            looked = _look(case, judged, structures, findings)
        facts += [] if looked is None else [looked]
        on_case(number, len(cases))
    findings += _duplicates(facts) + _outliers(facts) + _names(cases)
    findings += _of_all(facts, found)
    return Audit(tuple(facts), tuple(findings), structures, len(cases))


def _of_all(facts: Sequence[CaseFacts], found: Origin) -> list[Finding]:
    """What no case has: channels that the card names, and structures."""
    there = channels_of(found.files.cases, found.known_channels)
    lacking = [name for name in found.known_channels if name not in there]
    findings = []
    if lacking:
        named = ", ".join(f'"{name}"' for name in there)
        text = f"no case has {', '.join(lacking)}: a recipe must name the others, channels = [{named}]"
        findings.append(Finding("warning", "", text))
    parts = _parts(found.structures, found.tissues)
    present = [_present(case.label_voxels, found.structures, parts) for case in facts]
    fault, texts = without_voxels(present, found.structures, "case") if facts else (None, ())
    findings += [Finding("error", "", fault.fault)] if fault else []
    findings += [Finding("warning", "", text) for text in texts]
    ignored = much_ignored({case.case_id: case.ignored for case in facts}, found.structures.ignore)
    return findings + ([Finding("note", "", ignored)] if ignored else [])


def _message(fault: MedsegError, case: CaseFiles) -> str:
    """The fault and which of the case's two files has it."""
    label = case.label is not None and fault.source == str(case.label)
    return f"{'labels' if label else 'image'}: {fault.fault}"


def _look(
    case: CaseFiles, judged: CaseCheck, structures: StructureSet, findings: list[Finding]
) -> CaseFacts | None:
    """One case by itself; None where it cannot be read."""
    findings += [Finding("error", case.case_id, _message(fault, case)) for fault in judged.faults]
    volume, labels = judged.volume, judged.labels
    findings += [Finding("warning", case.case_id, text) for text in (volume.warnings if volume else ())]
    if volume is None or labels is None:
        return None
    findings += [
        Finding("warning", case.case_id, f"labels: {text}")
        for text in labels.warnings
        if text not in volume.warnings
    ]
    voxels = value_counts(labels.array)
    findings += _small_structures(case.case_id, voxels, structures, _parts(structures, ()))
    return CaseFacts(
        case.case_id,
        volume.grid.shape,
        volume.grid.spacing_mm,
        volume.grid.axis_codes,
        float(np.percentile(np.abs(volume.array[0].astype(np.float64)), 95)),
        judged.prepared.digest if judged.prepared else voxel_digest(volume),
        voxels,
        ignored_share(labels),
    )


def _look_at_map(case: CaseFiles, card: Card, findings: list[Finding]) -> CaseFacts | None:
    """One label map without an image, which a training makes scans of; that needs torch, other data none."""
    from medseg.data.synthetic import SyntheticCases

    try:
        labels = read_labels(case.image)
        SyntheticCases(card, SynthesisSpec()).generation_map(case)
    except MedsegError as fault:
        fault.source = fault.source or str(case.image)
        findings.append(Finding("error", case.case_id, _message(fault, case)))
        return None
    voxels = value_counts(labels.array)
    parts = _parts(card.structure_set, card.tissues)
    findings += _small_structures(case.case_id, voxels, card.structure_set, parts)
    grid = labels.grid
    return CaseFacts(
        case.case_id, grid.shape, grid.spacing_mm, grid.axis_codes, None, voxel_digest(labels), voxels, 0.0
    )


def _parts(structures: StructureSet, tissues: Sequence[Tissue]) -> Mapping[int, Sequence[int]]:
    """For each value of a structure, the values in a file that stand for it: its own, or its tissues'."""
    if not tissues:
        return {value: (value,) for value in structures.known_values}
    parts: defaultdict[int, tuple[int, ...]] = defaultdict(tuple)
    for tissue in tissues:
        parts[tissue.target] += (tissue.value,)
    return parts


def _voxels_of(structure: Structure, voxels: Mapping[int, int], parts: Mapping[int, Sequence[int]]) -> int:
    own = structure.label_values
    return sum(voxels.get(part, 0) for value in own for part in parts.get(value, ()))


def _present(
    voxels: Mapping[int, int], structures: StructureSet, parts: Mapping[int, Sequence[int]]
) -> list[str]:
    return [s.name for s in structures if _voxels_of(s, voxels, parts)]


def _small_structures(
    case_id: str, voxels: Mapping[int, int], structures: StructureSet, parts: Mapping[int, Sequence[int]]
) -> list[Finding]:
    """Structures without voxels or with few."""
    findings = []
    for structure in structures:
        count = _voxels_of(structure, voxels, parts)
        if count == 0:
            findings.append(Finding("warning", case_id, f"{structure.name} is not labelled"))
        elif count < TINY_VOXELS:
            text = f"{structure.name} has fewer than {TINY_VOXELS} voxels"
            findings.append(Finding("warning", case_id, text, f"{count}"))
    return findings


def _duplicates(facts: list[CaseFacts]) -> list[Finding]:
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    for case in facts:
        by_digest[case.digest].append(case.case_id)
    return [
        Finding("error", name, f"holds the same voxels as {names[0]}")
        for names in by_digest.values()
        for name in names[1:]
    ]


def _outliers(facts: list[CaseFacts]) -> list[Finding]:
    """Cases unlike the others in intensity or voxel size."""
    if len(facts) < 3:
        return []
    findings = []
    known = [case.brightness for case in facts if case.brightness is not None]
    brightness = float(np.median(known)) if known else 0.0
    sides = np.median([sorted(case.spacing_mm) for case in facts], axis=0)
    for case in facts:
        ratio = case.brightness / brightness if brightness and case.brightness is not None else 1.0
        if not 1 / OUTLIER_FACTOR <= ratio <= OUTLIER_FACTOR:
            text = (
                "its brightness is unlike the median case's, where 95 % of intensities lie below "
                f"{brightness:.4g}"
            )
            findings.append(Finding("warning", case.case_id, text, f"{case.brightness:.4g}"))
        off = np.sort(case.spacing_mm) / sides
        odd = off.max() > DOUBT_SPACING or off.min() < 1 / DOUBT_SPACING
        if odd and is_usual(case.spacing_mm):  # the file's own warning tells the others
            text = f"its voxels differ from the median case's of {_mm(tuple(sides))} mm"
            findings.append(Finding("warning", case.case_id, text, f"{_mm(case.spacing_mm)} mm"))
    return findings


def _names(cases: tuple[CaseFiles, ...]) -> list[Finding]:
    """Images and labels listed together that are not called alike; those of another case are swapped."""
    swapped = {fault.source: fault.fault for fault in swapped_labels(cases)}
    findings = []
    for case in cases:
        if case.label is None or case.case_id in [folder.name for folder in case.label.parents[:2]]:
            continue
        label = stem_and_suffix(case.label)[0]
        if str(case.image) in swapped:
            findings.append(Finding("error", case.case_id, swapped[str(case.image)]))
        elif case.case_id not in label and label not in case.case_id:
            findings.append(Finding("warning", case.case_id, "its label file has another name", label))
    return findings


def _mm(sides: tuple[float, ...]) -> str:
    return "x".join(f"{side:.3g}" for side in sides)
