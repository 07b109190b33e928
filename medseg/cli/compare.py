"""`medseg compare`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import refuse_doubts, result, rewrite, say_findings, table
from medseg.core.errors import PartialBatchError, UsageError, printable

if TYPE_CHECKING:
    from medseg.evaluation.compare import Comparison
    from medseg.evaluation.followup import Followup


Reference = Annotated[
    Path | None,
    typer.Option("--reference", help="Measure both against this reference, a file or a folder."),
]
Followed = Annotated[
    bool,
    typer.Option(
        "--followup", help="Report what changed; A and B are predictions of one patient at two dates."
    ),
]
Lesions = Annotated[
    list[str] | None,
    typer.Option("--lesions", help="With --followup: follow the lesions of this structure one by one."),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="With --followup: take the measurement noise from this model, a file or a name."
    ),
]
ScanA = Annotated[
    Path | None, typer.Option("--scan-a", help="With --followup: show the scan of A in the report.")
]
ScanB = Annotated[
    Path | None, typer.Option("--scan-b", help="With --followup: show the scan of B in the report.")
]
Dates = Annotated[
    str,
    typer.Option(
        "--dates", help="With --followup: show these dates of both scans, such as 2025-01-31,2026-02-28."
    ),
]


def command(
    a: Annotated[Path, typer.Argument(help="Segmentation A: a label file, or a folder of them.")],
    b: Annotated[Path, typer.Argument(help="Segmentation B: a label file, or a folder with the same names.")],
    reference: Reference = None,
    followup: Followed = False,
    lesions: Lesions = None,
    model: ModelName = "",
    scan_a: ScanA = None,
    scan_b: ScanB = None,
    dates: Dates = "",
    labels: opt.Labels = None,
    ignore: opt.Ignore = None,
    tolerance: opt.Tolerance = None,
    surface: opt.Surface = True,
    csv: opt.Csv = None,
    out: opt.Out = None,
    strict: opt.Strict = False,
    threads: opt.Threads = 0,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    series_in: opt.SeriesIn = None,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Compare two segmentations, with a statistical test. With -o FILE.html, writes a report."""
    only_followup = [bool(option) for option in (lesions, model, scan_a, scan_b, dates)]
    _check((reference, tolerance, ignore), followup, any(only_followup), out)
    opt.refuse_targets((csv, out), (a, b, reference, labels, scan_a, scan_b), overwrite)
    found: Comparison | Followup
    faulty: tuple[str, ...] = ()
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series, series_in)
    if followup:
        from medseg.evaluation.followup import followup as follow

        scans, days = (scan_a, scan_b), _dates(dates)
        found = follow(
            a, b, model=model, lesions=lesions or [], labels=labels, scans=scans, dates=days, reading=reading
        )
    else:
        from medseg.evaluation.compare import compare

        measured = compare(
            a,
            b,
            reference=reference,
            structures=labels,
            ignore=ignore,
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
    _refuse(found, faulty, strict)


def _refuse(found: Comparison | Followup, faulty: Sequence[str], strict: bool) -> None:
    """End with a fault where a file could not be used, or with `strict` anything speaks against one."""
    if faulty:
        raise PartialBatchError(f"files of some cases could not be used: {', '.join(faulty)}")
    if strict:
        refuse_doubts(found.report.findings)


def _tell(done: int, of: int, name: str) -> None:
    """Which case is measured now."""
    rewrite(f"measuring {done + 1} of {of}: {name}")


def _check(
    measured: tuple[Path | None, float | None, int | None],
    followup: bool,
    only_followup: bool,
    out: Path | None,
) -> None:
    """Refuse options that do not go together."""
    from medseg.io.formats import HTML_SUFFIXES

    if followup and measured != (None, None, None):
        raise UsageError("--followup cannot be combined with --reference, --tolerance or --ignore")
    opt.require_reference(measured[2], measured[0])
    if not followup and only_followup:
        raise UsageError("--lesions, --model, --scan-a, --scan-b and --dates need --followup")
    if out is not None and out.suffix.lower() not in HTML_SUFFIXES:
        name = f"{out.stem or 'NAME'}.html"
        raise UsageError("is not the name of an HTML file", source=out, hint=f"give -o {name}, or use --json")


def _dates(text: str) -> tuple[date, date] | None:
    """Two dates, as ISO 8601 has them."""
    if not text:
        return None
    try:
        first, second = map(date.fromisoformat, text.split(","))
    except ValueError:
        raise UsageError(
            f"--dates needs the dates of A and B, not {text!r}", hint="write them as 2025-01-31,2026-02-28"
        ) from None
    return first, second


def _write(found: Comparison | Followup, csv: Path | None, page: Path | None, overwrite: bool) -> None:
    """What is asked for, after what the files warned of."""
    say_findings(found.report.findings)
    if csv is not None:
        found.write_csv(csv, overwrite=overwrite)
    if page is not None:
        found.write_page(page, overwrite=overwrite)


def _text(found: Comparison | Followup) -> str:
    return "\n".join((table(found.table_rows()), "", *map(printable, found.sentences())))
