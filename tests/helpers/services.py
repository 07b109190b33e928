"""A service in a process of its own, and a client that speaks HTTP to it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-c", "from medseg.cli.main import main; main()", "serve", "--port", "0")
STARTED = re.compile(r"listening to http://[^:]+:(\d+)")
BOUNDARY = "a-boundary-of-the-tests"


@dataclass
class Answer:
    """What a service said."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """`medseg serve` with a folder of its own; it may be killed, and started again."""

    data: Path
    models: list[Path]
    more: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    port: int = 0

    def start(self) -> Service:
        words = [word for model in self.models for word in ("--models", str(model))]
        self.process = subprocess.Popen(
            [*PROGRAM, "--data", str(self.data), "--host", self.host, "--threads", "1", *words, *self.more],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := STARTED.search(line):
                self.port = int(found[1])
                return self
        raise AssertionError(f"the service did not start: {''.join(said)}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> float:
        """End it as a system does; the seconds that it took."""
        assert self.process is not None
        since = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=10)
        took = time.monotonic() - since
        self._ended()
        return took

    def _ended(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.wait()
        self.process.stderr.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request(method, path, body, {**self.headers, **(headers or {})})
            answer = link.getresponse()
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            link.close()

    def send(self, scan: Path, query: str = "", **headers: str) -> Answer:
        path = f"/api/jobs?name={scan.name}{query and '&' + query}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, scan.read_bytes(), named)

    def ended(self, job_id: str, seconds: float = 60.0) -> Any:
        """Wait for the end of a job."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            said = self.ask("GET", f"/api/jobs/{job_id}?wait=5").json()
            if said["state"] not in ("queued", "running"):
                return said
        raise AssertionError(f"{job_id} did not end: {said}")


def form(
    files: Mapping[str, tuple[str, bytes]] | list[tuple[str, str, bytes]],
) -> tuple[bytes, dict[str, str]]:
    """Files as the parts of a form, with its headers."""
    parts = files if isinstance(files, list) else [(key, *value) for key, value in files.items()]
    body = b""
    for key, name, data in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"; filename="{name}"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }
