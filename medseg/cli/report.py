"""`medseg report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say

Lesions = Annotated[
    list[str] | None,
    typer.Option(
        "--lesions",
        help="List the lesions of this structure. Repeatable. Default: all named tumour or lesion.",
    ),
]


def command(
    seg: Annotated[Path, typer.Argument(help="Segmentation to report on: a label file.")],
    scan: Annotated[Path, typer.Argument(help="Show this scan, from which the segmentation was made.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Measure against this reference segmentation.")
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Take the structures' names from this model, a file or a name."),
    ] = "",
    labels: opt.Labels = None,
    ignore: opt.Ignore = None,
    out: opt.Out = None,
    tolerance: opt.Tolerance = None,
    lesions: Lesions = None,
    instances: Annotated[
        Path | None,
        typer.Option(
            "--instances",
            help="Show these numbered instances. Default: what predict left beside the segmentation.",
        ),
    ] = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    series_in: opt.SeriesIn = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Write a page about a segmentation (.html or .pdf): slices with outlines, and a table."""
    from medseg.api.reporting import report

    opt.require_reference(ignore, reference)
    target = report(
        seg,
        scan,
        out,
        reference=reference,
        model=model,
        structures=labels,
        ignore=ignore,
        tolerance_mm=tolerance,
        lesions=lesions or None,
        instances=instances,
        **asdict(opt.reading(use_form, assume_ras, fill_nan, volume, series, series_in)),
        overwrite=overwrite,
    )
    say(str(target))
