"""Which file names are images, and what is left of a name without its suffix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medseg.errors import InputError, MedsegError

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".mha", ".mhd", ".nrrd")
NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img")


def stem_and_suffix(path: str | Path) -> tuple[str, str]:
    """The file name without its image suffix, and that suffix in lower case.

    >>> stem_and_suffix("a/scan.1.nii.gz")
    ('scan.1', '.nii.gz')
    >>> stem_and_suffix("notes.TXT")
    ('notes', '.txt')
    """
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return Path(path).stem, Path(path).suffix.lower()


def require_file(path: Path) -> None:
    """Refuse what is missing, a folder, a device or empty.

    Raises:
        InputError: there is nothing to read at `path`.
    """
    try:
        if not path.exists():
            raise InputError("there is no such file", source=path, mend="check the path")
        if path.is_dir():
            raise InputError("this is a folder, not an image file", source=path, mend="name a file in it")
        if not path.is_file():
            raise InputError("this is not a regular file", source=path, mend="copy it to a file first")
        if path.stat().st_size == 0:
            raise InputError("the file is empty", source=path, mend="copy it again")
    except (OSError, ValueError) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError("the file cannot be opened", source=path, mend="check its path and rights") from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading bytes.

    Raises:
        InputError: it may not or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as fault:
        if isinstance(fault, MedsegError):
            raise
        raise InputError(
            "the file cannot be read", source=path, mend="check its rights and its disk"
        ) from fault


def partner(path: Path, suffix: str) -> Path:
    """The other file of a pair: same folder and stem, `suffix` in the letter case of `path`'s own."""
    own = path.suffix
    return path.with_suffix(suffix.upper() if own.isupper() else suffix)
