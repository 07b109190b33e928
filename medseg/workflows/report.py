"""The story of `medseg report`: a segmentation and its scan become one page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from medseg import __version__
from medseg.errors import InputError
from medseg.io import ReadOptions, read_labels, read_segments, read_volume
from medseg.io.atomic import refuse_existing, write_text
from medseg.io.names import SEGMENTATION_SUFFIX, stem_and_suffix
from medseg.metrics.case import CaseResult, Tolerance, evaluate_case
from medseg.metrics.counts import present_values
from medseg.model import load_model
from medseg.report import flags, html
from medseg.report.content import Failure, ReportCase, case_from_result, cohort_from_results, rows_from_labels
from medseg.report.figures import overlay_png
from medseg.report.planes import orientation_is_known
from medseg.report.plots import dice_boxes
from medseg.report.views import window_of
from medseg.structures import Structure, StructureSet, Total, from_labels
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows.evaluate import MOST_VALUES
from medseg.workflows.pairs import read_structures

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
    """Write the page about one case.

    Args:
        seg: the segmentation.
        scan: the scan it was made from, one file or one a channel.
        reference: a reference segmentation; without one no accuracy is stated.
        structures: what the label values mean.
        out: the page, an `.html` file.
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
    volume = read_volume(scan, options=reading)
    of_labels = replace(reading, fill_nan=None, volume=None, series=None)
    read = partial(read_labels, structures=structures, like=volume.grid, options=of_labels)
    labels, truth = read(seg), None if reference is None else read(reference)
    volume.grid.require(labels.grid, "scan and segmentation", str(seg))
    if truth is not None:
        volume.grid.require(truth.grid, "scan and reference", str(reference))
    options = replace(options, case_id=options.case_id or stem_and_suffix(seg)[0].removesuffix("_seg"))
    case = case_of(volume, labels, structures, reference=truth, options=options)
    hashes = {"Scan SHA-256": _digest(scan), "Segmentation SHA-256": _digest(seg)}
    if reference is not None:
        hashes["Reference SHA-256"] = _digest(reference)
    case = replace(case, facts=(*case.facts, *hashes.items()))
    write_text(out, html.case_page(case, created=options.created), overwrite=overwrite)
    return case


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
    raised = flags.find(
        labels.array,
        volume.grid,
        structures,
        orientation_known=known,
        warnings=(*options.warnings, *volume.warnings, *labels.warnings),
        expected_ml=options.expected_ml,
    )
    if reference is None:
        rows = rows_from_labels(labels.array, labels.grid, structures)
        case = ReportCase(options.case_id, rows, raised)
    else:
        result = evaluate_case(
            labels, reference, structures, tolerance_mm=options.tolerance_mm, case_id=options.case_id
        )
        case = case_from_result(result, structures, flags=raised)
    channel = volume.channels.index(options.channel) if options.channel in volume.channels else 0
    image = np.asarray(volume.array[channel])
    window = options.window or window_of(image)
    overlay = overlay_png(
        image,
        labels.array,
        volume.grid,
        structures,
        reference=None if reference is None else reference.array,
        orientation_known=known,
        window=window,
    )
    facts = {"Software": f"medseg {__version__}", **options.facts, "Channel shown": volume.channels[channel]}
    facts |= _grid_facts(volume.grid, known)
    voxel_ml = volume.grid.voxel_volume_mm3 / 1000
    return replace(
        case,
        overlay=overlay,
        window=window,
        orientation_known=known,
        facts=tuple(facts.items()),
        totals=tuple((t.name, voxel_ml * t.voxels(labels.array)) for t in options.totals),
    )


def report_cohort(
    results: Sequence[CaseResult],
    *,
    structures: StructureSet,
    out: Path,
    title: str,
    failures: Sequence[Failure] = (),
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
        options: `facts` and `created` are used.
        overwrite: whether an existing page may be replaced.

    Raises:
        MedsegError: the page cannot be written.
    """
    options = options or ReportOptions()
    cohort = cohort_from_results(title, results, structures, failures=failures)
    facts = {"Software": f"medseg {__version__}", **options.facts}
    cohort = replace(cohort, facts=tuple(facts.items()), figure=dice_boxes(cohort))
    write_text(out, html.cohort_page(cohort, created=options.created), overwrite=overwrite)


def _grid_facts(grid: Grid, known: bool) -> dict[str, str]:
    return {
        "Grid": " × ".join(map(str, grid.shape)) + " voxels",
        "Spacing": " × ".join(f"{s:.3g}" for s in grid.spacing_mm) + " mm",
        "Orientation": f"{grid.axis_codes} (what each array axis grows towards)" if known else "unknown",
    }


def _digest(source: Scan) -> str:
    """SHA-256 of a file; of the digests of its files, sorted, for a folder or several channels."""
    if isinstance(source, Mapping):
        return _of_several(_digest(path) for _, path in sorted(source.items()))
    if source.is_dir():
        return _of_several(sorted(_digest(path) for path in source.iterdir() if path.is_file()))
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_several(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


class Known(NamedTuple):
    """What is known of a file's labels: names, smallest and largest volumes to expect, totals."""

    structures: StructureSet
    expected_ml: Mapping[str, tuple[float, float]] = MappingProxyType({})
    totals: tuple[Total, ...] = ()


def known_structures(seg: Path, *, model: str = "", labels: Path | None = None) -> Known:
    """Names for the labels of a file, and the volumes to expect.

    They come from the model named, else from the JSON given, else from the `.json` that `predict`
    left beside the file, else from a file that holds them (`.seg.nrrd`), else every value is called by
    itself.

    Raises:
        ModelError: there is no such model.
        InputError: a file cannot be read.
    """
    if model:
        spec = load_model(model).spec
        ranges = spec.evidence.get("volumes_ml", {})
        expected = {name: (r["min"], r["max"]) for name, r in ranges.items()}
        return Known(spec.structure_set, expected, spec.totals)
    if labels is not None:
        return Known(read_structures(labels))
    beside = seg.with_name(f"{stem_and_suffix(seg)[0]}.json")
    if beside.is_file():
        return _predicted(beside)
    if stem_and_suffix(seg)[1] == SEGMENTATION_SUFFIX:
        return Known(read_segments(seg))
    values = present_values(read_labels(seg).array)
    if len(values) > MOST_VALUES:
        raise InputError(f"holds {len(values)} different values: an image, not labels", source=seg)
    return Known(from_labels({int(v): f"label {int(v)}" for v in values if v}))


def _predicted(summary: Path) -> Known:
    """What the `.json` of a prediction lists."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        structures = from_labels([_structure(row) for row in content["structures"]])
        totals = content.get("totals", ())
        return Known(structures, totals=tuple(Total(str(t["name"]), _values(t["values"])) for t in totals))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"names no structures ({fault!r})", source=summary) from None


def _structure(row: Mapping[str, Any]) -> Structure:
    return Structure(int(row["value"]), str(row["name"]), members=_values(row.get("members", ())))


def _values(listed: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in listed)
