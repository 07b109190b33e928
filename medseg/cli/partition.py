"""`medseg partition`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say
from medseg.core.errors import counted


def command(
    scan: Annotated[Path, typer.Argument(help="Scan to partition: a file or a DICOM series.")],
    method: Annotated[
        str,
        typer.Option("--method", help="Partition by kmeans, slic, watershed or meanshift."),
    ] = "slic",
    parts: Annotated[
        int,
        typer.Option("-k", "--parts", help="Make about this many parts; meanshift merges so many to fewer."),
    ] = 400,
    compactness: Annotated[
        float,
        typer.Option(
            "--compactness",
            help="Let this share of the range of intensities count as much as the edge of a part.",
        ),
    ] = 0.1,
    out: opt.Out = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Divide a scan into supervoxels, near and alike: a label map, and a picture of their borders."""
    from medseg.api.classical import partition
    from medseg.core.structures import from_labels
    from medseg.io import read_volume, require_holds, stem_and_suffix, write_labels
    from medseg.io.atomic import atomic_write
    from medseg.io.names import scan_of_labels
    from medseg.reporting.drawing.figures import overlay_png

    target = opt.result_target(scan, "parts", out)
    stem = stem_and_suffix(target)[0]
    picture = target.with_name(f"{scan_of_labels(stem) or stem}_overlay.png")
    opt.refuse_targets([target, picture], [scan], overwrite)
    read = read_volume(scan, options=opt.reading(use_form, assume_ras, fill_nan, volume, series))
    require_holds(target, read.grid)
    labels = partition(read, method=cast(Any, method), parts=parts, compactness=compactness)
    count = int(labels.array.max())
    named = from_labels({value: f"part {value}" for value in range(1, count + 1)})
    drawn = overlay_png(
        read.array[0],
        labels.array,
        read.grid,
        named,
        orientation_known=read.form.orientation_known,
        closeup=False,
        names=False,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_labels(target, labels, structures=named, overwrite=overwrite)
    with atomic_write(picture, overwrite) as temporary:
        temporary.write_bytes(drawn)
    for text in labels.warnings:
        say(f"warning: {text}")
    result(f"wrote {counted(count, 'part')} to {target}, with a picture {picture.name}")
