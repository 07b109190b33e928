"""`medseg augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say
from medseg.core.errors import UsageError


def command(
    scan: Annotated[Path, typer.Argument(help="Scan to augment: a file or a DICOM series.")],
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="Show the elastic deformation of unet2015, vnet2016, unet3d2016 or simard2003."
        ),
    ] = "",
    recipe: Annotated[
        str, typer.Option("--recipe", help="Show the augmentation of this recipe, a name or .toml file.")
    ] = "",
    out: opt.Out = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Outline this segmentation of the scan.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=8, help="Show this many random draws.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Use this random seed.")] = 0,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Preview the augmentation of a recipe, or a published one, on a scan."""
    if bool(preset) == bool(recipe):
        raise UsageError("a preview shows either a preset or a recipe", hint="give --preset or --recipe")
    from medseg.io import stem_and_suffix
    from medseg.training.preview import augment, plan_of_preset, plan_of_recipe, words

    name = f"{stem_and_suffix(scan)[0]}_augment.png"
    target = scan.with_name(name) if out is None else out / name if out.is_dir() else out
    drawn = augment(
        scan,
        plan_of_preset(preset) if preset else plan_of_recipe(recipe),
        out=target,
        labels=labels,
        reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
        count=count,
        seed=seed,
        overwrite=overwrite,
    )
    for number, params in enumerate(drawn, start=1):
        say(f"draw {number}: {'; '.join(words(params))}")
    say(str(target))
