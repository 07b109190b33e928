"""What the change between two scans of one patient says: sentences, tables and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from medseg.core.numbers import millilitres, number
from medseg.findings.finding import Finding, sentence
from medseg.metrics.followup import Change, LesionChange
from medseg.reporting import html
from medseg.reporting.case.content import Picture
from medseg.reporting.tables import Table, aligned

NOT_KNOWN = "n/a – noise unknown"

SAME_GRID = "Both scans have the same grid. Lesions are compared voxel by voxel, without registration."
TWO_GRIDS = (
    "The scans have different grids. Lesions are compared by the scanner’s coordinates, without "
    "registration. If the patient’s position changed, a lesion can wrongly appear as new, gone or "
    "moved."
)

NO_COMPONENT = "The model labelled no {name} in either scan."

SHOWN_ALONE = 8
"""Up to this many changes beyond the noise have a sentence each."""

KINDS = {
    "new": "new",
    "gone": "gone",
    "grown": "grown",
    "shrunk": "shrunk",
    "unchanged": "no change shown",
    "merged": "merged",
    "split": "split",
    "rearranged": "merged and split",
    "outside": "outside the other scan",
}


@dataclass(frozen=True)
class ReportFollowup:
    """Everything a page about a change says.

    Attributes:
        name_first: what the earlier segmentation is called; text from a file name.
        name_second: the later one.
        changes: one a structure.
        lesions: of the structures that were followed, by name.
        apart: those of them whose instances the predictions told apart; of the others, connected components.
        same_grid: whether both scans have one grid.
        noise_known: whether the smallest change that is more than noise is known.
        findings: what a reader must know, most severe first.
        colours: of the structures.
        facts: label and value pairs on provenance.
        dates: of both scans, as whoever made the page stated them; None where nobody did.
        pictures: slices of both scans with outlines, the earlier first.
    """

    name_first: str
    name_second: str
    changes: tuple[Change, ...]
    lesions: Mapping[str, tuple[LesionChange, ...]] = field(default_factory=lambda: MappingProxyType({}))
    apart: tuple[str, ...] = ()
    same_grid: bool = True
    noise_known: bool = False
    findings: tuple[Finding, ...] = ()
    colours: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    facts: tuple[tuple[str, str], ...] = ()
    dates: tuple[date, date] | None = None
    pictures: tuple[Picture, ...] = ()

    def objects(self, name: str) -> str:
        """What the lesions of a structure are."""
        return "instances" if name in self.apart else "connected components"

    @property
    def days(self) -> int | None:
        """Between the two scans; None where no dates are known."""
        return None if self.dates is None else (self.dates[1] - self.dates[0]).days


def sentences(followup: ReportFollowup) -> tuple[str, ...]:
    """What changed, plainly; that no change is shown is an answer too."""
    return tuple(map(sentence, (*_about_volumes(followup), *_about_lesions(followup))))


def _about_volumes(followup: ReportFollowup) -> Iterator[str]:
    if not followup.noise_known:
        yield "The measurement noise is unknown, so the changes in the table are not shown to exceed it."
        return
    shown = [c for c in followup.changes if c.exceeds]
    if len(shown) <= SHOWN_ALONE:
        yield from map(_larger_or_smaller, shown)
    else:
        for more, found in (
            ("larger", [c for c in shown if c.change_ml > 0]),
            ("smaller", [c for c in shown if c.change_ml <= 0]),
        ):
            if found:
                listed = ", ".join(f"{c.structure} ({_amount(c)})" for c in found)
                yield f"These structures are {more} by more than the measurement noise: {listed}."
    if still := [c.structure for c in followup.changes if c.exceeds is False]:
        yield f"No change was shown in {', '.join(still)}: the changes do not exceed the noise."
    if unknown := [c.structure for c in followup.changes if c.exceeds is None]:
        yield f"The measurement noise of {', '.join(unknown)} is unknown."


def _larger_or_smaller(change: Change) -> str:
    more = "larger" if change.change_ml > 0 else "smaller"
    noise = millilitres(change.smallest_ml)
    return f"{change.structure} is {more} ({_amount(change)}; the measurement noise is up to {noise} ml)."


def _amount(change: Change) -> str:
    """The change in ml and per cent, and whether a part may be missing."""
    percent = "" if change.percent is None else f", {number(change.percent, 1, signed=True)} %"
    cut = "; it reaches the edge of a scan, and part of it may be missing" if change.cut else ""
    return f"{millilitres(change.change_ml, signed=True)} ml{percent}{cut}"


def _about_lesions(followup: ReportFollowup) -> Iterator[str]:
    for name, found in followup.lesions.items():
        kinds = [KINDS[lesion.kind] for lesion in found]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS.values() if kind in kinds)
        said = f"{name} has these {followup.objects(name)}: {counts}."
        yield said if counts else NO_COMPONENT.format(name=name)
    if followup.lesions:
        yield SAME_GRID if followup.same_grid else TWO_GRIDS


HEAD = ("Structure", "First ml", "Second ml", "Change ml", "Noise up to ml", "Exceeds noise", "Change %")


def terminal_table(followup: ReportFollowup) -> tuple[tuple[str, ...], ...]:
    """One row a structure, header first: both volumes, the change, and what it must exceed."""
    return HEAD, *map(_cells, followup.changes)


def change_table(followup: ReportFollowup) -> Table:
    """The same, its numbers aligned."""
    rows = [_cells(change) for change in followup.changes]
    names, *columns = zip(*rows, strict=True) if rows else ((),)
    lined = zip(names, *map(aligned, columns), strict=True)
    return Table(HEAD, tuple(lined), tuple(followup.colours.get(name, "") for name in names))


def _volumes(first: Sequence[float], second: Sequence[float]) -> tuple[str, str, str]:
    """The cells of both volumes, and of the change."""
    before, after = (" + ".join(map(millilitres, ml_of)) or "none" for ml_of in (first, second))
    return before, after, millilitres(sum(second) - sum(first), signed=True)


def _cells(change: Change) -> tuple[str, ...]:
    exceeds = {True: "yes", False: "no", None: "n/a"}[change.exceeds]
    return (
        change.structure,
        *_volumes([change.first_ml], [change.second_ml]),
        NOT_KNOWN if change.smallest_ml is None else millilitres(change.smallest_ml),
        exceeds,
        number(change.percent, 1, signed=True),
    )


def lesion_table(found: tuple[LesionChange, ...]) -> Table:
    """One row a group of lesions that belong together, the largest first."""
    rows = tuple(
        (
            KINDS[lesion.kind],
            *_volumes(lesion.first_ml, lesion.second_ml),
            NOT_KNOWN if lesion.smallest_ml is None else millilitres(lesion.smallest_ml),
            ", ".join(number(x, 1) for x in lesion.centre_mm),
        )
        for lesion in found
    )
    return Table(("Component", "First ml", "Second ml", "Change ml", "Noise up to ml", "Centre mm"), rows)


def followup_page(followup: ReportFollowup, *, created: str | None = None) -> str:
    """The page about a change, as HTML.

    Args:
        followup: what to say; every text of it is escaped.
        created: a date to print; without one the same change gives the same page.
    """
    return html.page(
        "followup.html",
        change_table(followup),
        followup=followup,
        sentences=sentences(followup),
        lesions=[(name, lesion_table(found)) for name, found in followup.lesions.items()],
        created=created,
    )
