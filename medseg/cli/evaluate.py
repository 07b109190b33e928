"""`medseg evaluate`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import duration, refuse_doubts, result, rewrite, say, say_findings, table
from medseg.core.errors import PartialBatchError, UsageError, counted

if TYPE_CHECKING:
    from medseg.evaluation.result import Evaluation
    from medseg.metrics.case import SurfaceMode
    from medseg.metrics.instances import Kind

RECENT = 20
"""Cases from whose times the time that is left is told."""


Pred = Annotated[
    Path,
    typer.Argument(
        help="Predicted segmentation: a label file, or a folder with a mask for each structure; a folder of "
        "either, or a table (.csv, .tsv) with the columns case, prediction and label."
    ),
]
Ref = Annotated[
    Path | None,
    typer.Argument(
        help="Reference: a label file, a folder with the same file names, or a dataset. Leave it out where a "
        "table of predictions lists the labels."
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="Measure surface distances between surfels or border voxels: surfel or voxel. Default: surfel.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="Measure by the protocol of a challenge: promise12, brats2023, brats2023-men or brats2023-met.",
    ),
]
Anchors = Annotated[
    Path | None,
    typer.Option("--anchors", help="Read the second observer's results for promise12 from TOML or JSON."),
]
Lesions = Annotated[
    list[str] | None,
    typer.Option("--lesions", help="Measure this structure lesion by lesion. Repeatable."),
]
Instances = Annotated[
    str,
    typer.Option(
        "--instances",
        help="Also match single objects (panoptic quality): components, values (each label value is one), or "
        "maps (the numbers in NAME_inst beside each label file).",
    ),
]
CohortCsv = Annotated[
    Path | None, typer.Option("--cohort-csv", help="Write the statistics of the cohort to this CSV file.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write everything to this folder (can be resumed), or results to this JSON file.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Show the scan of each case in its report, from this folder of scans with the same names.",
    ),
]
Report = Annotated[
    Path | None, typer.Option("--report", help="Write a report of the cohort to this HTML file.")
]
Name = Annotated[str, typer.Option("--name", help="Show the model under this name in the tables.")]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", min=0, help="Measure this many cases at a time; 0 takes half of the processors."
    ),
]


def command(
    pred: Pred,
    ref: Ref = None,
    labels: opt.Labels = None,
    ignore: opt.Ignore = None,
    tolerance: opt.Tolerance = None,
    surface: opt.Surface = True,
    mode: Mode = None,
    protocol: Protocol = "",
    anchors: Anchors = None,
    lesions: Lesions = None,
    instances: Instances = "",
    csv: opt.Csv = None,
    cohort_csv: CohortCsv = None,
    out: Out = None,
    images: Images = None,
    report: Report = None,
    name: Name = "",
    strict: opt.Strict = False,
    workers: Workers = 0,
    threads: opt.Threads = 0,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    series_in: opt.SeriesIn = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Measure predictions against references. With -o FOLDER, writes tables, JSON and reports."""
    from medseg.evaluation.evaluate import evaluate
    from medseg.metrics.instances import InstanceRule

    folder = out if out is not None and (out.is_dir() or not out.suffix) else None
    targets = {"csv": csv, "cohort": cohort_csv, "json": None if folder else out, "page": report}
    _require_targets(targets, (pred, ref, labels, anchors, images), overwrite)
    found = evaluate(
        pred,
        ref,
        structures=labels,
        ignore=ignore,
        tolerance_mm=tolerance,
        tolerance_source="" if tolerance is None else "command line",
        surface=surface,
        mode=_mode(mode),
        protocol=protocol,
        anchors=anchors,
        lesions=lesions or (),
        instances=InstanceRule(of=cast("Kind", instances)) if instances else None,
        model=name,
        **_shared(workers, threads, ref or pred),
        out=folder,
        images=images,
        reading=opt.reading(use_form, assume_ras, fill_nan, volume, series, series_in),
        overwrite=overwrite,
        progress=_Meter(),
    )
    _finish(found, targets, strict, overwrite, as_json)


