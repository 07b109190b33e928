"""The story of `medseg report`: a segmentation and its scan become one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg import __version__
from medseg.errors import UsageError
from medseg.io import ReadOptions, digest_of, read_labels, read_volume
from medseg.io.atomic import atomic_write, refuse_existing, write_text
from medseg.io.names import stem_and_suffix
from medseg.metrics.case import CaseResult, Tolerance, evaluate_case
from medseg.metrics.lesions import GLIOMA, LesionRule
from medseg.report import flags, html, words
from medseg.report.cohort import Failure, cohort_from_results
from medseg.report.content import LesionRow, ReportCase, case_from_result, rows_from_labels
from medseg.report.pictures import with_pictures
from medseg.report.planes import orientation_is_known
from medseg.report.plots.every import cohort_pictures
from medseg.report.rows import asymmetry_rows, lesion_names, lesion_rows, with_intracranial
from medseg.structures import StructureSet, Total
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows.known import Verdict, stated_verdict

PAGES = (".html", ".htm", ".pdf")

Scan = Path | Mapping[str, Path]


@dataclass(frozen=True)
class ReportOptions:
    """What a page may be told beyond its files.

    Attributes:
        case_id: what to call the case; the segmentation's stem, without `_seg`, when empty.
        channel: the channel shown; the first when empty.
        window: intensities shown black and white; percentiles when None.
        tolerance_mm: of the surface Dice, for all structures or by name.
        facts: label and value pairs on how the segmentation was made: model, hash, settings.
        expected_ml: smallest and largest volume met in training, by structure.
        warnings: sentences of the prediction that a reader must see.
        totals: volumes to state that several structures make up together.
        created: a date to print; none keeps the page the same for the same input.
        lesions: names of the structures whose lesions are listed; None lists those whose name says so.
        rule: when a lesion is found.
        intervals_ml: within which the volumes by a reference are expected, by structure.
        coverage: share of the volumes that such intervals are to hold.
        expected_dice: by structure; only from a calibration that was checked on shifted scans too.
        expected_pieces: most pieces to expect, by structure; 1 where not said, any number for lesions.
        viewer: whether an HTML page lets the reader scroll through all slices.
        verdict_known: whether `warnings` hold what the model said of its result, if it said anything.
    """

    case_id: str = ""
    channel: str = ""
    window: tuple[float, float] | None = None
    tolerance_mm: Tolerance = None
    facts: Mapping[str, str] = field(default_factory=dict)
    expected_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    totals: tuple[Total, ...] = ()
    created: str | None = None
    lesions: tuple[str, ...] | None = None
    rule: LesionRule = GLIOMA
    intervals_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float = 0.9
    expected_dice: Mapping[str, float] = field(default_factory=dict)
    expected_pieces: Mapping[str, float] = field(default_factory=dict)
    viewer: bool = True
    verdict_known: bool = True

    def with_verdict(self, verdict: Verdict) -> ReportOptions:
        """The options, with what a prediction's summary says of it."""
        return replace(self, warnings=(*self.warnings, *verdict.doubts), verdict_known=verdict.known)


def report(
    seg: Path,
    scan: Scan,
    *,
    reference: Path | None = None,
    structures: StructureSet,
    out: Path,
    options: ReportOptions | None = None,
    reading: ReadOptions | None = None,
    overwrite: bool = False,
) -> ReportCase:
    """Write the page about one case, with what `predict` left beside the segmentation of its doubts.

    Args:
        seg: the segmentation.
        scan: the scan it was made from, one file or one a channel.
        reference: a reference segmentation; without one no accuracy is stated.
        structures: what the label values mean.
        out: the page, an `.html` or a `.pdf` file.
        options: what else the page is told.
        reading: decisions a scan's file leaves open.
        overwrite: whether an existing page may be replaced.

    Returns:
        What the page says.

    Raises:
        MedsegError: a file cannot be read, the grids differ, or the page cannot be written.
    """
    options = options or ReportOptions()
    reading = reading or ReadOptions()
    scans = tuple(scan.values()) if isinstance(scan, Mapping) else (scan,)
    refuse_existing(out, overwrite, [p for p in (seg, reference, *scans) if p is not None])
    is_pdf = require_page(out)
    volume = read_volume(scan, options=reading)
    of_labels = reading.of_labels()
    read = partial(read_labels, structures=structures, like=volume.grid, options=of_labels)
    labels, truth = read(seg), None if reference is None else read(reference)
    volume.grid.require(labels.grid, "scan and segmentation", str(seg))
    if truth is not None:
        volume.grid.require(truth.grid, "scan and reference", str(reference))
    case_id = options.case_id or stem_and_suffix(seg)[0].removesuffix("_seg")
    options = replace(options, case_id=case_id, viewer=options.viewer and not is_pdf)
    options = options.with_verdict(stated_verdict(seg))
    case = case_of(volume, labels, structures, reference=truth, options=options)
    hashes = {"Scan SHA-256": digest_of(scan), "Segmentation SHA-256": digest_of(seg)}
    if reference is not None:
        hashes["Reference SHA-256"] = digest_of(reference)
    case = replace(case, facts=(*case.facts, *hashes.items()))
    write_page(out, case, created=options.created, overwrite=overwrite)
    return case


def require_page(out: Path) -> bool:
    """Whether a page is to be a PDF.

    Raises:
        UsageError: it is to be neither that nor HTML.
    """
    suffix = out.suffix.lower()
    if suffix not in PAGES:
        raise UsageError("a page is an .html or a .pdf file", source=out)
    return suffix == ".pdf"


