"""`medseg calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say, table
from medseg.core.errors import UsageError


def command(
    model: Annotated[
        str, typer.Argument(help="Model to calibrate: a file, or the name of a packaged model.")
    ],
    data: Annotated[Path, typer.Argument(help="Folder with cases and their reference labels.")],
    out: Annotated[
        Path,
        typer.Option("--output", "-o", help="Write the calibrated model to this .safetensors file."),
    ],
    card: Annotated[
        str,
        typer.Option(
            "--card", help="Read the folder by this card. Default: the card of the model's training data."
        ),
    ] = "",
    every: Annotated[
        bool, typer.Option("--every", help="Use every case, if the model was trained on none of them.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Use this random seed.")] = 0,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    threads: opt.Threads = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Calibrate a model's volumes and confidence on cases that it was not trained on."""
    from medseg.core import specs
    from medseg.data.cards import load_card
    from medseg.model.file import load_model
    from medseg.training.calibrate import CalibrateOptions, calibrate, card_of, table_rows

    loaded = load_model(model)
    if out.suffix != ".safetensors":
        raise UsageError(
            "is not a .safetensors file", source=out, hint="give a name that ends in .safetensors"
        )
    opt.refuse_targets((out,), (data,), overwrite)
    found = load_card(card) if card else card_of(loaded)
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series)
    options = CalibrateOptions(every=every, seed=seed, threads=threads, reading=reading)
    done, evidence = calibrate(loaded, found, data, options, say=say)
    done.save(out, overwrite=overwrite)
    say(str(out))
    plain = specs.to_mapping(evidence)
    result(json.dumps(plain, allow_nan=False) if as_json else table(table_rows(evidence)))
