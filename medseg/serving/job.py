"""What a job of a service is: what was asked, how far it is, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.core.errors import InputError
from medseg.core.structuring import structured
from medseg.io.names import names_image, stem_and_suffix

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
REQUEST, BEFORE = "request.json", "before.json"
"""The file that says what a job is to do, and what that of the prediction is called in a correction."""
HALF = ".half-"
"""What the folder of a result is called that is not whole yet."""


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        kind: "predict" a scan, "refine" a segmentation by scribbles, "correct" it by hand; "keep" labels, or
            "add" a scan, that another program sends.
        model: its name, of a prediction.
        settings: of the kind, see `serving.settings`.
        received: seconds since 1970.
        sent: digest of what a client with a key asked for, so that its key stands for nothing else.
    """

    kind: Literal["predict", "refine", "correct", "keep", "add"] = "predict"
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    received: float = 0.0
    sent: str = ""


@dataclass
class Incoming:
    """A job that is being received.

    Attributes:
        id: that it will have.
        folder: for its files.
        request: what is to be done.
    """

    id: str
    folder: Path
    request: Request


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        state: of the job.
        attempts: how often it was begun, but for those that the end of the service cut short.
        ends: how often the service was killed while it ran.
        ended: when it was done, failed or was cancelled, in seconds since 1970.
        fetched: when its result was last fetched.
        fault: why it failed.
        hint: what to do about it.
        exit_code: of the fault, as a command would end.
    """

    state: State = "queued"
    attempts: int = 0
    ends: int = 0
    ended: float | None = None
    fetched: float | None = None
    fault: str | None = None
    hint: str | None = None
    exit_code: int | None = None


@dataclass
class Job:
    """One job.

    Attributes:
        id: 32 hexadecimal digits that nobody can guess.
        folder: where it lies.
        request: what is to be done.
        progress: how far it is.
        step, share: what is being done now and how much of the whole is, from 0 to 1; not kept.
    """

    id: str
    folder: Path
    request: Request
    progress: Progress = Progress()
    step: str = ""
    share: float = 0.0

    @property
    def state(self) -> State:
        return self.progress.state

    @property
    def inputs(self) -> list[Path]:
        """The files that were received, by name."""
        return sorted((self.folder / "input").iterdir())

    @property
    def result(self) -> Path:
        return self.folder / "result"

    @property
    def half(self) -> Path:
        """Where an attempt writes its result, before it is whole."""
        return self.folder / f"{HALF}{self.progress.attempts}"

    def file(self, ending: str) -> Path | None:
        """The file of the result whose name ends so."""
        found = [p for p in sorted(self.result.glob("*")) if p.name.endswith(ending)]
        return found[0] if found else None

    def image(self, ending: str) -> Path | None:
        """The image of the result whose stem ends so, whatever its suffix."""
        found = [p for p in sorted(self.result.glob("*")) if names_image(p)]
        return next((p for p in found if stem_and_suffix(p)[0].endswith(ending)), None)


def stated(kind: Any, path: Path, default: Any = None) -> Any:
    """What a file of a job states.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return structured(kind, json.loads(path.read_text("utf-8")), passing_over=True)
    except FileNotFoundError as fault:
        if default is not None:
            return default
        raise InputError.unreadable(fault, path) from None
    except (OSError, ValueError) as fault:
        raise InputError(
            f"is not of a job of medseg ({fault})", source=path, hint="remove the job's folder"
        ) from None