def write_page(out: Path, case: ReportCase, *, created: str | None = None, overwrite: bool = False) -> None:
    """Write the page about one case, as HTML or PDF by the file's name.

    Raises:
        MedsegError: it is neither, or the file cannot be written.
    """
    if not require_page(out):
        write_text(out, html.case_page(case, created=created), overwrite=overwrite)
        return
    from medseg.report.pdf import case_pdf

    with atomic_write(out, overwrite) as temporary:
        temporary.write_bytes(case_pdf(case, created=created))


def case_of(
    volume: Volume,
    labels: LabelMap,
    structures: StructureSet,
    *,
    reference: LabelMap | None = None,
    options: ReportOptions | None = None,
) -> ReportCase:
    """What a page says about a segmentation in memory, its figure drawn.

    Args:
        volume: the scan.
        labels: its segmentation, on the same grid.
        structures: what the label values mean.
        reference: a reference segmentation on the same grid.
        options: what else the page is told.

    Raises:
        GridMismatchError: scan, segmentation and reference are not on one grid.
    """
    options = options or ReportOptions()
    volume.grid.require(labels.grid, "scan and segmentation")
    known = orientation_is_known(volume.form)
    names = lesion_names(structures) if options.lesions is None else options.lesions
    raised = flags.find(
        labels.array,
        volume.grid,
        structures,
        orientation_known=known,
        warnings=(*options.warnings, *volume.warnings, *labels.warnings),
        expected_ml=options.expected_ml,
        expected_pieces={**dict.fromkeys(names, math.inf), **options.expected_pieces},
    )
    raised = tuple({flag.text: flag for flag in raised}.values())
    if reference is None:
        case = ReportCase(options.case_id, rows_from_labels(labels.array, labels.grid, structures), raised)
    else:
        result = evaluate_case(
            labels, reference, structures, tolerance_mm=options.tolerance_mm, case_id=options.case_id
        )
        case = case_from_result(result, structures, flags=raised)
    true = None if reference is None else reference.array
    case = replace(
        _with_derived(case, labels, structures, options, known),
        lesions=lesion_rows(labels.array, true, labels.grid, structures, names, options.rule),
        orientation_known=known,
        coverage=options.coverage,
        verdict_known=options.verdict_known,
    )
    channel = volume.channels.index(options.channel) if options.channel in volume.channels else 0
    facts = {"Software": f"medseg {__version__}", **options.facts, "Channel shown": volume.channels[channel]}
    if case.lesions and case.has_reference:
        facts["Rule of lesions"] = words.lesion_rule(options.rule)
    return with_pictures(
        replace(case, facts=(*facts.items(), *_grid_facts(volume.grid, known).items())),
        np.asarray(volume.array[channel]),
        labels.array,
        volume.grid,
        structures,
        reference=true,
        window=options.window,
        scroll=options.viewer,
    )


def _with_derived(
    case: ReportCase, labels: LabelMap, structures: StructureSet, options: ReportOptions, known: bool
) -> ReportCase:
    """The case with what follows from its volumes, and what is known of them beforehand."""
    voxel_ml = labels.grid.voxel_volume_mm3 / 1000
    totals = tuple((t.name, voxel_ml * t.voxels(labels.array)) for t in options.totals)
    rows = tuple(
        replace(
            row,
            interval_ml=options.intervals_ml.get(row.name),
            expected_dice=options.expected_dice.get(row.name),
        )
        for row in case.rows
    )
    return replace(
        case,
        rows=with_intracranial(rows, totals),
        totals=totals,
        asymmetry=asymmetry_rows(rows, structures) if known else (),
    )


def report_cohort(
    results: Sequence[CaseResult],
    *,
    structures: StructureSet,
    out: Path,
    title: str,
    failures: Sequence[Failure] = (),
    excluded: Sequence[Failure] = (),
    lesions: Mapping[str, Sequence[LesionRow]] | None = None,
    lesions_of: Sequence[str] = (),
    thumbnails: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None,
    options: ReportOptions | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page about many measured cases.

    Args:
        results: the measurements; one with a `failure` counts as missed.
        structures: what was measured.
        out: the page, an `.html` file.
        title: what to call the cohort.
        failures: cases that could not be measured at all.
        excluded: cases left out on purpose.
        lesions: of each case, by its id; see `report.rows.lesion_rows`.
        lesions_of: structures whose lesions were looked for in every case.
        thumbnails: a small PNG of a case, by its id; see `report.thumbnails`.
        links: name of each case's page relative to this one, by case id, not quoted.
        options: `facts`, `created` and, where lesions were looked for, `rule` are used.
        overwrite: whether an existing page may be replaced.

    Raises:
        MedsegError: the page cannot be written, or a link leads out of its folder.
    """
    options = options or ReportOptions()
    cohort = cohort_from_results(
        title,
        results,
        structures,
        failures=failures,
        excluded=excluded,
        lesions=lesions,
        lesions_of=lesions_of,
    )
    facts = {"Software": f"medseg {__version__}", **options.facts}
    if lesions_of:
        facts["Lesion by lesion"] = f"{words.lesion_rule(options.rule)}. {words.penalty(options.rule)}"
    cohort = replace(
        cohort,
        facts=tuple(facts.items()),
        pictures=cohort_pictures(cohort),
        thumbnails=thumbnails or {},
    )
    write_text(out, html.cohort_page(cohort, links, created=options.created), overwrite=overwrite)


def _grid_facts(grid: Grid, known: bool) -> dict[str, str]:
    return {
        "Grid": " × ".join(map(str, grid.shape)) + " voxels",
        "Spacing": " × ".join(f"{s:.3g}" for s in grid.spacing_mm) + " mm",
        "Orientation": f"{grid.axis_codes} (what each array axis grows towards)" if known else "unknown",
    }
