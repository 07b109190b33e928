"""`medseg check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say
from medseg.core.errors import InputError, UsageError, counted, options_of, possible, printable


def command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a dataset.")],
    card: Annotated[
        str,
        typer.Option(
            "--card",
            help="Read the dataset by this card, a name or .toml file. Default: the card of its layout.",
        ),
    ] = "",
    recipe: Annotated[
        str,
        typer.Option("--recipe", help="Check what a training with this recipe needs, a name or .toml file."),
    ] = "",
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    as_json: opt.Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Also fail if there are warnings.")] = False,
) -> None:
    """Check a dataset for faults before a training."""
    from medseg.data.cards import load_card
    from medseg.data.check import check
    from medseg.training.recipe import load_recipe

    if card and recipe:
        raise UsageError("--card and --recipe exclude each other", hint="give only one of them")
    settings = load_recipe(recipe) if recipe else None
    name = settings.card if settings else card
    if settings:
        settings.fitted_to(load_card(settings.card))
    audit = check(
        folder,
        load_card(name) if name else None,
        channels=settings.channels if settings else (),
        preparation=settings.preparation if settings else None,
        reading=opt.reading(use_form, assume_ras, fill_nan, volume, series),
        on_case=lambda number, of: rewrite(f"reading case {number} of {of}"),
    )
    rewrite("")
    tally = [counted(len(audit.lines("error")), "error"), counted(len(audit.lines("warning")), "warning")]
    if as_json:
        result(audit.json().rstrip())
    else:
        for line in audit.lines():
            result(printable(f"{line.severity:7}  {line.who:20}  {line.text}"))
            if line.hint:
                result(printable(f"{'':9}hint: {possible(line.hint, options_of(context.command.params))}"))
        cases = f"{counted(audit.total, 'case')}, {len(audit.faulty)} with errors"
        say(f"{cases}; the list has {' and '.join(tally)}")
    refused = ("error", "warning") if strict else ("error",)
    if any(f.severity in refused for f in audit.issues):
        raise InputError(
            f"contains {' and '.join(tally[: len(refused)])}",
            source=folder,
            hint="correct the files that the check lists",
        )
