"""`medseg check`: find the faults of a dataset before a training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medseg.augment.spec import SynthesisSpec, Tissue
from medseg.core.errors import MedsegError, counted
from medseg.core.structures import Structure, StructureSet, value_counts
from medseg.data.cards import Card
from medseg.data.case_faults import Faults, every_fault
from medseg.data.cases import (
    CaseCheck,
    channels_of,
    check_case,
    ignored_share,
    much_ignored,
    read_on_grid,
    same_voxels,
    swapped_labels,
    voxel_digest,
    without_voxels,
)
from medseg.data.layouts import CaseFiles
from medseg.data.layouts.case import TEST, plain
from medseg.data.source import Origin, described, found_in
from medseg.findings.finding import who
from medseg.findings.scan import DOUBT_SPACING
from medseg.io import ReadOptions, read_labels, stem_and_suffix
from medseg.io.names import instances_beside
from medseg.io.placement import is_usual
from medseg.preparation.preparation import Preparation, PreparationSpec

OUTLIER_FACTOR = 30.0
"""A case whose intensities are this many times the dataset's median brightness, or less, is odd."""

TINY_VOXELS = 10
"""A structure of fewer voxels is more often a slip of the pen than anatomy."""

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Issue:
    """One fault or oddity of a dataset.

    Attributes:
        severity: an "error" stops a training; a "warning" is for a person to look at; a "note" to know.
        case_id: of the case, or empty for the dataset.
        text: what it is, as other cases may have it too.
        detail: the value that this case has.
        hint: what a person can do about it; empty where nothing is known.
    """

    severity: Severity
    case_id: str
    text: str
    detail: str = ""
    hint: str = ""


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
    """A line about one case, or about several that have one issue in common."""

    severity: Severity
    who: str
    text: str
    hint: str


