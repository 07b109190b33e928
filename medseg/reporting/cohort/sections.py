"""A cohort's page as sections of plain blocks, in the order they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from medseg.core.errors import UsageError, counted, plural
from medseg.core.numbers import number
from medseg.reporting import words
from medseg.reporting.case.content import ReportCase
from medseg.reporting.case.sections import Figure, Flags, Numbers, Pairs, Text
from medseg.reporting.cohort import tables
from medseg.reporting.cohort.content import LEAST_N, ReportCohort

SHOWN_EACH = 5
"""Thumbnails of the worst, of the middle and of the best."""

NO_REFERENCE = (
    "No reference segmentations were given, so the accuracy of the outlines is unknown. Median, minimum and "
    "maximum are taken over the cases in which the structure was labelled."
)
OVERLAP_NOTE = (
    "n counts the cases with a Dice, in which prediction or reference contains the structure. Present counts "
    "the cases in which the reference contains it. Missed counts those of them in which the model labelled "
    "none (Dice 0). Extra counts the cases in which only the prediction contains it (Dice 0). Absent counts "
    "the cases in which neither contains it; they have no Dice."
)
SPREAD_NOTE = (
    "CI is the confidence interval of the mean, from a bootstrap over the cases. IQR is the range from the "
    "25th to the 75th percentile."
)
SURFACE_NOTE = (
    "n counts the cases with a finite HD95, from which its statistics are computed. Infinite counts the "
    "cases in which the structure is missed or extra and has no distance; read both numbers together. "
    "Surface Dice is 0 in these cases."
)
VOLUME_NOTE = (
    "n counts the cases in which prediction or reference contains the structure. A missed or extra structure "
    "counts with a volume of 0 ml."
)
LIMITS_NOTE = (
    "The limits are the limits of agreement, bias ± 1.96 standard deviations; if the differences are "
    "normally distributed, about 95 % of them lie between the limits. The confidence intervals of the limits "
    "are exact under that assumption. The interval of the bias uses Student’s t; the CSV tables beside this "
    "page use the bootstrap."
)
FEW_NOTE = (
    f"With fewer than {LEAST_N} cases, this page shows every case as a point and states no intervals, "
    "quartiles, boxes or limits of agreement."
)
LESION_NOTE = (
    "Lesions are counted as the protocol defines. Found, missed and extra are sums over all cases; means are "
    "taken over the cases in which the value exists. A missed lesion and an extra component enter the "
    "lesion-wise means with the protocol’s penalty."
)
DETECTION_NOTE = (
    "An object is found when its mask overlaps one of the reference by the stated IoU, or by 0.1 where none "
    "is stated; objects of all cases are taken by their score. AP is the average precision, CPM the mean "
    "sensitivity at 1/8 to 8 false positives a scan."
)
BIAS: words.Pair = (
    "Bias",
    "The mean over the cases of the volume of the prediction minus the volume of the reference. The bias in "
    "per cent refers to the mean of both volumes.",
)
AGREEMENT: words.Pair = (
    "Limits of agreement",
    "The limits follow Bland and Altman (1999), with the standard deviation over n − 1. Their intervals use "
    "the noncentral t distribution (Carkeet 2015), each limit considered separately.",
)
MEASURES = {"HD95": "hd95_mm", "Surface Dice": "nsd"}
"""Metrics with a definition of their own."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a case.

    Attributes:
        case_id: shown under it.
        detail: likewise.
        png: the picture.
        link: quoted address of the case's page; "" for none.
    """

    case_id: str
    detail: str
    png: bytes
    link: str = ""


@dataclass(frozen=True)
class Gallery:
    """Thumbnails side by side under a title."""

    kind: ClassVar[str] = "gallery"
    title: str
    items: tuple[Thumbnail, ...]


Block = Text | Flags | Pairs | Figure | Numbers | Gallery


@dataclass(frozen=True)
class CohortSection:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


def cohort_sections(
    cohort: ReportCohort, links: Mapping[str, str] | None = None
) -> tuple[CohortSection, ...]:
    """Everything a page says about a cohort but its name.

    Args:
        cohort: what to say.
        links: name of each case's page relative to this one, by case id, not quoted.

    Raises:
        UsageError: a link leads elsewhere than to a file beside or below the page.
    """
    quoted = {case_id: relative_address(name) for case_id, name in (links or {}).items()}
    worst = ", worst first" if cohort.has_reference else ""
    sections = [
        CohortSection(words.WARNINGS, (Flags(cohort.findings),) if cohort.findings else ()),
        CohortSection("Cases", _flow(cohort)),
        *(_accuracy(cohort) if cohort.has_reference else _volumes(cohort)),
        CohortSection("Plots", tuple(Figure(picture) for picture in cohort.pictures)),
        CohortSection("Thumbnails", _galleries(cohort, quoted)),
        CohortSection(f"All cases{worst}", _cases(cohort, quoted)),
        CohortSection(words.DEFINITIONS, (Pairs(_definitions(cohort)),)),
        CohortSection(words.PROVENANCE, (Pairs(cohort.facts),) if cohort.facts else ()),
        CohortSection(words.USE_AND_LIMITS, (Text(words.limits(words.OF_CASES)),)),
    ]
    return tuple(section for section in sections if section.blocks)


def relative_address(name: str) -> str:
    """The name of a file beside or below the page, quoted for a link.

    Raises:
        UsageError: it is empty or leads elsewhere.

    >>> relative_address("cases/a b#1.html"), relative_address("javascript:alert(1)")
    ('cases/a%20b%231.html', 'javascript%3Aalert%281%29')
    """
    parts = name.split("/")
    if "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"a link leads to a file beside or below the page, not to {name!r}")
    return "/".join(quote(part, safe="", errors="surrogateescape") for part in parts)


def _flow(cohort: ReportCohort) -> tuple[Block, ...]:
    """How many cases there are, with and without a result, and who is missing."""
    missing, failed = len(cohort.missing), len(cohort.failures)
    total = len(cohort.cases) + failed
    said = [
        f"{counted(total, 'case')} {plural(total, 'is', 'are')} in this report: "
        f"{len(cohort.cases) - missing} with a segmentation, {missing + failed} without."
    ]
    if missing:
        verb = "counts" if missing == 1 else "count"
        said.append(f"{missing} without a segmentation {verb} as missed in every number below.")
    if failed:
        said.append(f"{failed} could not be measured and {plural(failed, 'is', 'are')} in no number below.")
    table = tables.flow_table(cohort)
    text = Text(" ".join(said))
    return (text,) if table is None else (text, Numbers(table))


def _accuracy(cohort: ReportCohort) -> list[CohortSection]:
    enough = any(row.n >= LEAST_N for row in cohort.summary)
    surface, lesions = tables.surface_table(cohort), tables.lesion_table(cohort)
    overlap = f"{OVERLAP_NOTE} {SPREAD_NOTE if enough else FEW_NOTE}"
    volume = f"{VOLUME_NOTE} {LIMITS_NOTE}" if enough else VOLUME_NOTE
    sections = [
        CohortSection("Overlap with the reference", (Numbers(tables.overlap_table(cohort)), _note(overlap))),
    ]
    if surface is not None:
        sections.append(CohortSection("Surface distances", (Numbers(surface), _note(SURFACE_NOTE))))
    limits = tables.limits_table(cohort)
    measured = [Numbers(tables.volume_table(cohort)), *([Numbers(limits)] if limits else [])]
    sections.append(CohortSection("Agreement of volumes", (*measured, _note(volume))))
    if lesions is not None:
        sections.append(CohortSection("Lesion-wise measures", (Numbers(lesions), _note(LESION_NOTE))))
    detected = tables.detection_table(cohort)
    if detected is not None:
        sections.append(CohortSection("Objects found one by one", (Numbers(detected), _note(DETECTION_NOTE))))
    return sections


def _volumes(cohort: ReportCohort) -> list[CohortSection]:
    blocks = _note(NO_REFERENCE), Numbers(tables.plain_volume_table(cohort))
    return [CohortSection("Volumes over all cases: accuracy not assessed", blocks)]


def _galleries(cohort: ReportCohort, links: Mapping[str, str]) -> tuple[Block, ...]:
    """The worst, the middle and the best of the cases with a thumbnail; all of them when few."""
    cases = [case for case in cohort.worst_first() if case.case_id in cohort.thumbnails]

    def gallery(title: str, chosen: Sequence[ReportCase]) -> Gallery:
        return Gallery(title, tuple(_thumbnail(cohort, case, links) for case in chosen))

    if not cohort.has_reference or len(cases) < 3 * SHOWN_EACH:
        title = "Worst first" if cohort.has_reference else "First cases of the list"
        shown = cases[: 3 * SHOWN_EACH]
        return (gallery(title, shown),) if shown else ()
    middle = (len(cases) - SHOWN_EACH) // 2
    return (
        gallery("Lowest mean Dice", cases[:SHOWN_EACH]),
        gallery("Median", cases[middle : middle + SHOWN_EACH]),
        gallery("Highest mean Dice", cases[-SHOWN_EACH:]),
    )


def _thumbnail(cohort: ReportCohort, case: ReportCase, links: Mapping[str, str]) -> Thumbnail:
    detail = "" if case.mean_dice is None else f"mean Dice {number(case.mean_dice, 3)}"
    return Thumbnail(case.case_id, detail, cohort.thumbnails[case.case_id], links.get(case.case_id, ""))


def _cases(cohort: ReportCohort, links: Mapping[str, str]) -> tuple[Block, ...]:
    table = Numbers(tables.cases_table(cohort, links))
    return (table, _note("The name of a case links to its page.")) if links and cohort.cases else (table,)


def _definitions(cohort: ReportCohort) -> tuple[words.Pair, ...]:
    if not cohort.has_reference:
        return (words.VOLUME,)
    known = dict((*words.ACCURACY, *words.SURFACE[cohort.mode]))
    measured = {row.metric for row in cohort.summary}
    named = ["Reference", "Dice", *(name for name, metric in MEASURES.items() if metric in measured)]
    limits = (AGREEMENT,) if tables.limits_table(cohort) else ()
    return (words.VOLUME, *((name, known[name]) for name in named), words.EMPTY, BIAS, *limits)


def _note(text: str) -> Text:
    return Text(text, faint=True)
