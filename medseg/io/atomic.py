"""Files that are whole or absent: written beside the target, synced, then renamed onto it."""

from __future__ import annotations

import errno
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from medseg.core.digest import hexdigest
from medseg.core.errors import ResourceError, UsageError
from medseg.io.names import stem_and_suffix

PREFIX = ".medseg-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def refuse_existing(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a target that is an input, always, or that exists, unless it may be replaced.

    Raises:
        UsageError: exit 2, nothing is changed.
    """
    for other in inputs:
        with suppress(OSError):
            if path.resolve() == other.resolve() or (path.exists() and path.samefile(other)):
                raise UsageError("the output would replace an input", source=path, hint="choose another name")
    if path.is_dir():
        raise UsageError("the output is a folder", source=path, hint="name a file")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise UsageError("the output exists already", source=path, hint="add --overwrite to replace it")


@contextmanager
def atomic_write(path: Path, overwrite: bool = False, *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A temporary file beside `path`, with its suffix, that becomes `path` when the block succeeds.

    The old file stays whole until the new one is whole on disk. When the block raises, whatever it
    raises, the temporary file is removed and the target is untouched.

    Args:
        path: the target; its folder must exist.
        overwrite: whether an existing target may be replaced.
        inputs: files that are never replaced.

    Raises:
        UsageError: the target exists, is an input, or its folder does not exist.
        ResourceError: the disk is full or may not be written to.
    """
    path = Path(path)
    refuse_existing(path, overwrite, inputs)
    with _faults_named(path):
        temporary = path.with_name(_temporary_name(path))
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            sync(temporary)
            refuse_existing(path, overwrite)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


@contextmanager
def atomic_files(
    targets: Sequence[Path], overwrite: bool = False, *, inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """A temporary folder beside the targets; the block writes a file of each target's name into it.

    The last target is the one that makes the others readable (the header of a pair). Where it is
    replaced, the old one is removed first: a crash in between leaves no image, never a mixed one.

    Raises:
        UsageError: as `atomic_write`.
        ResourceError: as `atomic_write`.
    """
    inputs = tuple(inputs)
    for target in targets:
        refuse_existing(target, overwrite, inputs)
    last = targets[-1]
    with _faults_named(last):
        folder = last.with_name(_temporary_name(last))
        try:
            folder.mkdir()
            yield folder
            for target in targets:
                sync(folder / target.name)
                refuse_existing(target, overwrite)
            last.unlink(missing_ok=True)
            for target in targets:
                os.replace(folder / target.name, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sync_folder(last.parent)


def write_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write UTF-8 text, whole or not at all; the same bytes on every system.

    Raises:
        UsageError: as `atomic_write`.
        ResourceError: as `atomic_write`.
    """
    with atomic_write(path, overwrite) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def sync(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise UsageError("the output's folder does not exist", source=path, hint="create it first")
    _sweep(path.parent.absolute())
    try:
        yield
    except ResourceError:
        raise
    except OSError as fault:
        if fault.errno in NO_ROOM:
            raise ResourceError("the disk is full", source=path, hint="free disk space") from fault
        if fault.errno in NO_RIGHT:
            hint = "choose a folder with write permission"
            raise ResourceError(
                "the file cannot be written: permission denied", source=path, hint=hint
            ) from fault
        raise


def _here() -> str:
    return hexdigest(platform.node())[:8]


def _temporary_name(path: Path) -> str:
    suffix = stem_and_suffix(path)[1]
    return f"{PREFIX}{_here()}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"


@lru_cache(maxsize=256)
def _sweep(folder: Path) -> None:
    """Remove what a killed process of this machine left in `folder`; once, as a batch fills it with files."""
    with suppress(OSError):
        for left in folder.glob(f"{PREFIX}{_here()}-*"):
            pid = left.name.removeprefix(f"{PREFIX}{_here()}-").split("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_writable(path: Path) -> None:
    """Refuse a target that cannot be written, before any computation.

    Raises:
        UsageError: a part of the path is a file.
        ResourceError: the folder, or the one it would be made in, may not be written to.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError("is a file, not a folder", source=folder, hint="give another -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(
            "the folder cannot be written to: permission denied", source=folder, hint="give another -o"
        )
