"""What the answers of a service say: jobs, the files of their results, faults."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from medseg.core.errors import MedsegError, possible
from medseg.data.store import ChangedError
from medseg.serving.job import Job
from medseg.serving.jobs import FullError
from medseg.serving.settings import PredictSettings

LOG = logging.getLogger("medseg")
FILES: Mapping[str, tuple[str, str]] = {
    "labels": ("_seg", ""),
    "instances": ("_inst", ""),
    "summary": ("_seg.json", "application/json"),
    "report": ("_report.html", "text/html"),
    "dicom-seg": ("_seg.dcm", "application/dicom"),
    "dicom-sr": ("_sr.dcm", "application/dicom"),
    "rtstruct": ("_rtstruct.dcm", "application/dicom"),
    "pdf": ("_report.dcm", "application/dicom"),
    "changes": ("changes.json", "application/json"),
    "view": ("view.json", "application/json"),
    "view-image": ("image.gz", "application/octet-stream"),
    "view-labels": ("labels.gz", "application/octet-stream"),
    "kept": ("kept.json", "application/json"),
    "view-kept": ("kept.gz", "application/octet-stream"),
}
"""What of a result is fetched: how its name ends, and its type; of no type, an image, whatever its suffix."""
OPTIONS = {f"--{f.name.replace('_', '-')}": f.name for f in fields(PredictSettings)}
"""Options of a command that are settings of a job, and what they are called there."""
STATUS = {2: 400, 3: 422, 4: 422, 5: 422, 6: 507, 8: 500}
"""Of HTTP, by the exit code that a command would have."""


class MissingError(MedsegError):
    """What a path names is not there."""


def described(job: Job) -> dict[str, Any]:
    """A job as a client sees it."""
    state: dict[str, Any] = {
        "id": job.id,
        "kind": job.request.kind,
        "model": job.request.model,
        "state": job.state,
    }
    if job.state == "running":
        state |= {"step": job.step, "share": job.share}
    if job.state == "done":
        state["files"] = [what for what in FILES if found(job, what)]
    if job.state == "failed":
        progress = job.progress
        state |= {"fault": progress.fault, "hint": hint_of(progress.hint), "exit_code": progress.exit_code}
    return state


def hint_of(hint: str | None) -> str | None:
    """A hint without what only a command line has; what a query can state is called as there."""
    return None if hint is None else possible(hint, OPTIONS)


def found(job: Job, what: str) -> Path | None:
    """A file of a result, if the job has it."""
    ending, kind = FILES[what]
    return job.file(ending) if kind else job.image(ending)


async def told(request: Request, fault: Exception) -> Response:
    """A fault as an answer."""
    if isinstance(fault, HTTPException):
        return JSONResponse({"fault": fault.detail}, fault.status_code, fault.headers)
    if isinstance(fault, FullError):
        return JSONResponse({"fault": fault.fault, "hint": hint_of(fault.hint)}, 503, {"Retry-After": "5"})
    if isinstance(fault, ChangedError):
        return JSONResponse({"fault": fault.fault, "hint": hint_of(fault.hint)}, 409)
    if isinstance(fault, MissingError):
        return JSONResponse({"fault": fault.fault, "hint": hint_of(fault.hint)}, 404)
    if isinstance(fault, MedsegError):
        return JSONResponse(
            {"fault": fault.fault, "hint": hint_of(fault.hint)}, STATUS.get(fault.exit_code, 500)
        )
    return Response(status_code=499)  # the client hung up


async def bug(_: Request, fault: Exception) -> Response:
    """An answer to what only a bug raises; the log has its place, and no value, which may name a patient."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames[-4:]))
    LOG.error("a bug in medseg: %s at %s", type(fault).__name__, where)
    return JSONResponse(
        {"fault": "a bug in medseg", "hint": "its place is in the log: please report it"}, 500
    )
