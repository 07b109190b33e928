"""`medseg serve`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import bytes_of, say, seconds_of
from medseg.core.errors import UsageError


def command(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            help="Offer this model: a file, a folder of files, or a packaged model. Repeatable. Default: the "
            "packaged models.",
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", help="Keep jobs, and the cases that are corrected, in this folder.")
    ] = Path("medseg-data"),
    host: Annotated[
        str, typer.Option("--host", help="Listen to this address; any but the loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Listen to this port; 0 takes a free one.")
    ] = 8008,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="Ask clients for the token in this file, of at least 16 characters."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Do so many jobs at a time.")] = 1,
    threads: opt.Threads = 0,
    max_memory: opt.MaxMemory = None,
    max_upload: Annotated[
        str, typer.Option("--max-upload", help="Take no more than this of one scan, such as 1G.")
    ] = "1G",
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, help="Take no more jobs than this before some are done.")
    ] = 256,
    time_limit: Annotated[
        str, typer.Option("--time-limit", help="End a job that takes longer than this, such as 10m.")
    ] = "10m",
    keep: Annotated[
        str, typer.Option("--keep", help="Forget a job so long after its result was fetched, such as 24h.")
    ] = "24h",
) -> None:
    """Keep models loaded, and answer over HTTP: a page for people, an interface for programs."""
    from medseg.core.extras import optional_packages

    with optional_packages():
        from medseg.serving.run import offered, serve
        from medseg.serving.service import ServeOptions

    options = ServeOptions(
        data=data,
        models=offered(models or []),
        token="" if token_file is None else token_file.read_text("utf-8").strip(),
        most_bytes=bytes_of(max_upload),
        most_waiting=max_waiting,
        keep_s=_seconds("--keep", keep),
        workers=workers,
        threads=threads,
        max_memory=None if max_memory is None else bytes_of(max_memory),
        time_limit_s=_seconds("--time-limit", time_limit),
    )
    serve(options, host, port, say)


def _seconds(option: str, text: str) -> float:
    """A time.

    Raises:
        UsageError: it is none, or not above 0.
    """
    try:
        seconds = seconds_of(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{option} takes a time such as 90s, 10m or 24h, not {text!r}")
    return seconds
