"""Trainings that somebody starts beside a service: one at a time, and none replaces a model by itself."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medseg.core.errors import UsageError
from medseg.core.extras import missing
from medseg.serving.jobs import FullError

PROGRAM = (sys.executable, "-m", "medseg.serving.trainer")
MINUTES = 10.0
"""Of a training that nobody gives another length."""
LONGEST_MINUTES = 24 * 60.0
LAST_LINES = 20
"""Of what a training said, that a client is told."""


class Trainings:
    """Starts and stops trainings, each in a folder of its own.

    Args:
        folder: of them.
        threads: of the processor; 0 takes what there is.
    """

    description = "trains the model on the corrected cases; compare the two before one replaces the other"

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self._process: Process | None = None
        self._run: Path | None = None
        self._began = 0.0
        self._stopped = False

    @property
    def possible(self) -> bool:
        """Whether what trains is installed."""
        return find_spec("torch") is not None

    @property
    def config(self) -> dict[str, float]:
        """What a client may choose."""
        return {"minutes": MINUTES}

    async def start(self, data: Path, model: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Train a model on a folder of cases.

        Args:
            data: the cases.
            model: file whose weights are where it begins.
            wanted: choices of `config`; others are passed over.

        Raises:
            FullError: a training runs.
            UsageError: a choice is none.
            MissingPackageError: what trains is not installed.
        """
        if not self.possible:
            raise missing("torch")
        if self._process is not None and self._process.returncode is None:
            raise FullError("a training runs", hint="wait for its end, or stop it")
        run = self.folder / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        order = {
            "data": str(data),
            "output": str(run / "run"),
            "init": model,
            "time_budget_s": 60 * _minutes(wanted.get("minutes", MINUTES)),
            "threads": self.threads,
        }
        run.mkdir(parents=True)
        with (run / "log.txt").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *PROGRAM, json.dumps(order), stdin=DEVNULL, stdout=log, stderr=DEVNULL
            )
        self._run, self._began, self._stopped = run, time.time(), False
        return self.status() or {}

    def status(self) -> dict[str, Any] | None:
        """How the last training is, as MONAI Label states it; None where there was none."""
        if self._process is None or self._run is None:
            return None
        code = self._process.returncode
        state = (
            "RUNNING" if code is None else "DONE" if code == 0 else "CANCELED" if self._stopped else "ERROR"
        )
        lines = (self._run / "log.txt").read_text("utf-8", "replace").splitlines()
        return {
            "id": self._run.name,
            "status": state,
            "start_ts": int(self._began),
            "exit_code": code,
            "details": lines[-LAST_LINES:],
        }

    async def stop(self) -> None:
        """End the training that runs, if there is one."""
        if self._process is not None and self._process.returncode is None:
            self._stopped = True
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def _minutes(value: Any) -> float:
    """The length of a training.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, int | float) and 0 < value <= LONGEST_MINUTES:
        return float(value)
    raise UsageError(f"minutes must be a number above 0 and at most {LONGEST_MINUTES:g}, not {value!r}")
