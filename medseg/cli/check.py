"""`medseg check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say
from medseg.errors import InputError, UsageError, counted, printable


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set, in a layout that is known.")],
    card: Annotated[
        str,
        typer.Option("--card", help="Dataset card, by name or .toml file; told by the layout, if not said."),
    ] = "",
    recipe: Annotated[
        str,
        typer.Option("--recipe", help="Judge as a training of this recipe does: its card, channels, voxels."),
    ] = "",
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    as_json: opt.Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
) -> None:
    """Look through a dataset for what would spoil a training."""
    from medseg.cards import load_card, load_recipe
    from medseg.workflows.check import check

    if card and recipe:
        raise UsageError("--card and --recipe are two answers to one question", mend="give one")
    settings = load_recipe(recipe) if recipe else None
    name = settings.card if settings else card
    audit = check(
        folder,
        load_card(name) if name else None,
        settings,
        opt.reading(use_form, assume_ras, fill_nan, volume, series),
        on_case=lambda number, of: rewrite(f"reading case {number} of {of}"),
    )
    rewrite("")
    if as_json:
        result(audit.json().rstrip())
    else:
        for finding in audit.findings:
            result(printable(f"{finding.severity:7}  {finding.case_id:20}  {finding.text}"))
        warnings = len(audit.findings) - len(audit.errors)
        say(
            f"{counted(len(audit.cases), 'case')} read: {counted(len(audit.errors), 'error')}, "
            f"{counted(warnings, 'warning')}"
        )
    if audit.errors or (strict and audit.findings):
        warned = f" and {counted(len(audit.findings) - len(audit.errors), 'warning')}" if strict else ""
        raise InputError(f"{counted(len(audit.errors), 'error')}{warned} in the dataset", source=folder)
