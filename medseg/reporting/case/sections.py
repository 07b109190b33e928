"""A case's page as sections of plain blocks, which HTML and PDF write in the same order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, get_args

from medseg.findings.finding import DOUBTFUL, NO_DOUBT, REFUSED, Finding, is_doubtful, ordered
from medseg.metrics.lesions import LesionOutcome
from medseg.reporting import words
from medseg.reporting.case.content import Picture, ReportCase
from medseg.reporting.tables import (
    Table,
    asymmetry_table,
    case_table,
    instance_table,
    lesion_table,
    surface_table,
)

NO_FLAG_OF_OUTLINES = (
    "The checks of the outlines raised no flag; the model’s confidence in its result is unknown here. The "
    "outlines can still be wrong; inspect the slices."
)
NOT_ASSESSED = (
    "No reference segmentation was given for this case, so the accuracy of the outlines is unknown."
)


@dataclass(frozen=True)
class Text:
    """A paragraph; `faint` for remarks."""

    kind: ClassVar[str] = "text"
    text: str
    faint: bool = False


@dataclass(frozen=True)
class Flags:
    """What a reader must see first, the gravest before the others."""

    kind: ClassVar[str] = "flags"
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Pairs:
    """Labels and values, or words and what they mean."""

    kind: ClassVar[str] = "pairs"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    kind: ClassVar[str] = "figure"
    picture: Picture


@dataclass(frozen=True)
class Numbers:
    """A table."""

    kind: ClassVar[str] = "numbers"
    table: Table


Block = Text | Flags | Pairs | Figure | Numbers


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        key: what the section is, for who puts something before it.
        title: the heading.
        blocks: in order.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]


def case_sections(case: ReportCase) -> tuple[Section, ...]:
    """Everything a page says about a case but its name: flags first, then pictures, then numbers."""
    sections = [
        Section("flags", words.WARNINGS, _flags(case)),
        Section("slices", "Slices", tuple(Figure(picture) for picture in case.pictures)),
        _numbers(case),
        Section("sides", "Left and right", _sides(case)),
        Section("surfaces", "Surface distances", _surfaces(case)),
        Section("instances", "Instances", _instances(case)),
        Section("lesions", "Lesions" if case.has_reference else "Connected components", _lesions(case)),
        Section("definitions", words.DEFINITIONS, (Pairs(words.case_definitions(case)),)),
        Section("facts", words.PROVENANCE, (Pairs(case.facts),) if case.facts else ()),
        Section("limits", words.USE_AND_LIMITS, (Text(words.limits("It describes one scan.")),)),
    ]
    return tuple(section for section in sections if section.blocks)


def _flags(case: ReportCase) -> tuple[Block, ...]:
    said: tuple[Block, ...] = (Flags(ordered(case.flags)),) if case.flags else ()
    if is_doubtful(case.flags):
        return Text(DOUBTFUL), *said
    if any(flag.severity in REFUSED for flag in case.flags):
        return said
    return Text(NO_DOUBT if case.verdict_known else NO_FLAG_OF_OUTLINES), *said


def _numbers(case: ReportCase) -> Section:
    if case.has_reference:
        title = "Accuracy against the reference segmentation"
        return Section("numbers", title, (Numbers(case_table(case)),))
    blocks = (Text(NOT_ASSESSED, faint=True), Numbers(case_table(case)))
    return Section("numbers", "Volumes: accuracy not assessed", blocks)


def _sides(case: ReportCase) -> tuple[Block, ...]:
    if not case.asymmetry:
        return ()
    return (Numbers(asymmetry_table(case)),)


def _surfaces(case: ReportCase) -> tuple[Block, ...]:
    if case.surfaces is None:
        return ()
    return Figure(case.surfaces), Numbers(surface_table(case))


def _instances(case: ReportCase) -> tuple[Block, ...]:
    if not case.instances:
        return ()
    counts = Counter(one.structure for one in case.instances)
    said = Text(" ".join(f"{name}: {counts[name]}." for name in counts))
    picture = () if case.instances_picture is None else (Figure(case.instances_picture),)
    return said, *picture, Numbers(instance_table(case))


def _lesions(case: ReportCase) -> tuple[Block, ...]:
    if not case.lesions:
        return ()
    counts = Counter((row.structure, row.outcome) for row in case.lesions)
    names = dict.fromkeys(row.structure for row in case.lesions)
    said = []
    for name in names:
        there = [f"{counts[name, o]} {o}" for o in get_args(LesionOutcome) if counts[name, o]]
        said.append(f"{name}: {', '.join(there)}.")
    return Text(" ".join(said)), Numbers(lesion_table(case))
