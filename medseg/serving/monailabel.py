"""MONAI Label's protocol, so that its clients (3D Slicer's extension) talk to this service unchanged.

Diaz-Pinto et al. 2024, doi:10.1016/j.media.2024.103207; paths, requests and answers are those of version
0.8.5. The datastore is the folder of the corrected cases of the first model. What that server has and this
one has not (digital pathology, roles of users, removal of cases, a DICOMweb server behind it) is answered
with 404 or 405.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medseg import __version__
from medseg.core.digest import hexdigest
from medseg.core.errors import InputError
from medseg.core.software import INTENDED_USE
from medseg.core.specs import to_mapping
from medseg.data.store import TAGS, Store, case_of, require_name
from medseg.io import digest_of, stem_and_suffix
from medseg.model.file import load_model
from medseg.model.spec import ModelSpec
from medseg.prediction.least_sure import sureness
from medseg.segmentation.prediction import summary_path, usable_summary
from medseg.serving.answers import MissingError, described
from medseg.serving.incoming import written
from medseg.serving.job import Incoming, Job
from medseg.serving.job import Request as Wanted
from medseg.serving.monailabel_forms import (
    file_of,
    json_of,
    labels_and_params,
    names_of,
    object_of,
    params_of,
)
from medseg.serving.service import Service
from medseg.serving.settings import AddSettings, KeepSettings, PredictSettings

LONGEST_S = 3600.0
"""That a client waits for labels, whatever the limit of a job."""
STRATEGIES: Mapping[str, str] = {
    "least_sure": "the scan without labels of which the model is least sure, of those that it has seen",
    "first": "the first scan without labels",
}


class Protocol:
    """The handlers.

    Args:
        service: whose jobs do the work.
    """

    def __init__(self, service: Service) -> None:
        self.service, self.trainings = service, service.trainings
        self.model = next(iter(service.options.models))
        self.store = Store(service.options.cases / self.model)
        self.sessions = service.options.data / "sessions"
        self._specs: dict[str, ModelSpec] = {}

    def routes(self) -> list[Route]:
        """What the clients ask for."""
        return [
            Route("/auth/", self.auth),
            Route("/auth/token", self.token, methods=["POST"]),
            Route("/auth/token/valid", self.token_valid),
            Route("/info/", self.info),
            Route("/datastore/", self.datastore),
            Route("/datastore/", self.put_image, methods=["PUT"]),
            Route("/datastore/image", self.image),
            Route("/datastore/image", self.put_image, methods=["PUT"]),
            Route("/datastore/image/info", self.image_info),
            Route("/datastore/label", self.label),
            Route("/datastore/label", self.put_label, methods=["PUT"]),
            Route("/session/", self.put_session, methods=["PUT"]),
            Route("/session/{session}", self.session, methods=["GET", "DELETE"]),
            Route("/infer/{model}", self.infer, methods=["POST"]),
            Route("/activelearning/{strategy}", self.next_sample, methods=["POST"]),
            Route("/train/{model}", self.start_training, methods=["POST"]),
            Route("/train/", self.training, methods=["GET", "DELETE"]),
        ]

    # Who asks

    async def auth(self, _: Request) -> Response:
        """Whether a token is needed."""
        return JSONResponse({"enabled": bool(self.service.options.token)})

    async def token(self, request: Request) -> Response:
        """The token of who knows it, as the password of any user."""
        async with request.form(max_files=0, max_fields=8) as form:
            password, token = str(form.get("password", "")), self.service.options.token
        if not token or not hmac.compare_digest(password.encode(), token.encode()):
            return JSONResponse({"fault": "the password must be the token of the service"}, 401)
        return JSONResponse({"access_token": token, "token_type": "bearer"})

    async def token_valid(self, _: Request) -> Response:
        """Asked with a token; without, it is refused before."""
        return JSONResponse({})

    # What there is

    async def info(self, _: Request) -> Response:
        """Models, their labels, and the datastore."""
        models = {name: await self._told(name) for name in self.service.options.models}
        labels = dict.fromkeys(label for model in models.values() for label in model["labels"])
        trainers = {self.model: {"description": self.trainings.description, "config": self.trainings.config}}
        return JSONResponse(
            {
                "name": "medseg",
                "description": INTENDED_USE,
                "version": __version__,
                "labels": list(labels),
                "models": models,
                "trainers": trainers if self.trainings.possible else {},
                "strategies": {
                    name: {"description": text, "config": {}} for name, text in STRATEGIES.items()
                },
                "scoring": {},
                "train_stats": {},
                "datastore": self._status(),
                "config": {},
            }
        )

    async def _spec(self, name: str) -> ModelSpec:
        """The description of a model, read once."""
        if name not in self._specs:
            if name not in self.service.options.models:
                offered = ", ".join(self.service.options.models)
                raise MissingError(f"there is no model {name!r}", hint=f"choose from {offered}")
            path = self.service.options.models[name]
            self._specs[name] = (await asyncio.to_thread(load_model, path)).spec
        return self._specs[name]

    async def _told(self, name: str) -> dict[str, Any]:
        """A model as the clients list it."""
        spec = await self._spec(name)
        return {
            "type": "segmentation",
            "labels": {s.name: s.value for s in spec.structures},
            "dimension": 3,
            "description": spec.training.dataset or name,
            "config": {},
        }

    def _status(self) -> dict[str, Any]:
        labels = {tag: len(self.store.labels(tag)) for tag in TAGS}
        return {"total": len(self.store.scans()), "completed": labels["final"], "label_tags": labels}

    async def datastore(self, request: Request) -> Response:
        """How many cases there are; with `output=all` which."""
        output = request.query_params.get("output", "stats")
        if output == "stats":
            return JSONResponse(self._status())
        labels = {tag: self.store.labels(tag) for tag in TAGS}
        scans = self.store.scans()
        if output == "train":
            final = labels["final"]
            pairs = [{"image": scans[c].name, "label": p.name} for c, p in final.items() if c in scans]
            return JSONResponse(pairs)
        objects = {
            case: {
                "image": object_of(scan),
                "labels": {tag: object_of(found[case]) for tag, found in labels.items() if case in found},
            }
            for case, scan in scans.items()
        }
        return JSONResponse({"name": "medseg", "description": self.model, "objects": objects})

    # Scans and labels

    async def put_image(self, request: Request) -> Response:
        """Keep the voxels of a scan in the datastore."""
        async with request.form(max_files=1, max_fields=8) as form:
            sent = file_of(form, "file")
            case = request.query_params.get("image") or case_of(await asyncio.to_thread(_digest, sent))

            async def fill(new: Incoming) -> None:
                written(sent, new.folder)

            settings = AddSettings(require_name(case))
            job = await self._done(Wanted("add", self.model, to_mapping(settings)), fill)
        self.service.book.remove(job)
        return JSONResponse({"image": case})

    def _scan(self, request: Request) -> tuple[str, Path]:
        """The case that a request names, and its scan."""
        case = request.query_params.get("image", "")
        path = self.store.scans().get(case)
        if path is None:
            raise MissingError(f"there is no case {case[:40]!r}", hint="send its scan first")
        return case, path

    async def image(self, request: Request) -> Response:
        """A scan; asked by HEAD with the digest of a copy, whether that is the same."""
        _, path = self._scan(request)
        digest = request.query_params.get("check_sum", "").rpartition(":")[2]
        if digest and digest != digest_of(path):
            raise MissingError("the scan is another one", hint="fetch it again")
        return await _whole(path)

    async def image_info(self, request: Request) -> Response:
        """What is known of a scan."""
        return JSONResponse(self._about(*self._scan(request)))

    def _about(self, case: str, scan: Path) -> dict[str, Any]:
        """A case as the clients are told of it."""
        return {"id": case, "name": scan.name, "checksum": f"SHA256:{digest_of(scan)}"}

    async def label(self, request: Request) -> Response:
        """Labels of a case."""
        query = request.query_params
        case = query.get("label") or query.get("image", "")
        path = self.store.labels(query.get("tag") or "final").get(case)
        if path is None:
            raise MissingError(f"there are no such labels of {case[:40]!r}")
        return await _whole(path)

    async def put_label(self, request: Request) -> Response:
        """Keep labels of a case, their values told by the names that are sent with them."""
        case, _ = self._scan(request)
        tag = request.query_params.get("tag") or "final"
        if tag != "final":
            raise InputError(f"labels with the tag {tag[:40]!r} are not kept", hint="send them as final")
        async with request.form(max_files=1, max_fields=8) as form:
            sent, params = file_of(form, "label"), params_of(form)
            settings = KeepSettings(case, names_of(params))

            async def fill(new: Incoming) -> None:
                written(sent, new.folder, "label")

            job = await self._done(Wanted("keep", self.model, to_mapping(settings)), fill)
        self.service.book.remove(job)
        return JSONResponse({"image": case, "label": case})

    # Work

    async def _done(self, wanted: Wanted, fill: Any) -> Job:
        """A job that has ended well; the fault of another is raised."""
        job = await self.service.queued(wanted, "", fill)
        await self.service.crew.until(job, LONGEST_S)
        if job.state != "done":
            fault = InputError(job.progress.fault or f"the job is {job.state}", hint=job.progress.hint)
            self.service.book.remove(job)
            raise fault
        return job

    async def infer(self, request: Request) -> Response:
        """Labels of a stored scan, of one that a session has, or of one that is sent."""
        model = request.path_params["model"]
        spec = await self._spec(model)
        async with request.form(max_files=2, max_fields=8) as form:
            if form.get("label") is not None:
                raise InputError("scribbles are not taken here", hint="use the page of the service to refine")
            sent, case, source = form.get("file"), "", None
            if not isinstance(sent, UploadFile):
                case, source = self._source(request)

            async def fill(new: Incoming) -> None:
                if isinstance(sent, UploadFile):
                    written(sent, new.folder, "scan")
                elif source is not None:
                    shutil.copyfile(source, new.folder / f"scan{stem_and_suffix(source)[1]}")

            job = await self._done(Wanted("predict", model, to_mapping(PredictSettings())), fill)
        labels, summary = job.image("_seg"), job.file("_seg.json")
        if labels is None or summary is None:
            raise InputError("the model made no labels")
        if case and model == self.model:
            self.store.keep_predicted(case, labels, summary)
        said: dict[str, Any] = {
            "label_names": {s.name: s.value for s in spec.structures},
            "job": described(job),
        }
        verdict = usable_summary(summary)
        if verdict is not None and verdict.is_doubtful and verdict.quality is not None:
            said["doubtful"] = list(verdict.quality.reasons)
        answer = labels_and_params(said, labels, request.query_params.get("output", "all"))
        self.service.book.remove(job)
        return answer

    def _source(self, request: Request) -> tuple[str, Path]:
        """The scan that a request names: of a session, which is no case, or of the datastore."""
        session = request.query_params.get("session_id", "")
        if not session:
            return self._scan(request)
        return "", self._of_session(session)

    # Sessions: scans that are not kept

    def _of_session(self, session: str) -> Path:
        folder = self.sessions / require_name(session)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        if not found:
            raise MissingError("there is no such session", hint="make one with the scan")
        return found[0]

    async def put_session(self, request: Request) -> Response:
        """Take a scan that is not to be kept."""
        self._forget_old()
        async with request.form(max_files=1, max_fields=8) as form:
            session = secrets.token_hex(16)
            written(file_of(form, "files"), self.sessions / session)
        return JSONResponse({"session_id": session})

    def _forget_old(self) -> None:
        """Remove the scans of sessions that began as long ago as results are kept."""
        for folder in self.sessions.glob("[!.]*"):
            with suppress(OSError):  # another request removes it
                if time.time() - folder.stat().st_mtime > self.service.options.keep_s:
                    shutil.rmtree(folder, ignore_errors=True)

    async def session(self, request: Request) -> Response:
        """Whether a session is there; or the end of it."""
        path = self._of_session(request.path_params["session"])
        if request.method == "DELETE":
            shutil.rmtree(path.parent, ignore_errors=True)
            return JSONResponse({})
        return JSONResponse({"session_id": path.parent.name})

    # The next case, and training

    async def next_sample(self, request: Request) -> Response:
        """The scan to label next; nothing where all have labels."""
        strategy = request.path_params["strategy"]
        if strategy not in STRATEGIES:
            raise MissingError(
                f"there is no strategy {strategy!r}", hint=f"choose from {', '.join(STRATEGIES)}"
            )
        scans = self.store.unlabelled()
        cases = self._least_sure(scans) if strategy == "least_sure" else sorted(scans)
        return JSONResponse(self._about(cases[0], scans[cases[0]]) if cases else {})

    def _least_sure(self, scans: Mapping[str, Path]) -> list[str]:
        """The cases by what the model said of them; those that it has not seen come last."""
        seen = {c: usable_summary(summary_path(p)) for c, p in self.store.labels("original").items()}
        known = [sureness(case, summary) for case, summary in seen.items() if summary and case in scans]
        ordered = [row.case for row in sorted(known, key=lambda row: row.order)]
        return [*ordered, *sorted(scans.keys() - set(ordered))]

    async def start_training(self, request: Request) -> Response:
        """Train on the datastore, beside the service."""
        model = request.path_params["model"]
        if model != self.model:
            raise MissingError(f"{model!r} has no datastore here", hint=f"train {self.model}")
        text = await request.body()
        said = json_of(text.decode("utf-8", "replace")) if text else {}
        if not isinstance(said, dict):
            raise InputError("a training takes an object of JSON", hint='send {"minutes": 10}, or nothing')
        own = said.get(model)
        wanted = own if isinstance(own, dict) else said
        started = await self.trainings.start(self.store.folder, self.service.options.models[model], wanted)
        return JSONResponse(started)

    async def training(self, request: Request) -> Response:
        """How the last training is; or the end of it."""
        if request.method == "DELETE":
            await self.trainings.stop()
        told = self.trainings.status()
        only_running = request.query_params.get("check_if_running", "") == "true"
        if told is None or (only_running and told["status"] != "RUNNING"):
            raise MissingError("no training runs")
        return JSONResponse(told)


async def _whole(path: Path) -> Response:
    """A file as it is now, whoever replaces it meanwhile."""
    content = await asyncio.to_thread(path.read_bytes)
    disposition = {"Content-Disposition": f'attachment; filename="{path.name}"'}
    return Response(content, media_type="application/octet-stream", headers=disposition)


def _digest(sent: UploadFile) -> str:
    """Digest of the bytes of a file that was sent."""
    found = hexdigest(sent.file.read())
    sent.file.seek(0)
    return found
