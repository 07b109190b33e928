"""`medseg listen`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import bytes_of, say

Routes = Annotated[
    list[str],
    typer.Option(
        "--route",
        help="Predict the series of which this holds with this model, such as "
        '"Modality=MR,SeriesDescription~T1 -> brain". Repeatable: the first that takes a series counts.',
    ),
]
SendTo = Annotated[
    str, typer.Option("--send-to", help="Send the objects to the DICOM node at this HOST:PORT.")
]
SendTitle = Annotated[
    str, typer.Option("--send-aet", help="Call the node that objects are sent to by this title.")
]
Title = Annotated[str, typer.Option("--aet", help="Be called by this application entity title.")]
Senders = Annotated[
    list[str] | None,
    typer.Option("--from", help="Take series of this title alone. Repeatable. Default: of everybody."),
]
Host = Annotated[
    str, typer.Option("--host", help="Listen to this address; by default this machine alone can send.")
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Listen to this port; 0 takes a free one.")
]
Data = Annotated[Path, typer.Option("--data", help="Keep series and jobs in this folder.")]
Quiet = Annotated[
    str,
    typer.Option("--quiet", help="Take a series as whole when nothing of it came for this long, such as 5s."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Send nothing of a doubtful result; its series fails.")
]
Keep = Annotated[
    str, typer.Option("--keep", help="Forget a series so long after its objects were sent, such as 24h.")
]


def command(
    routes: Routes,
    send_to: SendTo,
    send_aet: SendTitle = "ANY-SCP",
    aet: Title = "MEDSEG",
    senders: Senders = None,
    host: Host = "127.0.0.1",
    port: Port = 11112,
    models: opt.Offered = None,
    data: Data = Path("medseg-data"),
    quiet: Quiet = "5s",
    strict: Strict = False,
    workers: opt.Workers = 1,
    threads: opt.Threads = 0,
    max_memory: opt.MaxMemory = None,
    max_upload: opt.MaxUpload = "1G",
    max_waiting: opt.MaxWaiting = 256,
    time_limit: opt.TimeLimit = "10m",
    keep: Keep = "24h",
) -> None:
    """Be a DICOM node: receive series, predict them, and send segmentation, volumes and report on."""
    from medseg.core.extras import missing, optional_packages

    with optional_packages():
        from medseg.serving.crew import CrewOptions
        from medseg.serving.node import ListenOptions, listen
        from medseg.serving.offers import offered
        from medseg.serving.routes import Route
        from medseg.serving.sending import Peer, checked_title

    found = offered(models or [])
    options = ListenOptions(
        data=data,
        crew=CrewOptions(
            found,
            data / "cases",
            workers,
            threads,
            None if max_memory is None else bytes_of(max_memory),
            opt.duration("--time-limit", time_limit),
        ),
        routes=tuple(Route.of(text, found) for text in routes),
        peer=Peer.of(send_to, send_aet),
        title=checked_title("--aet", aet),
        senders=tuple(checked_title("--from", title) for title in senders or ()),
        host=host,
        port=port,
        quiet_s=opt.duration("--quiet", quiet),
        strict=strict,
        most_bytes=bytes_of(max_upload),
        most_waiting=max_waiting,
        keep_s=opt.duration("--keep", keep),
    )
    if find_spec("highdicom") is None:  # that workers import
        raise missing("highdicom")
    listen(options, say)
    os._exit(0)  # threads of associations may wait for their peers: do not wait for them
