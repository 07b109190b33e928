"""What MONAI Label's clients send in forms, and the form that they are answered with."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, Response

from medseg.core.errors import InputError
from medseg.data.layouts.case import plain
from medseg.io import stem_and_suffix
from medseg.serving.incoming import suffix_of

MOST, BACKGROUND = 1 << 16, "background"


def object_of(path: Path) -> dict[str, Any]:
    return {"info": {"name": path.name}, "ext": stem_and_suffix(path)[1]}


def file_of(form: FormData, name: str) -> UploadFile:
    sent = form.get(name)
    if not isinstance(sent, UploadFile):
        raise InputError(f"the part {name} is missing", hint="send a file in it")
    suffix_of(sent.filename or "")
    return sent


def json_of(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as fault:
        raise InputError(f"what was sent is not JSON ({fault})") from None


def params_of(form: FormData) -> Mapping[str, Any]:
    said = json_of(str(form.get("params") or "{}"))
    return said if isinstance(said, dict) else {}


def names_of(params: Mapping[str, Any]) -> dict[str, int]:
    """Values of labels by name, as clients state them; nothing where they do not.

    >>> names_of({"label_info": [{"name": "liver", "idx": 2, "color": "red"}]})
    {'liver': 2}

    Raises:
        InputError: they state them in another form.
    """
    try:
        pairs = [(str(entry["name"]), entry["idx"]) for entry in params.get("label_info") or ()]
        named = {name: value for name, value in pairs if isinstance(value, int) and 0 < value < MOST}
        background = sum(value == 0 and plain(name) == BACKGROUND for name, value in pairs)
    except (TypeError, KeyError, AttributeError):
        raise InputError("label_info is not a list of names and values", hint="send name and idx") from None
    if len(named) + background < len(pairs) or len(set(named.values())) < len(named):
        raise InputError(
            "label_info has a name or a value twice, or values that are not whole numbers from 1 to 65535",
            hint="send each name and each value once",
        )
    return named


def labels_and_params(said: Mapping[str, Any], labels: Path, output: str) -> Response:
    """Labels, what is said of them, or both as the parts of a form."""
    if output == "json":
        return JSONResponse(said)
    content = labels.read_bytes()
    if output == "image":
        disposition = {"Content-Disposition": f'attachment; filename="{labels.name}"'}
        return Response(content, media_type="application/octet-stream", headers=disposition)
    boundary = secrets.token_hex(16)
    parts = (
        ('name="params"', "application/json", json.dumps(said).encode()),
        (f'name="image"; filename="{labels.name}"', "application/octet-stream", content),
    )
    lines = (
        f"--{boundary}\r\nContent-Disposition: form-data; {named}\r\nContent-Type: {kind}\r\n\r\n".encode()
        + data
        + b"\r\n"
        for named, kind, data in parts
    )
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return Response(body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
