"""`medseg.report`: a page about a segmentation. Private: the name is `medseg.report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from medseg.api.options import Structures, structures_of
from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.core.structures import StructureSet
from medseg.evaluation.label_names import ignoring
from medseg.findings.finding import from_warnings
from medseg.io import ReadOptions, stem_and_suffix
from medseg.io.names import require_page
from medseg.io.objects import Source, as_labels, as_volume, is_path
from medseg.metrics.case import Tolerance
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.page import report as report_files
from medseg.reporting.case.page import report_maps
from medseg.segmentation.label_sources import known_structures, named_structures
from medseg.segmentation.prediction import stated_intervals
from medseg.segmentation.result import Segmentation


@hinted
def report(
    seg: Segmentation | Source,
    scan: Source | Mapping[str, Source],
    output: str | Path | None = None,
    *,
    reference: Source | None = None,
    model: str | Path = "",
    structures: Structures = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    lesions: Sequence[str] | None = None,
    instances: str | Path | None = None,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    series_in: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one page about a segmentation: slices with outlines, and the table of structures.

    Args:
        seg: a label file, what a segmenter returned, or labels in memory.
        scan: the scan it was made from: a file, or what `medseg.read` takes; or one of it for each channel.
        output: the page, `.html` or `.pdf`, or a folder; None writes beside the label file.
        reference: a reference segmentation; without one no accuracy is stated.
        model: file or name of the model that knows the structures.
        structures: what the label values mean: names by value, a `StructureSet`, or a JSON file.
        ignore: value of the reference's voxels that nobody labelled.
        tolerance_mm: of the surface Dice, for all structures or by name.
        lesions: structures whose lesions are listed; None lists those whose name says tumour or lesion.
        instances: a map of numbered instances of a label file; None for what `predict` left beside it.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
        series_in: folder of the DICOM series that a segmentation or structure set refers to, or of folders
            of them, where it does not lie beside that file.
        overwrite: whether an existing page may be replaced.

    Returns:
        Where the page is.

    Raises:
        UsageError: labels in memory have no structures or no output, or settings do not go together.
        MedsegError: something cannot be read, the grids differ, or the page cannot be written.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np, pathlib, tempfile
    >>> scan = medseg.read(np.zeros((16, 16, 16), np.float32), affine=np.eye(4))
    >>> labels = medseg.LabelMap(np.ones((16, 16, 16), np.uint8), scan.grid)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = medseg.report(labels, scan, pathlib.Path(folder) / "page.html", structures={1: "liver"})
    ...     "liver" in page.read_text(encoding="utf-8")
    True
    """
    if ignore is not None and reference is None:
        raise UsageError("the voxels to ignore are those of a reference", hint="give both, or neither")
    reading = ReadOptions(
        use_form, assume_ras, fill_nan, volume, series, None if series_in is None else Path(series_in)
    )
    wanted = structures_of(structures)
    named_lesions = None if lesions is None else tuple(lesions)
    options = ReportOptions(tolerance_mm=tolerance_mm, lesions=named_lesions, ignore=ignore)
    if not is_path(seg):
        if output is None:
            raise UsageError("labels in memory lie beside no file", hint="give output=")
        if instances is not None:
            raise UsageError("a map of instances belongs to a label file", hint="give the file of the labels")
        named = named_structures(wanted) if isinstance(wanted, Path) else wanted
        target = _target(Path(output), "case")
        _in_memory(seg, scan, target, reference, named, options, reading, overwrite)
        return target
    stem = stem_and_suffix(Path(seg))[0].removesuffix("_seg")
    target = _target(Path(output) if output else Path(seg).with_name(f"{stem}_report.html"), stem)
    if not isinstance(wanted, StructureSet):
        known = known_structures(
            Path(seg), reference=_file(reference), model=str(model), labels=wanted, reading=reading
        )
        wanted = known.structures
        options = replace(options, expected_ml=known.expected_ml, totals=known.totals)
    wanted, options = _ignoring(wanted, options)
    report_files(
        Path(seg),
        {name: _scan(part) for name, part in scan.items()} if isinstance(scan, Mapping) else _scan(scan),
        reference=_file(reference),
        structures=wanted,
        out=target,
        options=replace(options, intervals_ml=stated_intervals(Path(seg))),
        reading=reading,
        instances=None if instances is None else Path(instances),
        overwrite=overwrite,
    )
    return target


def _ignoring(structures: StructureSet, options: ReportOptions) -> tuple[StructureSet, ReportOptions]:
    """The structures without one that is to be ignored, and the options with what is said of it."""
    if options.ignore is None:
        return structures, options
    kept, said = ignoring(structures, options.ignore)
    return kept, replace(options, findings=(*options.findings, *from_warnings(said)))


def _in_memory(
    seg: Any,
    scan: Any,
    target: Path,
    reference: Any,
    structures: StructureSet | None,
    options: ReportOptions,
    reading: ReadOptions,
    overwrite: bool,
) -> None:
    """Write the page about labels that lie in no file."""
    if isinstance(seg, Segmentation):
        structures = structures or seg.structures
        options = replace(
            options, findings=seg.findings, labels_judged=True, totals=seg.totals, instances=seg.instances
        )
        seg = seg.labels
    else:
        options = replace(options, verdict_known=False)
    if structures is None:
        raise UsageError("nothing says what the labels mean", hint="give structures={1: NAME, ...}")
    structures, options = _ignoring(structures, options)
    report_maps(
        as_volume(scan, options=reading),
        as_labels(seg, options=reading),
        structures,
        reference=None if reference is None else as_labels(reference, options=reading),
        out=target,
        options=replace(options, case_id=target.stem.removesuffix("_report")),
        overwrite=overwrite,
    )


def _target(output: Path, stem: str) -> Path:
    """The page: the file named, or in the folder named, which is made.

    Raises:
        UsageError: it is neither HTML nor PDF.
    """
    if output.is_dir() or not output.suffix:
        output.mkdir(parents=True, exist_ok=True)
        output = output / f"{stem}_report.html"
    require_page(output)
    return output


def _scan(scan: Any) -> Path:
    if not is_path(scan):
        raise UsageError("the scan of a label file is a file too", hint="give its path, or labels in memory")
    return Path(scan)


def _file(reference: Any) -> Path | None:
    return None if reference is None else _scan(reference)
