"""The story of `medseg report`: a segmentation and its scan become one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.label_files import label_values
from medseg.data.objects import at_odds
from medseg.findings.finding import Finding, from_warnings, is_doubtful, ordered
from medseg.findings.labels import Expected, check_label_map, values_without_structure
from medseg.findings.scan import check_grid
from medseg.io import ReadOptions, digest_of, is_dicom_folder, read_label_file, read_scan
from medseg.io.atomic import atomic_write, refuse_existing, write_text
from medseg.io.names import require_page, stem_and_suffix
from medseg.metrics.case import ignored_nowhere
from medseg.metrics.lesions import LesionRow, lesion_rows
from medseg.metrics.measurement import Measurement, measure
from medseg.metrics.scores import Scores
from medseg.metrics.volumes import asymmetries, intracranial_ml
from medseg.reporting import html, words
from medseg.reporting.case.content import ReportCase, case_from_result, rows_from_labels
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.pictures import with_pictures
from medseg.reporting.cohort.content import Detection, Failure, cohort_from_results
from medseg.segmentation.instances import read_instances, stored_instances
from medseg.segmentation.prediction import stated_verdict

MEASURED = ("sheared",)
"""Findings that the measurement against a reference states itself."""

Scan = Path | Mapping[str, Path]


def report(
    seg: Path,
    scan: Scan,
    *,
    reference: Path | None = None,
    structures: StructureSet,
    out: Path,
    options: ReportOptions | None = None,
    reading: ReadOptions | None = None,
    instances: Path | None = None,
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
        reading: decisions the files leave open.
        instances: a map of numbered instances; None for what `predict` left beside the segmentation.
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
    require_page(out)
    volume = read_scan(scan, reading)
    of_labels = replace(reading, series_in=reading.series_in or _series_of(scan))
    read = partial(read_label_file, reading=of_labels, structures=structures, like=volume.grid)
    labels, truth = read(seg), None if reference is None else read(reference)
    label_values(labels.array, seg, structures)
    volume.grid.require(labels.grid, "scan and segmentation", str(seg))
    if truth is not None:
        volume.grid.require(truth.grid, "scan and reference", str(reference))
    case_id = options.case_id or stem_and_suffix(seg)[0].removesuffix("_seg")
    options = replace(options, case_id=case_id).with_verdict(stated_verdict(seg))
    if instances is None:
        options = replace(options, instances=stored_instances(seg, labels, structures))
    else:
        options = replace(options, instances=read_instances(instances, labels, structures))
    hashes = {"Scan SHA-256": digest_of(scan), "Segmentation SHA-256": digest_of(seg)}
    if reference is not None:
        hashes["Reference SHA-256"] = digest_of(reference)
    return report_maps(
        volume,
        labels,
        structures,
        reference=truth,
        out=out,
        options=options,
        hashes=hashes,
        overwrite=overwrite,
    )


def report_maps(
    volume: Volume,
    labels: LabelMap,
    structures: StructureSet,
    *,
    reference: LabelMap | None = None,
    out: Path,
    options: ReportOptions,
    hashes: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> ReportCase:
    """Write the page about a segmentation in memory.

    Args:
        volume: the scan.
        labels: its segmentation, on the same grid.
        structures: what the label values mean.
        reference: a reference segmentation on the same grid; without one no accuracy is stated.
        out: the page.
        options: what else the page is told.
        hashes: of the files, by what the page calls them.
        overwrite: whether an existing page may be replaced.

    Returns:
        What the page says.

    Raises:
        MedsegError: the grids differ, or the page cannot be written.
    """
    options = replace(options, viewer=options.viewer and not require_page(out))
    against = None
    if reference is not None:
        against = measure(
            labels,
            replace(reference, ignore=structures.ignore),
            structures,
            tolerance_mm=options.tolerance_mm,
            lesions=options.lesions,
            rule=options.rule,
            case_id=options.case_id,
        )
    case = case_of(volume, labels, structures, against=against, options=options)
    case = replace(case, facts=(*case.facts, *(hashes or {}).items()))
    write_page(out, case, created=options.created, overwrite=overwrite)
    return case


def _series_of(scan: Scan) -> Path | None:
    """The folder of a scan that is a DICOM series, on which its segmentation may have been drawn."""
    return scan if isinstance(scan, Path) and is_dicom_folder(scan) else None


def write_page(
    out: Path, case: ReportCase, *, created: str | None = None, cohort: str = "", overwrite: bool = False
) -> None:
    """Write the page about one case, as HTML or PDF by the file's name.

    Args:
        out: the page.
        case: what it says.
        created: a date to print.
        cohort: relative address of the page about all cases, if there is one.
        overwrite: whether an existing page may be replaced.

    Raises:
        MedsegError: it is neither, or the file cannot be written.
    """
    if not require_page(out):
        write_text(out, html.case_page(case, created=created, cohort=cohort), overwrite=overwrite)
        return
    from medseg.reporting.pdf import case_pdf

    with atomic_write(out, overwrite) as temporary:
        temporary.write_bytes(case_pdf(case, created=created))


def case_of(
    volume: Volume,
    labels: LabelMap,
    structures: StructureSet,
    *,
    against: Measurement | None = None,
    options: ReportOptions | None = None,
) -> ReportCase:
    """What a page says about a segmentation in memory, its pictures drawn; accuracy is as it was measured.

    Args:
        volume: the scan.
        labels: its segmentation, on the same grid.
        structures: what the label values mean.
        against: what was measured against a reference segmentation on the same grid.
        options: what else the page is told.

    Raises:
        GridMismatchError: scan, segmentation and reference are not on one grid.
    """
    options = options or ReportOptions()
    volume.grid.require(labels.grid, "scan and segmentation")
    known = volume.form.orientation_known
    names = structures.lesions if options.lesions is None else options.lesions
    if options.instances is not None and against is None:
        apart = {one.structure for one in options.instances.items}
        names = tuple(name for name in names if name not in apart)
    raised = _findings(volume, labels, structures, options, names, known)
    if against is None:
        case = ReportCase(options.case_id, rows_from_labels(labels.array, labels.grid, structures), raised)
        lesions = lesion_rows(labels.array, None, labels.grid, structures, names, options.rule)
    else:
        known_there = against.result.doubts
        unmeasured = [f for f in raised if f.code not in MEASURED and f not in known_there]
        unmeasured += from_warnings(ignored_nowhere(options.ignore, (against.result,)))
        case, lesions = case_from_result(against.result, structures, flags=unmeasured), against.lesions
    case = replace(
        _with_derived(case, labels, structures, _kept(options, raised), known),
        lesions=lesions,
        orientation_known=known,
        coverage=options.coverage,
        verdict_known=options.verdict_known,
    )
    channel = volume.channels.index(options.channel) if options.channel in volume.channels else 0
    facts = {"Software": SOFTWARE, **options.facts, "Channel shown": volume.channels[channel]}
    if case.lesions and case.has_reference:
        facts["Rule of lesions"] = words.lesion_rule(options.rule)
    true = None if against is None else against.reference.array
    return with_pictures(
        replace(case, facts=(*facts.items(), *_grid_facts(volume.grid, known).items())),
        np.asarray(volume.array[channel]),
        labels.array,
        volume.grid,
        structures,
        reference=true,
        compared=() if against is None else against.surfaces(),
        window=options.window,
        instances=options.instances,
        scroll=options.viewer,
    )


def _findings(
    volume: Volume,
    labels: LabelMap,
    structures: StructureSet,
    options: ReportOptions,
    lesions: Sequence[str],
    known: bool,
) -> tuple[Finding, ...]:
    """All that the reader of a page must know: what the prediction found, or else what its labels show."""
    found = [*options.findings, *from_warnings((*volume.warnings, *labels.warnings))]
    found += check_grid(volume.grid, orientation_known=known)
    if options.instances is not None:
        found += at_odds(options.instances.labels, labels)
    if options.labels_judged:
        found += values_without_structure(value_counts(labels.array), structures)
    else:
        expected = Expected(options.expected_ml, dict.fromkeys(lesions, math.inf))
        found += check_label_map(labels.array, volume.grid, structures, expected, orientation_known=known)
    return ordered(found)


def _kept(options: ReportOptions, raised: Sequence[Finding]) -> ReportOptions:
    """The options without what they promise, where anything speaks against the result."""
    return replace(options, intervals_ml={}, expected_dice={}) if is_doubtful(raised) else options


def _with_derived(
    case: ReportCase, labels: LabelMap, structures: StructureSet, options: ReportOptions, known: bool
) -> ReportCase:
    """The case with what follows from its volumes, and what is known of them beforehand."""
    totals = tuple((t.name, labels.grid.volume_ml(t.voxels(labels.array))) for t in options.totals)
    volumes = {row.name: row.volume_ml for row in case.rows}
    head_ml = intracranial_ml(totals, volumes)
    rows = tuple(
        replace(
            row,
            icv_percent=None if head_ml is None else 100 * row.volume_ml / head_ml,
            interval_ml=options.intervals_ml.get(row.name),
            expected_dice=options.expected_dice.get(row.name),
        )
        for row in case.rows
    )
    return replace(
        case,
        rows=rows,
        totals=totals,
        asymmetry=asymmetries(volumes, structures) if known else (),
    )


def report_cohort(
    scores: Scores,
    *,
    structures: StructureSet,
    out: Path,
    title: str,
    failures: Sequence[Failure] = (),
    lesions: Mapping[str, Sequence[LesionRow]] | None = None,
    lesions_of: Sequence[str] = (),
    detections: Sequence[Detection] = (),
    thumbnails: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None,
    findings: Sequence[Finding] = (),
    options: ReportOptions | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page about many measured cases.

    Args:
        scores: the measurements; a case with a `failure` counts as missed.
        structures: what was measured.
        out: the page, an `.html` file.
        title: what to call the cohort.
        failures: cases that could not be measured at all.
        lesions: of each case, by its id; see `metrics.lesions.lesion_rows`.
        lesions_of: structures whose lesions were looked for in every case.
        detections: how well objects with scores were found, a structure each.
        thumbnails: a small PNG of a case, by its id; see `thumbnails.thumbnail_png`.
        links: name of each case's page relative to this one, by case id, not quoted.
        findings: what a reader must know, of the whole and of each case.
        options: `facts`, `created` and, where lesions were looked for, `rule` are used.
        overwrite: whether an existing page may be replaced.

    Raises:
        MedsegError: the page cannot be written, or a link leads out of its folder.
    """
    from medseg.reporting.cohort.plots.every import cohort_pictures  # with matplotlib: slow to import

    options = options or ReportOptions()
    cohort = cohort_from_results(
        title,
        scores,
        structures,
        failures=failures,
        lesions=lesions,
        lesions_of=lesions_of,
    )
    facts = {"Software": SOFTWARE, **options.facts}
    if lesions_of:
        facts["Lesion by lesion"] = f"{words.lesion_rule(options.rule)}. {words.penalty(options.rule)}"
    cohort = replace(cohort, detections=tuple(detections))  # before it is drawn
    cohort = replace(
        cohort,
        facts=tuple(facts.items()),
        pictures=cohort_pictures(cohort),
        thumbnails=thumbnails or {},
        findings=tuple(findings),
    )
    write_text(out, html.cohort_page(cohort, links, created=options.created), overwrite=overwrite)


def _grid_facts(grid: Grid, known: bool) -> dict[str, str]:
    return {
        "Grid": " × ".join(map(str, grid.shape)) + " voxels",
        "Spacing": " × ".join(f"{s:.3g}" for s in grid.spacing_mm) + " mm",
        "Orientation": f"{grid.axis_codes} (what each array axis grows towards)" if known else "unknown",
    }
