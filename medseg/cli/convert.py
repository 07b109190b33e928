"""`medseg convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say
from medseg.core.errors import counted, printable

if TYPE_CHECKING:
    from medseg.data.convert import Conversion

Axis = Annotated[
    str,
    typer.Option("--axis", help="With --to images: write sagittal, coronal or axial slices."),
]


def command(
    source: Annotated[Path, typer.Argument(help="Folder of the dataset to convert.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the converted dataset to.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Write this layout, such as decathlon or brats2020. An unknown name prints all layouts.",
        ),
    ],
    layout: Annotated[
        str,
        typer.Option(
            "--from",
            help="Read the dataset by this layout, such as decathlon or brats2023, or by this card, a name "
            "or .toml file. Default: found by the names of its files.",
        ),
    ] = "",
    axis: Axis = "axial",
    channels: Annotated[
        str,
        typer.Option(
            "--channels", help="Write these channels in this order, such as flair,t1c. Default: all."
        ),
    ] = "",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Also convert cases without labels.")
    ] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Number the cases and do not copy file headers.")
    ] = False,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Convert a dataset to another layout. Does not change voxels or their positions."""
    from medseg.data.convert import convert

    done = convert(
        source,
        out,
        layout=layout,
        to=to,
        axis=axis,
        channels=[name.strip() for name in channels.split(",") if name.strip()],
        unlabelled=unlabelled,
        anonymous=anonymous,
        overwrite=overwrite,
        reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
        on_case=lambda number, of: rewrite(f"converting case {number} of {of}"),
    )
    rewrite("")
    if as_json:
        result(done.json().rstrip())
        return
    _tell(done, out, anonymous=anonymous)


def _tell(done: Conversion, out: Path, *, anonymous: bool) -> None:
    """What was done; of an anonymous set, no name that a case had."""
    result(f"wrote {counted(len(done.cases), 'case')} to {out}, {done.labelled} with labels")
    result(f"copied {counted(done.copied, 'image file')} without a change")
    for before, after in sorted(done.relabelled.items()):
        result(f"label {before} became {after}")
    for warning in done.warnings:
        say(f"warning: {warning}")
    if done.renamed and anonymous:
        example = next(iter(done.renamed.values()))
        result(f"renamed {counted(len(done.renamed), 'case')}, for example to {example}")
    elif done.renamed:
        result(f"renamed {counted(len(done.renamed), 'case')}")
        for old, new in done.renamed.items():
            result(printable(f"{old} became {new}"))
