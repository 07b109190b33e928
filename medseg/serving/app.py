"""The service's answers: jobs over HTTP.

POST   /api/jobs?model=brain        a scan in; its job out (201), or the job of the same Idempotency-Key (200)
GET    /api/jobs/ID                 how far it is; with ?wait=20 the answer comes when something has changed
GET    /api/jobs/ID/WHAT            a file of its result, see `FILES`
DELETE /api/jobs/ID                 end it, and forget it
POST   /api/jobs/ID/refine          scribbles in; a job whose labels follow them
POST   /api/jobs/ID/correct         labels in; a job that keeps them beside what was predicted
GET    /api/models, /health, /metrics
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from medseg import __version__
from medseg.core.digest import hexdigest
from medseg.core.errors import InputError, MedsegError, UsageError
from medseg.core.specs import to_mapping
from medseg.core.structuring import Misfit, structured
from medseg.data.store import Store
from medseg.segmentation.prediction import usable_summary
from medseg.serving import measures
from medseg.serving.access import COOKIE, Guard
from medseg.serving.answers import FILES, MissingError, bug, described, found, told
from medseg.serving.crew import Crew
from medseg.serving.incoming import DRAWN, receive_drawn, receive_scan
from medseg.serving.job import BEFORE, REQUEST, Incoming, Job
from medseg.serving.job import Request as Wanted
from medseg.serving.monailabel import Protocol
from medseg.serving.names import case_name
from medseg.serving.service import ServeOptions, Service
from medseg.serving.settings import SETTINGS

LOG = logging.getLogger("medseg")
LONGEST_WAIT_S = 60.0
PAGE: Mapping[str, str] = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "planes.js": "text/javascript",
    "volume.js": "text/javascript",
}
"""The files of the page, and their types."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Handlers:
    """What answers each request.

    Args:
        service: whose jobs they are.
    """

    def __init__(self, service: Service) -> None:
        self.service, self.options = service, service.options
        self.book, self.crew = service.book, service.crew

    def job(self, request: Request) -> Job:
        """The job that a path names."""
        job = self.book.get(request.path_params["job"])
        if job is None:
            raise MissingError(
                "there is no such job; results are forgotten some time after they were fetched"
            )
        return job

    def known(self, request: Request, key: str) -> Job | None:
        """The job that a request with a key made before.

        Raises:
            InputError: the key was of another request, whose result is nobody else's.
        """
        job = self.book.of_key(key)
        if job is not None and job.request.sent != asked_for(request):
            raise InputError("the Idempotency-Key was used for another request", hint="give a key of its own")
        return job

    # Handlers, by the order of the table

    async def post_job(self, request: Request) -> Response:
        """Take a scan."""
        query = dict(request.query_params)
        model = query.pop("model", next(iter(self.options.models)))
        if model not in self.options.models:
            raise MissingError(
                f"there is no model {model!r}", hint=f"choose from {', '.join(self.options.models)}"
            )
        query.pop("name", None)
        settings = to_mapping(settings_of("predict", query))
        key = request.headers.get("idempotency-key", "")
        if known := self.known(request, key):
            return JSONResponse(described(known))

        async def fill(new: Incoming) -> None:
            channels = await receive_scan(request, new.folder, self.options.most_bytes)
            new.request = replace(new.request, settings={**settings, "channels": list(channels)})

        job = await self.service.queued(
            Wanted("predict", model, settings, sent=asked_for(request)), key, fill
        )
        return JSONResponse(described(job), 201, {"Location": f"/api/jobs/{job.id}"})

    async def get_job(self, request: Request) -> Response:
        """How far a job is."""
        job = self.job(request)
        wait = _value(request.query_params.get("wait", "0"))
        if not isinstance(wait, int | float) or not 0 <= wait < math.inf:
            raise UsageError(f"wait must be seconds from 0, not {request.query_params['wait']!r}")
        if wait > 0:
            await self.crew.until(job, min(wait, LONGEST_WAIT_S), job.state, job.share)
        return JSONResponse(described(job))

    async def get_file(self, request: Request) -> Response:
        """A file of a result; a job that has none says why."""
        job, what = self.job(request), request.path_params["what"]
        if job.state != "done":
            status = 409 if job.state in ("queued", "running") else 410
            return JSONResponse(described(job), status)
        if what not in FILES:
            raise MissingError(f"there is no {what!r} of a result", hint=f"choose from {', '.join(FILES)}")
        path, kind = found(job, what), FILES[what][1]
        if path is None:
            raise MissingError(f"this job has no {what}", hint="ask for it when the job is sent")
        self.book.fetched(job)
        headers = {"X-Content-Type-Options": "nosniff"}
        if kind == "text/html":
            headers["Content-Security-Policy"] = "sandbox allow-scripts"
        return FileResponse(
            path,
            media_type=kind or "application/octet-stream",
            filename=path.name,
            headers=headers,
            content_disposition_type="inline" if kind == "text/html" else "attachment",
        )

    async def delete_job(self, request: Request) -> Response:
        """End a job and forget it."""
        job = self.job(request)
        await self.crew.cancel(job)
        self.book.remove(job)
        return Response(status_code=204)

    async def post_drawn(self, request: Request) -> Response:
        """Scribbles on a result, or labels that somebody drew."""
        before, kind = self.job(request), request.path_params["kind"]
        key = request.headers.get("idempotency-key", "")
        if known := self.known(request, key):
            return JSONResponse(described(known))
        if before.state != "done" or before.request.kind != "predict":
            raise InputError(f"there is no prediction to correct: the job is {before.state}")
        if kind not in DRAWN:
            raise MissingError(f"nothing can be sent to {kind}", hint=f"choose from {', '.join(DRAWN)}")
        settings = to_mapping(settings_of(kind, dict(request.query_params)))
        if kind == "correct" and not settings["replace"]:
            self._require_unchanged(before, settings["base"])

        async def fill(new: Incoming) -> None:
            linked(before.folder / REQUEST, new.folder / BEFORE)
            results = (before.image("_seg"), before.file("_seg.json"))
            for path in (*before.inputs, *filter(None, results)):
                linked(path, new.folder / path.name)
            await receive_drawn(request, new.folder, DRAWN[kind])

        wanted = Wanted(kind, before.request.model, settings, sent=asked_for(request))
        job = await self.service.queued(wanted, key, fill)
        return JSONResponse(described(job), 201, {"Location": f"/api/jobs/{job.id}"})

    def _require_unchanged(self, before: Job, base: str) -> None:
        """Refuse a correction of labels that are no longer those that are kept; its worker asks once more.

        Raises:
            ChangedError: they are not.
        """
        path = before.file("_seg.json")
        summary = None if path is None else usable_summary(path)
        if summary is not None:
            store = Store(self.options.cases / before.request.model)
            store.require_unchanged(case_name(summary.provenance), base)

    async def page(self, request: Request) -> Response:
        """The page for people, which asks for all else by itself."""
        name = request.path_params.get("name", "index.html")
        kind = PAGE.get(name)
        if kind is None:
            raise MissingError("there is no such page")
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        }
        return FileResponse(Path(__file__).parent / "page" / name, media_type=kind, headers=headers)

    async def login(self, request: Request) -> Response:
        """A cookie for who knows the token, so that the page need not keep it."""
        token = (await request.body()).decode("utf-8", "replace")
        if not self.options.token or not hmac.compare_digest(token.encode(), self.options.token.encode()):
            return JSONResponse({"fault": "this is not the token"}, 401)
        answer = Response(status_code=204)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    async def models(self, _: Request) -> Response:
        """What the models are."""
        return JSONResponse([{"name": name} for name in self.options.models])

    async def health(self, _: Request) -> Response:
        """Whether the service lives."""
        told = {"status": "ok", "version": __version__, "waiting": self.book.under_way}
        return JSONResponse({**told, "dicom": find_spec("highdicom") is not None})

    async def metrics(self, _: Request) -> Response:
        """Counts and times, as OpenMetrics."""
        return PlainTextResponse(measures.text(self.book, self.crew), media_type=measures.MEDIA_TYPE)


