"""Who may ask a service what: tokens, names of the host, and how much may be sent."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medseg.core.errors import UsageError

LOOPBACK_NAMES = ("localhost",)
OPEN = ("/", "/page/", "/login", "/health", "/auth/", "/auth/token")
"""What is answered without a token: the page, which shows nothing by itself, and that the service lives."""
COOKIE = "medseg_token"
SILENT_S = 30.0
"""After which a client that has not sent its whole request is cut off."""
WRITES = ("POST", "PUT", "DELETE", "PATCH")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_token(host: str, token: str) -> None:
    """Refuse to listen to other machines without a token.

    Raises:
        UsageError: the host is not the loopback, and there is no token of 16 characters or more.
    """
    if is_loopback(host) or len(token) >= 16:
        return
    raise UsageError(
        f"{host} can be reached from other machines, so that clients need a token",
        hint="give one of at least 16 characters in a file with --token-file, or listen to 127.0.0.1",
    )


class Guard:
    """Answers only who may ask: with the token, and from no page of another site.

    Without a token the service listens to this machine, and then only names of this machine are answered: a
    page of another site could otherwise have its own name resolved to 127.0.0.1, and read scans.

    Args:
        app: what is guarded.
        token: that a client must state; empty where none is needed.
        most_bytes: that a request may send.
    """

    def __init__(self, app: ASGIApp, token: str, most_bytes: int) -> None:
        self.app, self.token, self.most_bytes = app, token.encode(), most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        fault = self._fault(request)
        if fault is not None:
            status, text = fault
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await JSONResponse({"fault": text}, status, headers)(scope, receive, send)
            return
        await self._limited(scope, receive, send)

    def _fault(self, request: Request) -> tuple[int, str] | None:
        if self.token:
            if not _is_open(request.url.path) and not hmac.compare_digest(_token(request), self.token):
                return 401, "the token is missing or wrong"
        elif not is_loopback(_name(request.headers.get("host", ""))):
            return 403, "this service answers to names of this machine alone"
        origin = request.headers.get("origin")
        if request.method in WRITES and origin and urlsplit(origin).netloc != request.headers.get("host"):
            return 403, "pages of other sites may not ask for this"
        if int(_digits(request.headers.get("content-length"))) > self.most_bytes:
            return 413, self._too_much
        return None

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is sent up to the limit, whatever its stated length, while something comes."""
        seen, whole = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen, whole
            if whole:  # what comes now is that the client hangs up
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), SILENT_S)
            except TimeoutError:
                text = f"nothing was sent for {SILENT_S:g} s"
                raise HTTPException(408, text, {"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self.most_bytes:
                raise HTTPException(413, self._too_much, {"Connection": "close"})
            return message

        await self.app(scope, counted, send)

    @property
    def _too_much(self) -> str:
        return f"more than the {self.most_bytes} bytes that may be sent"


def _token(request: Request) -> bytes:
    """What a client states: in a header, or in the cookie that the page's form sets."""
    word, _, token = request.headers.get("authorization", "").partition(" ")
    return (token if word.lower() == "bearer" else request.cookies.get(COOKIE, "")).encode()


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")


def _name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> _name("localhost:8000"), _name("[::1]:8000")
    ('localhost', '::1')
    """
    return urlsplit(f"//{host}").hostname or ""


def _digits(text: str | None) -> str:
    return text if text is not None and text.isdigit() else "0"
