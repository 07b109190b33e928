"""The command line, run in this process or in one of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.cli import main as cli

PROGRAM = """
import json, os, socket, sys
from pathlib import Path
from medseg.cli.main import main

log = Path(os.environ["TEST_LOG"])

def refuse(*_, **__):
    with log.with_suffix(".net").open("a") as lines:
        lines.write("connect\\n")
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
try:
    main(sys.argv[1:])
finally:
    log.write_text(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        """The one JSON value on stdout; `NaN` and `Infinity` are none."""
        return json.loads(self.out, parse_constant=_no_constant)


def medseg(*words: object) -> Ran:
    """Run `medseg WORDS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    finally:
        signal.signal(signal.SIGTERM, before)
    return Ran(int(str(code or 0)), out.getvalue(), err.getvalue())


def done(*words: object) -> Ran:
    """Run what must succeed."""
    ran = medseg(*words)
    assert ran.code == 0, ran.err
    return ran


def refused(code: int, *words: object) -> str:
    """Run what must fail with `code`: one line on stderr, nothing on stdout. Returns the line."""
    ran = medseg(*words)
    assert (ran.code, ran.out) == (code, ""), (ran.code, ran.out, ran.err)
    (line,) = ran.err.splitlines()
    assert line.startswith("medseg: error: "), line
    return line


@dataclass(frozen=True)
class Apart:
    """What a command line in a process of its own came to."""

    ran: Ran
    modules: frozenset[str]
    connected: bool


def apart(folder: Path, *words: object, environment: Mapping[str, str] | None = None) -> Apart:
    """Run `medseg WORDS` in a fresh process without a network; `folder` takes its log and its home."""
    log, home = folder / "modules.json", folder / "home"
    home.mkdir(exist_ok=True)
    env = {**os.environ, "TEST_LOG": str(log), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    env |= {"XDG_CACHE_HOME": str(Path.home() / ".cache"), "XDG_CONFIG_HOME": str(Path.home() / ".config")}
    env |= environment or {}
    env.pop("CI", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert log.exists(), done.stderr
    modules = frozenset(json.loads(log.read_text()))
    log.unlink()
    return Apart(Ran(done.returncode, done.stdout, done.stderr), modules, log.with_suffix(".net").exists())


def tree(*folders: Path) -> dict[str, tuple[int, str]]:
    """Every path below the folders, with the time and the hash of its content."""
    return {str(p): (p.stat().st_mtime_ns, _hash(p)) for folder in folders for p in sorted(folder.rglob("*"))}


def names(folder: Path) -> set[str]:
    """The names in a folder."""
    return {path.name for path in folder.iterdir()}


def everything(folders: Iterable[Path]) -> bytes:
    """All bytes of all files below the folders, and their names."""
    parts = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            parts.append(path.name.encode())
            if path.is_file():
                parts.append(_unpacked(path))
    return b"\n".join(parts)


def _unpacked(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _no_constant(name: str) -> object:
    raise AssertionError(f"{name} is not JSON")
