"""`medseg refine`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say

if TYPE_CHECKING:
    from medseg.core.volume import LabelMap
    from medseg.io import ReadOptions


def command(
    scan: Annotated[Path, typer.Argument(help="Scan to label: a file or a DICOM series.")],
    seeds: Annotated[
        Path,
        typer.Option("--seeds", help="Read scribbles from this label map on the scan's grid; 0 is none."),
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method", help="Spread labels by graph_cut, random_walker, grow, watershed or levelset."
        ),
    ] = "graph_cut",
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Correct this segmentation; labels far from scribbles stay."),
    ] = None,
    background: Annotated[
        int, typer.Option("--background", help="Take scribbles of this value as background.")
    ] = 255,
    reach_mm: Annotated[
        float, typer.Option("--reach", help="Change labels up to this distance from a scribble, in mm.")
    ] = 10.0,
    out: opt.Out = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    series_in: opt.SeriesIn = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Label a scan from a few scribbled voxels, or correct a segmentation of it by them."""
    from medseg.api.classical import refine
    from medseg.io import read_volume, require_holds
    from medseg.segmentation.prediction import summary_path

    target = opt.result_target(scan, "refined", out)
    opt.refuse_targets([target, summary_path(target)], [scan, seeds, start], overwrite)
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series, series_in)
    read = read_volume(scan, options=reading)
    require_holds(target, read.grid)
    labels = refine(
        read,
        seeds,
        method=cast(Any, method),
        start=start,
        background=background,
        reach_mm=reach_mm,
        **asdict(reading),
    )
    _write(target, labels, start, overwrite)
    if start is not None:
        _tell_change(labels, start, reading)


def _tell_change(labels: LabelMap, start: Path, reading: ReadOptions) -> None:
    """How many voxels were corrected."""
    from medseg.io import read_label_file

    before = read_label_file(start, reading, like=labels.grid)
    changed = int((before.array != labels.array).sum())
    result(f"{changed:,} of {labels.array.size:,} voxels were changed")


def _write(target: Path, labels: LabelMap, start: Path | None, overwrite: bool) -> None:
    """Write labels, with a sidecar where the start has one, and say how much of each structure there is."""
    from medseg.api.classical import named
    from medseg.core.structures import from_labels, value_counts
    from medseg.io import digest_of, write_labels
    from medseg.prediction.summary import corrected
    from medseg.segmentation.prediction import read_summary, summary_path

    counts = value_counts(labels.array)
    structures = named(start) or from_labels({value: f"label {value}" for value in counts if value})
    before = None if start is None else read_summary(summary_path(start))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_labels(target, labels, structures=structures, overwrite=overwrite)
    if before is not None and before.structures:
        stated = corrected(labels, before.structure_set, before.totals_stated, digest_of(target))
        stated.write(summary_path(target))
    for text in labels.warnings:
        say(f"warning: {text}")
    for name, ml in structures.volumes_ml(counts, labels.grid).items():
        result(f"{name}: {ml:.3f} ml")
    result(f"wrote {target}")
