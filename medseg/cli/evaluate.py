"""`medseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say, table
from medseg.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.evaluate import Evaluation


def command(
    pred: Annotated[Path, typer.Argument(help="Prediction: a label file, or a folder of them.")],
    ref: Annotated[Path, typer.Argument(help="Reference: likewise, under the same names.")],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON with the names of the labels, such as dataset.json.")
    ] = None,
    tolerance: opt.Tolerance = None,
    surface: Annotated[bool, typer.Option("--surface/--no-surface", help="Measure distances too.")] = True,
    mode: Annotated[
        str | None, typer.Option("--mode", help="What a surface is: surfel, the default, or voxel.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="Of a challenge: promise12, brats2023, brats2023-men or -met."),
    ] = "",
    anchors: Annotated[
        Path | None,
        typer.Option("--anchors", help="TOML or JSON: the second observer of promise12."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every value as CSV.")] = None,
    cohort_csv: Annotated[Path | None, typer.Option("--cohort-csv", help="Write the cohort as CSV.")] = None,
    out: opt.Out = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page about the cohort.")] = None,
    threads: opt.Threads = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Measure predictions against references. -o FILE.json writes everything as JSON."""
    from medseg.io.atomic import refuse_existing
    from medseg.metrics.case import SurfaceMode
    from medseg.workflows.evaluate import evaluate

    if mode not in (None, "surfel", "voxel"):
        raise UsageError(f"--mode is surfel or voxel, not {mode!r}")
    inputs = [path for path in (pred, ref, labels, anchors) if path is not None]
    for path in (csv, cohort_csv, out, report):
        if path is not None:
            refuse_existing(path, overwrite, inputs)
    found = evaluate(
        pred,
        ref,
        structures=labels,
        tolerance_mm=tolerance,
        tolerance_source="command line" if tolerance else "",
        surface=surface,
        mode=cast(SurfaceMode | None, mode),
        protocol=protocol,
        anchors=anchors,
        threads=threads or -1,
        progress=lambda done, of, name: rewrite(f"measuring {done + 1} of {of}: {name}"),
    )
    rewrite("")
    _warn(found)
    writers = (found.write_csv, csv), (found.write_cohort_csv, cohort_csv), (found.write_json, out)
    for write, path in writers:
        if path is not None:
            write(path, overwrite=overwrite)
    if report is not None:
        _write_page(found, report, ref.resolve().name, overwrite)
    result(found.json().rstrip() if as_json else table(found.table_rows()))


def _warn(found: Evaluation) -> None:
    for warning in (*found.warnings, *(f"{c.case_id}: {w}" for c in found.cases for w in c.warnings)):
        say(f"warning: {warning}")
    for case in found.failures:
        say(f"warning: {case.case_id}: {case.failure}; its structures count as missed")


def _write_page(found: Evaluation, path: Path, title: str, overwrite: bool) -> None:
    from medseg.workflows.report import report_cohort

    report_cohort(found.cases, structures=found.structures, out=path, title=title, overwrite=overwrite)
