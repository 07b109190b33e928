"""`medseg check`: what is wrong with a dataset, before hours are spent on it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.augment.spec import SynthesisSpec, Tissue
from medseg.cards import Card, Recipe
from medseg.errors import InputError, MedsegError, counted
from medseg.io import ReadOptions, read_labels, stem_and_suffix
from medseg.layouts import CaseFiles, detect
from medseg.layouts.description import LISTER, required_description
from medseg.preparation import Preparation, PreparationSpec
from medseg.structures import Structure, StructureSet, value_counts
from medseg.workflows.cases import (
    Judgement,
    channels_of,
    judge_case,
    read_on_grid,
    swapped_labels,
    voxel_digest,
    without_voxels,
)
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
    folder: Path,
    card: Card | None = None,
    recipe: Recipe | None = None,
    reading: ReadOptions | None = None,
    on_case: Callable[[int, int], None] = lambda *_: None,
) -> Audit:
    """Read and prepare every case of a dataset as a training does, and look for what would spoil one.

    Args:
        folder: in the layout of the card, or without one in any that its names tell.
        card: what channels and labels mean; what the folder states, or the card of its layout, when None.
        recipe: of the training, whose channels and preparation are taken; without one every channel that
            any case has, and no change of the voxels.
        reading: decisions that the files leave open.
        on_case: called after each case with its number and how many there are.

    Raises:
        InputError: the folder is no dataset at all, or its layout cannot be told.
    """
    if card is None:
        found = _origin(folder, reading)
    else:
        found = described(folder, card, complete=False, reading=reading)
    cases, structures = found.files.cases, found.structures
    wanted = (recipe.channels if recipe else ()) or channels_of(cases, found.known_channels)
    read = partial(read_on_grid, structures=structures, there=found.known_channels, wanted=wanted)
    preparation = Preparation(recipe.preparation if recipe else PreparationSpec())
    said: defaultdict[str, list[str]] = defaultdict(list)
    facts: list[CaseFacts] = []
    findings: list[Finding] = []
    for number, case in enumerate(cases, start=1):
        if found.tissues and card is not None:
            looked = _look_at_map(case, card, findings)
        else:
            judged = judge_case(case, read, structures, preparation)
            for text in judged.volume.warnings if judged.volume else ():
                said[text].append(case.case_id)
            looked = _look(case, judged, structures, findings)
        facts += [] if looked is None else [looked]
        on_case(number, len(cases))
    findings += _of_files(said, len(cases)) + _duplicates(facts) + _outliers(facts) + _names(cases)
    findings += _of_all(facts, found)
    return Audit(tuple(facts), tuple(findings), structures)


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
    return findings + [Finding("warning", "", text) for text in texts]


def _origin(folder: Path, reading: ReadOptions | None) -> Origin:
    layout = detect(folder)
    if layout is None and (folder / LISTER).is_file():
        found = required_description(folder)
        raise InputError(
            f"has neither 'training' (Decathlon) nor 'file_ending' (nnU-Net), but {sorted(found)}",
            source=folder / LISTER,
            mend="complete it, or say with --card what the data set is",
        )
    if layout is None:
        raise InputError(
            "lies in no layout that is known",
            source=folder,
            mend="give the data set's own folder, or say with --card what it is: --card brain for label maps",
        )
    return origin(folder, layout, complete=False, reading=reading)


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


def _look(
    case: CaseFiles, judged: Judgement, structures: StructureSet, findings: list[Finding]
) -> CaseFacts | None:
    """One case by itself; None where it cannot be read."""
    findings += [Finding("error", case.case_id, _told(fault, case)) for fault in judged.faults]
    volume, labels = judged.volume, judged.labels
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
    )


def _look_at_map(case: CaseFiles, card: Card, findings: list[Finding]) -> CaseFacts | None:
    """One label map without an image, which a training makes scans of; that needs torch, other data none."""
    from medseg.workflows.synthetic import SyntheticCases

    try:
        labels = read_labels(case.image)
        SyntheticCases(card, SynthesisSpec()).training_case(case)
    except MedsegError as fault:
        fault.source = fault.source or str(case.image)
        findings.append(Finding("error", case.case_id, _told(fault, case)))
        return None
    voxels = value_counts(labels.array)
    parts = _parts(card.structure_set, card.tissues)
    findings += _small_structures(case.case_id, voxels, card.structure_set, parts)
    grid = labels.grid
    return CaseFacts(
        case.case_id, grid.shape, grid.spacing_mm, grid.axis_codes, None, voxel_digest(labels), voxels
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
    inner = structure.members or (structure.value,)
    return sum(voxels.get(part, 0) for value in inner for part in parts.get(value, ()))


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
            findings.append(
                Finding("warning", case_id, f"{structure.name} has only {counted(count, 'voxel')}")
            )
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
    swapped = {fault.source: fault.fault for fault in swapped_labels(cases)}
    findings = []
    for case in cases:
        if case.label is None or case.case_id in [folder.name for folder in case.label.parents[:2]]:
            continue
        label = stem_and_suffix(case.label)[0]
        if str(case.image) in swapped:
            findings.append(Finding("error", case.case_id, swapped[str(case.image)]))
        elif case.case_id not in label and label not in case.case_id:
            findings.append(Finding("warning", case.case_id, f"its labels are called {label}"))
    return findings


def _mm(sides: tuple[float, ...]) -> str:
    return "x".join(f"{side:.3g}" for side in sides)
