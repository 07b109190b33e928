"""`medseg check`: what is wrong with a dataset, before hours are spent on it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.augment.spec import Tissue
from medseg.cards import Card
from medseg.errors import InputError, MedsegError
from medseg.io import read_labels, stem_and_suffix
from medseg.layouts import CaseFiles, detect
from medseg.structures import StructureSet, value_counts
from medseg.volume import Volume
from medseg.workflows.cases import read_image, read_reference, voxel_digest
from medseg.workflows.origin import Origin, described, origin

OUTLIER_FACTOR = 30.0
"""A case whose intensities are this many times the dataset's median brightness, or less, is odd."""

SPACING_FACTOR = 2.0

TINY_VOXELS = 10
"""A structure of fewer voxels is more often a slip of the pen than anatomy."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        severity: an "error" stops a training; a "warning" is for a person to look at.
        case_id: of the case, or empty for the dataset.
        text: what it is, with the numbers.
    """

    severity: Severity
    case_id: str
    text: str


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


@dataclass(frozen=True)
class Audit:
    """All findings, and what the dataset is like."""

    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]
    structures: StructureSet

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    def json(self) -> str:
        content = {
            "schema": "medseg.audit/1",
            "findings": [asdict(f) for f in self.findings],
            "cases": [asdict(c) for c in self.cases],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def check(
    folder: Path, card: Card | None = None, on_case: Callable[[int, int], None] = lambda *_: None
) -> Audit:
    """Read every case of a dataset and look for what would spoil a training.

    Args:
        folder: in the layout of the card, or without one in any that its names tell.
        card: what channels and labels mean; what the folder states, or the card of its layout, when None.
        on_case: called after each case with its number and how many there are.

    Raises:
        InputError: the folder is no dataset at all, or its layout cannot be told.
    """
    found = _origin(folder) if card is None else described(folder, card, complete=False)
    files, structures, tissues = found.files, found.structures, found.tissues
    channels = found.channels if card is None else card.channels
    said: defaultdict[str, list[str]] = defaultdict(list)
    facts: list[CaseFacts] = []
    findings: list[Finding] = []
    for number, case in enumerate(files.cases, start=1):
        try:
            if tissues:
                facts.append(_look_at_map(case, structures, tissues, findings))
            else:
                volume = read_image(case, channels)
                for text in volume.warnings:
                    said[text].append(case.case_id)
                facts.append(_look(case, volume, structures, findings))
        except MedsegError as fault:
            findings.append(Finding("error", case.case_id, _told(fault, case)))
        on_case(number, len(files.cases))
    findings += (
        _of_files(said, len(files.cases)) + _duplicates(facts) + _outliers(facts) + _names(files.cases)
    )
    return Audit(tuple(facts), tuple(findings), structures)


def _origin(folder: Path) -> Origin:
    layout = detect(folder)
    if layout is None:
        raise InputError(
            "lies in no layout that is known",
            source=folder,
            mend="give the data set's own folder, or say with --card what it is: --card brain for label maps",
        )
    return origin(folder, layout, complete=False)


def _of_files(said: Mapping[str, Sequence[str]], of: int) -> list[Finding]:
    """What files say of themselves; what many say alike, once."""
    return [
        Finding("warning", names[0], text)
        if len(names) == 1
        else Finding("warning", "", f"{len(names)} of {of} cases: {text}")
        for text, names in said.items()
    ]


def _told(fault: MedsegError, case: CaseFiles) -> str:
    """The fault and which of the case's two files has it."""
    label = case.label is not None and fault.source == str(case.label)
    return f"{'labels' if label else 'image'}: {fault.fault}"


def _look(case: CaseFiles, volume: Volume, structures: StructureSet, findings: list[Finding]) -> CaseFacts:
    """One case by itself."""
    voxels: dict[int, int] = {}
    for name, channel in zip(volume.channels, volume.array, strict=True):
        if channel.min() == channel.max():
            findings.append(Finding("error", case.case_id, f"channel {name} is constant"))
    if case.label is None:
        findings.append(Finding("error", case.case_id, "has no labels"))
    else:
        labels = read_reference(case, structures, volume.grid)
        volume.grid.require(labels.grid, "image and labels", source=str(case.label))
        findings += [
            Finding("warning", case.case_id, f"labels: {text}")
            for text in labels.warnings
            if text not in volume.warnings
        ]
        voxels = value_counts(labels.array)
        known = {v: (v,) for v in structures.known_values}
        findings += _look_at_labels(case.case_id, voxels, structures, known)
    return CaseFacts(
        case.case_id,
        volume.grid.shape,
        volume.grid.spacing_mm,
        volume.grid.axis_codes,
        float(np.percentile(np.abs(volume.array[0].astype(np.float64)), 95)),
        voxel_digest(volume),
        voxels,
    )


def _look_at_map(
    case: CaseFiles, structures: StructureSet, tissues: Sequence[Tissue], findings: list[Finding]
) -> CaseFacts:
    """One label map without an image: its values are tissues, and structures are made of them."""
    labels = read_labels(case.image)
    voxels = value_counts(labels.array)
    parts: defaultdict[int, tuple[int, ...]] = defaultdict(tuple, {0: (0,)})
    for tissue in tissues:
        parts[tissue.target] += (tissue.value,)
    findings += _look_at_labels(case.case_id, voxels, structures, parts)
    if not set(voxels) - {0}:
        findings.append(Finding("error", case.case_id, "the label map is empty"))
    grid = labels.grid
    return CaseFacts(
        case.case_id, grid.shape, grid.spacing_mm, grid.axis_codes, None, voxel_digest(labels), voxels
    )


def _look_at_labels(
    case_id: str, voxels: dict[int, int], structures: StructureSet, parts: Mapping[int, Sequence[int]]
) -> list[Finding]:
    """Values nobody declared, and structures without voxels or with few.

    Args:
        case_id: of the case.
        voxels: of each value in its labels.
        structures: that it should have.
        parts: for each value of a structure or background, the values in the file that stand for it.
    """
    declared = {value for values in parts.values() for value in values}
    unknown = {v: n for v, n in voxels.items() if v not in declared}
    findings = [
        Finding("error", case_id, f"unknown label value {value} in {count} voxels")
        for value, count in unknown.items()
    ]
    for structure in structures:
        inner = structure.members or (structure.value,)
        count = sum(voxels.get(part, 0) for value in inner for part in parts.get(value, ()))
        if count == 0:
            findings.append(Finding("warning", case_id, f"{structure.name} is not labelled"))
        elif count < TINY_VOXELS:
            findings.append(Finding("warning", case_id, f"{structure.name} has only {count} voxels"))
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
            text = f"95% of intensities lie below {case.brightness:.4g}; in the median case {brightness:.4g}"
            findings.append(Finding("warning", case.case_id, text))
        off = np.sort(case.spacing_mm) / sides
        if off.max() > SPACING_FACTOR or off.min() < 1 / SPACING_FACTOR:
            text = f"voxels of {_mm(case.spacing_mm)} mm; in the median case {_mm(tuple(sides))} mm"
            findings.append(Finding("warning", case.case_id, text))
    return findings


def _names(cases: tuple[CaseFiles, ...]) -> list[Finding]:
    """Images and labels listed together that are not called alike; those of another case are swapped."""
    findings = []
    others = {case.case_id for case in cases}
    for case in cases:
        if case.label is None or case.case_id in [folder.name for folder in case.label.parents[:2]]:
            continue
        label = stem_and_suffix(case.label)[0]
        if label != case.case_id and label in others:
            findings.append(Finding("error", case.case_id, f"is listed with the labels of {label}"))
        elif case.case_id not in label and label not in case.case_id:
            findings.append(Finding("warning", case.case_id, f"its labels are called {label}"))
    return findings


def _mm(sides: tuple[float, ...]) -> str:
    return "x".join(f"{side:.3g}" for side in sides)
