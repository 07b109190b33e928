"""`medseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import bytes_of, say


def command(
    models: opt.Offered = None,
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
    workers: opt.Workers = 1,
    threads: opt.Threads = 0,
    max_memory: opt.MaxMemory = None,
    max_upload: opt.MaxUpload = "1G",
    max_waiting: opt.MaxWaiting = 256,
    time_limit: opt.TimeLimit = "10m",
    keep: Annotated[
        str, typer.Option("--keep", help="Forget a job so long after its result was fetched, such as 24h.")
    ] = "24h",
) -> None:
    """Keep models loaded, and answer over HTTP: a page for people, an interface for programs."""
    from medseg.core.extras import optional_packages

    with optional_packages():
        from medseg.serving.offers import offered
        from medseg.serving.run import serve
        from medseg.serving.service import ServeOptions

    options = ServeOptions(
        data=data,
        models=offered(models or []),
        token="" if token_file is None else token_file.read_text("utf-8").strip(),
        most_bytes=bytes_of(max_upload),
        most_waiting=max_waiting,
        keep_s=opt.duration("--keep", keep),
        workers=workers,
        threads=threads,
        max_memory=None if max_memory is None else bytes_of(max_memory),
        time_limit_s=opt.duration("--time-limit", time_limit),
    )
    serve(options, host, port, say)
