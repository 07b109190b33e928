"""Files that clients send, untrusted bytes: under names of our own, within limits, whole or not at all."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from medseg.core.errors import InputError, ResourceError
from medseg.io.atomic import NO_ROOM
from medseg.io.names import format_of, stem_and_suffix

MOST_FILES = 20_000
"""Of a DICOM series."""
CHUNK = 1 << 20
ZIP = ".zip"
DRAWN = {"refine": ("start", "scribbles"), "correct": ("labels",)}
"""The parts of a form that a correction takes, by its kind."""


async def receive_scan(request: Request, folder: Path, most_bytes: int) -> tuple[str, ...]:
    """Write what a request sends into a folder, as one scan.

    The body is the bytes of one file, whose suffix the parameter `name` says, or a form: one file as it is,
    several under one name as slices of a DICOM series, files under different names as channels. A ZIP is
    taken apart as a DICOM series.

    Args:
        request: with the body.
        folder: for the files.
        most_bytes: that they may hold unpacked.

    Returns:
        The names of the channels; none of one file or a series.

    Raises:
        InputError: what was sent is no scan by its names.
        ResourceError: the disk is full.
    """
    with full_disk_told():
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            return await _form(request, folder, most_bytes)
        path = folder / f"scan{suffix_of(request.query_params.get('name', ''))}"
        await write_body(request, path)
        if path.suffix == ZIP:
            _unzipped(path, folder / "scan", most_bytes)
        return ()


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Tell a client that the disk is full.

    Raises:
        ResourceError: it is.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno in NO_ROOM:
            raise ResourceError("the disk of the service is full", hint="try again later") from None
        raise


async def receive_drawn(request: Request, folder: Path, parts: Sequence[str]) -> None:
    """Write the parts of a form into files called after them, packed by gzip as they are.

    Raises:
        InputError: one is missing.
    """
    async with request.form(max_files=8, max_fields=8) as form:
        sent = {key: value for key, value in form.multi_items() if isinstance(value, UploadFile)}
        if missing := [part for part in parts if part not in sent]:
            raise InputError(
                f"the part {missing[0]} is missing", hint=f"send {' and '.join(parts)} in a form"
            )
        files = {part: sent[part] for part in parts}
        for key, file in files.items():
            _copy(file.file, folder / f"{key}.gz")


async def write_body(request: Request, path: Path) -> None:
    """Write the body of a request into a file.

    Raises:
        InputError: it is empty.
    """
    with path.open("xb") as handle:
        async for chunk in request.stream():
            handle.write(chunk)
    if not path.stat().st_size:
        raise InputError("nothing was sent", hint="send the bytes of a scan")


def written(sent: UploadFile, folder: Path, stem: str = "scan") -> Path:
    """Write one file of a form into a folder, under a name of our own.

    Raises:
        InputError: it is no image by its name.
        ResourceError: the disk is full.
    """
    path = folder / f"{stem}{suffix_of(sent.filename or '')}"
    if path.suffix == ZIP:
        raise InputError("a ZIP cannot be taken here", hint="send a NIfTI, NRRD or MetaImage file")
    with full_disk_told():
        folder.mkdir(parents=True, exist_ok=True)
        _copy(sent.file, path)
    return path


def suffix_of(name: str) -> str:
    """The suffix that a client's name for a file has; nothing else of it is used.

    Raises:
        InputError: it is not of a format that is read.
    """
    plain = Path(name.replace("\\", "/")).name
    suffix = stem_and_suffix(plain)[1] if format_of(plain).is_image else ""
    if plain.lower().endswith(ZIP):
        return ZIP
    if not suffix:
        raise InputError(
            "the file's name does not say its format",
            hint="send its name too, as name=scan.nii.gz or in a form",
        )
    return suffix


async def _form(request: Request, folder: Path, most_bytes: int) -> tuple[str, ...]:
    async with request.form(max_files=MOST_FILES, max_fields=64) as form:
        files = [(key, value) for key, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise InputError("nothing was sent", hint="send a file, or the files of a DICOM series")
        keys = list(dict.fromkeys(key for key, _ in files))
        if len(keys) == 1 and len(files) > 1:
            (folder / "scan").mkdir()
            for number, (_, file) in enumerate(files):
                _copy(file.file, folder / "scan" / f"{number:05}.dcm")
            return ()
        if len(keys) < len(files):
            raise InputError("two files have one channel's name", hint="give each channel its own name")
        if len(files) == 1:
            path = folder / f"scan{suffix_of(files[0][1].filename or '')}"
            _copy(files[0][1].file, path)
            if path.suffix == ZIP:
                _unzipped(path, folder / "scan", most_bytes)
            return ()
        for number, (_, file) in enumerate(files):
            _copy(file.file, folder / f"channel{number}{suffix_of(file.filename or '')}")
        return tuple(keys)


def _copy(source: Any, path: Path) -> None:
    with path.open("xb") as handle:
        shutil.copyfileobj(source, handle, CHUNK)


def _unzipped(path: Path, folder: Path, most_bytes: int) -> None:
    """Take the files of a ZIP as slices, under numbers; no name in it becomes a path.

    Raises:
        InputError: it cannot be read, or holds too many files or bytes, whatever it says of their size.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            members = [m for m in packed.infolist() if not m.is_dir()]
            if len(members) > MOST_FILES:
                raise InputError(f"the ZIP holds {len(members)} files, and {MOST_FILES} is the most")
            folder.mkdir()
            left = most_bytes
            for number, member in enumerate(members):
                with packed.open(member) as source, (folder / f"{number:05}.dcm").open("xb") as handle:
                    while chunk := source.read(min(CHUNK, left + 1)):
                        left -= len(chunk)
                        if left < 0:
                            raise InputError(f"the ZIP holds more than {most_bytes} bytes unpacked")
                        handle.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as fault:
        raise InputError(
            f"the ZIP cannot be read ({type(fault).__name__})", hint="pack the series again"
        ) from None
    finally:
        path.unlink(missing_ok=True)