def settings_of(kind: str, query: Mapping[str, str]) -> Any:
    """The settings that a query states.

    Raises:
        UsageError: one is unknown, or cannot have that value.
    """
    try:
        return structured(SETTINGS[kind], {name: _value(text) for name, text in query.items()})
    except Misfit as fault:
        raise UsageError(fault.fault, hint=fault.hint) from None


def _value(text: str) -> Any:
    """A word of a query as JSON has it: true, false, numbers; any other is a text.

    >>> _value("true"), _value("1.5"), _value("sform")
    (True, 1.5, 'sform')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def asked_for(request: Request) -> str:
    """What tells a request from others with its key: path, settings, and how much is sent."""
    length = request.headers.get("content-length", "")
    return hexdigest(f"{request.url.path} {sorted(request.query_params.multi_items())} {length}")


def linked(path: Path, target: Path) -> None:
    """The same file under another name: nothing is copied, and either may be removed."""
    if path.is_dir():
        target.mkdir()
        for inner in path.iterdir():
            os.link(inner, target / inner.name)
    else:
        os.link(path, target)


def application(options: ServeOptions) -> tuple[Guard, Crew]:
    """The service, ready for a server, and who works in it."""
    service = Service(options)
    answers = Handlers(service)
    routes = [
        Route("/", answers.page),
        Route("/page/{name}", answers.page),
        Route("/login", answers.login, methods=["POST"]),
        Route("/health", answers.health),
        Route("/metrics", answers.metrics),
        Route("/api/models", answers.models),
        Route("/api/jobs", answers.post_job, methods=["POST"]),
        Route("/api/jobs/{job}", answers.get_job),
        Route("/api/jobs/{job}", answers.delete_job, methods=["DELETE"]),
        Route("/api/jobs/{job}/{kind}", answers.post_drawn, methods=["POST"]),
        Route("/api/jobs/{job}/{what}", answers.get_file),
        *Protocol(service).routes(),
    ]
    handlers: dict[Any, Any] = dict.fromkeys((MedsegError, HTTPException, ClientDisconnect), told)
    handlers[Exception] = bug
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=service.running)
    return Guard(app, options.token, options.most_bytes), service.crew
