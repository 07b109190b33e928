"""A service from its start to its end: where it listens, how it stops."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from medseg.core.errors import ResourceError, counted
from medseg.serving.access import require_token
from medseg.serving.app import application
from medseg.serving.crew import Crew
from medseg.serving.jobs import PRIVATE
from medseg.serving.service import ServeOptions

STOPS_WITHIN_S = 1
"""What clients that wait for an answer may take after SIGTERM."""
KEEP_ALIVE_S = 30
CLIENTS = 512
"""That are answered at a time; others are told to come again."""
PARSER = "python_multipart.multipart"
"""A logger that would print parts of what clients send."""
BACKLOG = 256
"""Clients that wait to be connected."""


def serve(options: ServeOptions, host: str, port: int, say: Callable[[str], None]) -> None:
    """Answer until SIGTERM or SIGINT.

    Args:
        options: of the service.
        host: address to listen to.
        port: to listen to; 0 takes a free one.
        say: called with where it listens.

    Raises:
        UsageError: others can reach the address, and there is no token.
        ResourceError: the address cannot be listened to, or another service has the folder.
    """
    require_token(host, options.token)
    logging.getLogger(PARSER).disabled = True
    os.umask(PRIVATE)
    app, crew = application(options)
    listener = _listening(host, port)
    name = f"[{host}]" if ":" in host else host
    say(f"offering {counted(len(options.models), 'model')}: {', '.join(options.models)}")
    say(f"jobs and corrected cases are kept in {options.data}")
    say(f"listening to http://{name}:{listener.getsockname()[1]}; end it with Ctrl-C")
    settings = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOPS_WITHIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=CLIENTS,
        lifespan="on",
        ws="none",
    )
    Server(settings, crew).run([listener])


class Server(uvicorn.Server):
    """A server that answers who waits when it is told to stop, and then ends without a fault.

    Args:
        config: of the server.
        crew: that stops with it.
    """

    def __init__(self, config: uvicorn.Config, crew: Crew) -> None:
        super().__init__(config)
        self.crew = crew

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, which are no faults of a service."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {one: signal.signal(one, self.handle_exit) for one in signals}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop working, and tell clients that wait how far their jobs are."""
        await self.crew.stop()
        await super().shutdown(sockets)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        text = f"{host}:{port} cannot be listened to ({fault.strerror})"
        raise ResourceError(text, hint="choose another with --port") from None
    return listener