@dataclass(frozen=True)
class Audit:
    """All issues, and what the dataset is like: the cases that could be read, of how many in total."""

    cases: tuple[CaseFacts, ...]
    issues: tuple[Issue, ...]
    structures: StructureSet
    total: int

    @property
    def errors(self) -> tuple[Issue, ...]:
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def faulty(self) -> tuple[str, ...]:
        """The cases that have an error."""
        return tuple(dict.fromkeys(issue.case_id for issue in self.errors if issue.case_id))

    def lines(self, *severities: Severity) -> tuple[Line, ...]:
        """The issues of these severities, of all where none is named; what several cases have, once."""
        groups: defaultdict[tuple[Severity, str], list[Issue]] = defaultdict(list)
        for issue in self.issues:
            if not severities or issue.severity in severities:
                groups[issue.severity, issue.text].append(issue)
        return tuple(self._line(*found) for found in groups.values())

    def _line(self, first: Issue, *others: Issue) -> Line:
        if not others:
            text = f"{first.text} ({first.detail})" if first.detail else first.text
            return Line(first.severity, first.case_id, text, first.hint)
        names = [f"{f.case_id}: {f.detail}" if f.detail else f.case_id for f in (first, *others)]
        return Line(first.severity, who(names, self.total), first.text, first.hint)

    def json(self) -> str:
        content = {
            "schema": "medseg.audit/1",
            "issues": [asdict(f) for f in self.issues],
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
    told = card.instances if card else ""
    read = partial(read_on_grid, structures=structures, there=found.known_channels, wanted=wanted, told=told)
    prepare = Preparation(preparation or PreparationSpec())
    facts: list[CaseFacts] = []
    issues: list[Issue] = []
    for number, case in enumerate(cases, start=1):
        if found.tissues and card is not None:
            looked = _look_at_map(case, card, issues)
        else:
            judged = check_case(case, read, structures, prepare)
            if judged.volume is None:
                more = every_fault(case, judged.faults, structures, found.known_channels, wanted, prepare)
                judged = replace(judged, faults=more)
            looked = _look(case, judged, structures, issues)
        facts += [] if looked is None else [looked]
        on_case(number, len(cases))
    present = _present(facts, found)
    told_once = _told_of_all(structures, present)
    issues = [issue for issue in issues if issue.text not in told_once]
    issues += _duplicates(facts) + _outliers(facts) + _names(cases)
    issues += [
        Issue("error", "", f"{path.relative_to(folder).as_posix()} is part of no case: {why}")
        for path, why in found.files.aside
    ]
    issues += _of_all(facts, found, present)
    return Audit(tuple(facts), tuple(issues), structures, len(cases))


def _of_all(facts: Sequence[CaseFacts], found: Origin, present: Sequence[Sequence[str]]) -> list[Issue]:
    """What no case has: channels that the card names, and structures; `present` has those of each case."""
    there = channels_of(found.files.cases, found.known_channels)
    lacking = [name for name in found.known_channels if name not in there]
    issues = []
    if lacking:
        named = ", ".join(f'"{name}"' for name in there)
        text = f"no case has {', '.join(lacking)}: a recipe must name the others, channels = [{named}]"
        issues.append(Issue("warning", "", text))
    fault, texts = without_voxels(present, found.structures, "case") if facts else (None, ())
    issues += [_error("", fault.fault, fault)] if fault else []
    issues += [Issue("warning", "", text) for text in texts]
    ignored = much_ignored({case.case_id: case.ignored for case in facts}, found.structures.ignore)
    notes = [ignored] if ignored else []
    if tests := found.files.parts[TEST]:
        notes.append(f"{counted(tests, 'test case')} by folder or name: a training leaves them out")
    return issues + [Issue("note", "", text) for text in notes]


def _error(case_id: str, text: str, fault: MedsegError) -> Issue:
    return Issue("error", case_id, text, hint=fault.hint or "")


def _of_file(fault: MedsegError, case: CaseFiles) -> Issue:
    """The fault, and which of the case's files has it."""
    named = {str(path): f"channel {name}" for name, path in case.channels.items()}
    if case.label is not None:
        named |= {str(case.label): "labels", str(instances_beside(case.label)): "map of instances"}
    return _error(case.case_id, f"{named.get(fault.source or '', 'image')}: {fault.fault}", fault)


def _look(
    case: CaseFiles, judged: CaseCheck, structures: StructureSet, issues: list[Issue]
) -> CaseFacts | None:
    """One case by itself; None where it cannot be read."""
    issues += [_of_file(fault, case) for fault in judged.faults]
    volume, labels = judged.volume, judged.labels
    issues += [Issue("warning", case.case_id, text) for text in (volume.warnings if volume else ())]
    if volume is None or labels is None:
        return None
    issues += [
        Issue("warning", case.case_id, f"labels: {text}")
        for text in labels.warnings
        if text not in volume.warnings
    ]
    voxels = value_counts(labels.array)
    issues += _small_structures(case.case_id, voxels, structures, _parts(structures, ()))
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


def _look_at_map(case: CaseFiles, card: Card, issues: list[Issue]) -> CaseFacts | None:
    """One label map without an image, which a training makes scans of; that needs torch, other data none."""
    from medseg.data.synthetic import SyntheticCases

    maps, faults = SyntheticCases(card, SynthesisSpec()), Faults()
    labels = faults.attempt(case.image, lambda: read_labels(case.image))
    if labels is not None:
        faults.attempt(case.image, lambda: maps.require_one_mm(labels.grid, case))
        faults.attempt(case.image, lambda: maps.generation_map(case))
    issues += [_of_file(fault, case) for fault in faults.met]
    if labels is None or faults.met:
        return None
    voxels = value_counts(labels.array)
    parts = _parts(card.structure_set, card.tissues)
    issues += _small_structures(case.case_id, voxels, card.structure_set, parts)
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


def _present(facts: Sequence[CaseFacts], found: Origin) -> list[list[str]]:
    """Names of the structures that each case has."""
    parts = _parts(found.structures, found.tissues)
    return [[s.name for s in found.structures if _voxels_of(s, case.label_voxels, parts)] for case in facts]


def _told_of_all(structures: StructureSet, present: Sequence[Sequence[str]]) -> frozenset[str]:
    """What is not told of each case, for it is of all: the structures that none has."""
    there = {name for names in present for name in names}
    return frozenset(_not_labelled(name) for name in structures.names if name not in there)


def _not_labelled(name: str) -> str:
    return f"{name} is not labelled"


def _small_structures(
    case_id: str, voxels: Mapping[int, int], structures: StructureSet, parts: Mapping[int, Sequence[int]]
) -> list[Issue]:
    """Structures without voxels or with few."""
    issues = []
    for structure in structures:
        count = _voxels_of(structure, voxels, parts)
        if count == 0:
            issues.append(Issue("warning", case_id, _not_labelled(structure.name)))
        elif count < TINY_VOXELS:
            text = f"{structure.name} has fewer than {TINY_VOXELS} voxels"
            issues.append(Issue("warning", case_id, text, f"{count}"))
    return issues


def _duplicates(facts: list[CaseFacts]) -> list[Issue]:
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    for case in facts:
        by_digest[case.digest].append(case.case_id)
    return [
        Issue("error", name, same_voxels(first), hint="remove one of the two cases")
        for first, *others in by_digest.values()
        for name in others
    ]


def _outliers(facts: list[CaseFacts]) -> list[Issue]:
    """Cases unlike the others in intensity or voxel size."""
    if len(facts) < 3:
        return []
    issues = []
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
            issues.append(Issue("warning", case.case_id, text, f"{case.brightness:.4g}"))
        off = np.sort(case.spacing_mm) / sides
        odd = off.max() > DOUBT_SPACING or off.min() < 1 / DOUBT_SPACING
        if odd and is_usual(case.spacing_mm):  # the file's own warning tells the others
            text = f"its voxels differ from the median case's of {_mm(tuple(sides))} mm"
            issues.append(Issue("warning", case.case_id, text, f"{_mm(case.spacing_mm)} mm"))
    return issues


def _names(cases: tuple[CaseFiles, ...]) -> list[Issue]:
    """Images listed with the labels of another case; and, where most are called alike, those that are not."""
    swapped = {fault.source: fault for fault in swapped_labels(cases)}
    labelled = [case for case in cases if case.label is not None]
    others = [case for case in labelled if str(case.image) not in swapped and not _called_alike(case)]
    issues = [
        _error(case.case_id, swapped[str(case.image)].fault, swapped[str(case.image)])
        for case in labelled
        if str(case.image) in swapped
    ]
    if 2 * len(others) > len(labelled):
        return issues  # so they are called, all of them
    return issues + [
        Issue(
            "warning",
            case.case_id,
            "its label file has another name",
            stem_and_suffix(case.label)[0] if case.label else "",
            "check that it is the label file of this image",
        )
        for case in others
    ]


def _called_alike(case: CaseFiles) -> bool:
    """Whether the label file, or a folder it lies in, is called like the case or its image."""
    if case.label is None or case.case_id in [folder.name for folder in case.label.parents[:2]]:
        return True
    label = plain(stem_and_suffix(case.label)[0])
    names = (plain(case.case_id), plain(stem_and_suffix(case.image)[0]))
    return any(name in label or label in name for name in names)


def _mm(sides: tuple[float, ...]) -> str:
    return "x".join(f"{side:.3g}" for side in sides)
