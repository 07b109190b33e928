"""`medseg demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import duration, say


def command(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("demo"),
    threads: opt.Threads = 0,
    overwrite: opt.Overwrite = False,
) -> None:
    """Segment a demonstration scan (an average head). Writes labels, JSON, a report and a picture."""
    from medseg.cli.predict import volumes
    from medseg.cli.terminal import result
    from medseg.prediction.demo import demo

    done = demo(out, threads=threads, overwrite=overwrite)
    if summary := done.outcome.summary:
        result(volumes(summary))
        say(f"segmented in {duration(summary.seconds)}:")
    for path in done.files:
        say(f"  {path}")
