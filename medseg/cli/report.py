"""`medseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say
from medseg.core.errors import UsageError

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
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Write a report of a segmentation. The HTML or PDF page has slices, outlines and tables."""
    from medseg.evaluation.label_names import ignoring
    from medseg.io import stem_and_suffix
    from medseg.io.names import require_page
    from medseg.reporting.case.page import ReportOptions, report
    from medseg.segmentation.known import known_structures, stated_intervals

    stem = stem_and_suffix(seg)[0].removesuffix("_seg")
    target = out or seg.with_name(f"{stem}_report.html")
    if target.is_dir() or not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        target = target / f"{stem}_report.html"
    require_page(target)
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series)
    if ignore is not None and reference is None:
        raise UsageError(
            "--ignore needs a --reference, whose voxels it excludes", hint="give both, or neither"
        )
    known = known_structures(seg, reference=reference, model=model, labels=labels, reading=reading)
    report(
        seg,
        scan,
        reference=reference,
        structures=known.structures if ignore is None else ignoring(known.structures, ignore),
        out=target,
        options=ReportOptions(
            tolerance_mm=tolerance,
            expected_ml=known.expected_ml,
            totals=known.totals,
            intervals_ml=stated_intervals(seg),
            lesions=tuple(lesions) if lesions else None,
        ),
        reading=reading,
        overwrite=overwrite,
    )
    say(str(target))
