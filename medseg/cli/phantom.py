"""`medseg phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say


def command(
    out: Annotated[Path, typer.Argument(help="Folder for a dataset, or a file for one scan.")],
    cases: Annotated[int, typer.Option("--cases", min=3, help="Cases in the dataset.")] = 16,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="How a dataset lies, and what it shows: decathlon, nnunet, masks or images (heads), "
            "promise12 or prostatex (pelves), brats2013, brats2020 or brats2023 (tumours), label_maps.",
        ),
    ] = "decathlon",
    overwrite: opt.Overwrite = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same phantoms.")] = 0,
) -> None:
    """Make up scans with known structures, for trying things out without data."""
    from medseg.io import SUFFIXES
    from medseg.phantom import write_phantom_scan, write_phantoms

    if str(out).endswith(SUFFIXES):
        write_phantom_scan(out, seed=seed, overwrite=overwrite)
        say(f"one phantom scan in {out}")
    else:
        write_phantoms(out, layout, cases, seed, overwrite=overwrite)
        say(f"{cases} phantom cases in {out}")
