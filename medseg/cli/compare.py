"""`medseg compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say, table
from medseg.errors import PartialBatchError, UsageError, printable

if TYPE_CHECKING:
    from medseg.workflows.compare import Comparison
    from medseg.workflows.followup import Followup


def command(
    a: Annotated[Path, typer.Argument(help="Segmentation A: a label file, or a folder of them.")],
    b: Annotated[Path, typer.Argument(help="Segmentation B: likewise, under the same names.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="References to measure both against: likewise.")
    ] = None,
    followup: Annotated[
        bool, typer.Option("--followup", help="A and B are two predictions of one patient: what changed?")
    ] = False,
    lesions: Annotated[
        list[str] | None,
        typer.Option("--lesions", help="With --followup: follow the pieces of this structure one by one."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="With --followup: the model, which knows what is noise.")
    ] = "",
    labels: opt.Labels = None,
    tolerance: opt.Tolerance = None,
    surface: Annotated[bool, typer.Option("--surface/--no-surface", help="Measure distances too.")] = True,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every value as CSV.")] = None,
    out: opt.Out = None,
    threads: opt.Threads = 0,
    volume: opt.VolumeNumber = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Which of two segmentations is better, and how sure that is. -o FILE.html writes a page."""
    from medseg.io.atomic import refuse_existing

    _check(reference, followup, lesions or [], model, out)
    for path in (path for path in (csv, out) if path is not None):
        refuse_existing(path, overwrite, [p for p in (a, b, reference, labels) if p is not None])
    found: Comparison | Followup
    faulty: tuple[str, ...] = ()
    reading = opt.reading(use_form, assume_ras, volume=volume)
    if followup:
        from medseg.workflows.followup import followup as follow

        found = follow(a, b, model=model, lesions=lesions or [], labels=labels, reading=reading)
    else:
        from medseg.workflows.compare import compare

        measured = compare(
            a,
            b,
            reference=reference,
            structures=labels,
            tolerance_mm=tolerance,
            surface=surface,
            threads=threads or -1,
            reading=reading,
            progress=_tell,
        )
        found, faulty = measured, measured.faulty
    rewrite("")
    _write(found, csv, out, overwrite)
    result(found.json().rstrip() if as_json else _text(found))
    if faulty:
        raise PartialBatchError(f"files of some cases could not be used: {', '.join(faulty)}")


def _tell(done: int, of: int, name: str) -> None:
    """Which case is measured now."""
    rewrite(f"measuring {done + 1} of {of}: {name}")


def _check(reference: Path | None, followup: bool, lesions: list[str], model: str, out: Path | None) -> None:
    """Refuse options that do not go together."""
    if followup and reference is not None:
        raise UsageError("--followup compares two times, and takes no --reference")
    if not followup and (lesions or model):
        raise UsageError("--lesions and --model go with --followup")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        name = f"{out.stem or 'NAME'}.html"
        raise UsageError("the page is an HTML file", source=out, mend=f"give -o {name}, or use --json")


def _write(found: Comparison | Followup, csv: Path | None, page: Path | None, overwrite: bool) -> None:
    """What is asked for, after what the files warned of."""
    for warning in found.report.warnings:
        say(f"warning: {warning}")
    if csv is not None:
        found.write_csv(csv, overwrite=overwrite)
    if page is not None:
        found.write_page(page, overwrite=overwrite)


def _text(found: Comparison | Followup) -> str:
    return "\n".join((table(found.table_rows()), "", *map(printable, found.sentences())))
