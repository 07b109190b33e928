"""Cache of compiled OpenVINO graphs in a user folder; safe to delete, shared by processes.

A name is the hash of all that a compiled graph depends on, and a file is whole or absent, so two processes
that write one write the same. A file that was cut or changed on the disk is not taken.
"""

from __future__ import annotations

import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path

from medseg.core.digest import hexdigest
from medseg.core.errors import MedsegError
from medseg.io.atomic import atomic_write

FOLDER_VARIABLE = "MEDSEG_CACHE"
"""Environment variable: the folder to use instead of the user's own; empty for none."""

SUFFIX = ".openvino"
KEPT = 24
"""Compiled graphs kept, some megabytes each; the ones not used for longest are removed."""

CHECK_BYTES = 4


def folder() -> Path | None:
    """Where compiled graphs are kept; None where they are not to be."""
    if (named := os.environ.get(FOLDER_VARIABLE)) is not None:
        return Path(named) if named else None
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "medseg"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base) / "medseg" / "cache" if base else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "medseg"


def key(*facts: object) -> str:
    """Name of what depends on the facts and on nothing else."""
    return hexdigest("\n".join(map(str, facts)))


def read(name: str) -> bytes | None:
    """What was kept under a name; None where there is nothing, or nothing whole."""
    place = folder()
    if place is None:
        return None
    path = place / (name + SUFFIX)
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    check, blob = content[:CHECK_BYTES], content[CHECK_BYTES:]
    return blob if check == _check(blob) else None


def keep(name: str, blob: bytes) -> None:
    """Keep a compiled graph, if the folder can be written to; otherwise nothing happens."""
    place = folder()
    if place is None:
        return
    with suppress(OSError, MedsegError):
        place.mkdir(parents=True, exist_ok=True)
        with atomic_write(place / (name + SUFFIX), overwrite=True) as path:
            path.write_bytes(_check(blob) + blob)
        for old in sorted(place.glob("*" + SUFFIX), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def _check(blob: bytes) -> bytes:
    return zlib.crc32(blob).to_bytes(CHECK_BYTES, "little")