def _finish(
    found: Evaluation, targets: Mapping[str, Path | None], strict: bool, overwrite: bool, as_json: bool
) -> None:
    """Say and write what was found.

    Raises:
        PartialBatchError: a file could not be used.
        InputError: there is a doubt or a warning, and with `strict` none may be.
    """
    rewrite("")
    say_findings(found.findings)
    _write(found, targets, overwrite)
    result(found.json().rstrip() if as_json else table(found.table_rows()))
    if not as_json:
        for rows in found.object_tables():
            result(f"\n{table(rows)}")
        _hint(found)
    _refuse_faulty(found)
    if strict:
        refuse_doubts(found.findings)


def _hint(found: Evaluation) -> None:
    """Say what would tell more; the tables of a protocol are its own."""
    from medseg.evaluation.scores import hints

    options = found.options
    ignore = found.structures.ignore is not None
    if options.protocol is None:
        for text in hints(found.cases, tolerance=options.tolerance_mm is not None, ignore=ignore):
            say(f"hint: {text}")


def _require_targets(
    targets: Mapping[str, Path | None], inputs: Sequence[Path | None], overwrite: bool
) -> None:
    """Refuse files that exist, another than JSON as that of `-o`, and than HTML as the cohort's page.

    Raises:
        UsageError: a file is refused.
    """
    from medseg.io.formats import HTML_SUFFIXES

    opt.refuse_targets(targets.values(), inputs, overwrite)
    out, page = targets["json"], targets["page"]
    if out is not None and out.suffix != ".json":
        raise UsageError("is not a .json file", source=out, hint="give a .json file, or a folder")

    if page is not None and page.suffix.lower() not in HTML_SUFFIXES:
        raise UsageError(
            f"the report of a cohort must be an .html file, not {page.suffix or 'one without a suffix'}",
            source=page,
            hint=f"name it {page.stem}.html",
        )


def _mode(text: str | None) -> SurfaceMode | None:
    if text not in (None, "surfel", "voxel"):
        raise UsageError(f"--mode must be surfel or voxel, not {text!r}")
    return cast("SurfaceMode | None", text)


def _shared(workers: int, threads: int, ref: Path) -> dict[str, int]:
    """Cases at a time, and the threads of each."""
    from medseg.evaluation.pairs import has_several
    from medseg.inference.engines.base import available_threads

    processors = available_threads()
    workers = (workers or max(1, processors // 2)) if has_several(ref) else 1
    return {"workers": workers, "threads": max(1, (threads or processors) // workers)}


def _write(found: Evaluation, targets: Mapping[str, Path | None], overwrite: bool) -> None:
    """The files that were asked for one by one."""
    from medseg.evaluation.folder import write_page

    writers: dict[str, Callable[..., None]] = {
        "csv": found.write_csv,
        "cohort": found.write_cohort_csv,
        "json": found.write_json,
        "page": partial(write_page, found),
    }
    for kind, path in targets.items():
        if path is not None:
            writers[kind](path, overwrite=overwrite)


class _Meter:
    """Progress on the terminal, with the time that is left by that of the last cases."""

    def __init__(self) -> None:
        self.seen: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def __call__(self, done: int, of: int, name: str) -> None:
        self.seen.append((time.monotonic(), done))
        (since, before), (now, _) = self.seen[0], self.seen[-1]
        left = f", {duration((of - done) * (now - since) / (done - before))} left" if done > before else ""
        rewrite(f"{done} of {counted(of, 'case')} measured{left}: {name}")


def _refuse_faulty(found: Evaluation) -> None:
    """End with a fault where a file could not be used; everything is written by then."""
    if found.faulty:
        of = counted(len(found.cases) + len(found.excluded), "case")
        raise PartialBatchError(f"{len(found.faulty)} of {of} failed: {', '.join(found.faulty)}")
